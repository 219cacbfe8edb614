"""`released_claims`: what authors print for released checkpoints, as claims that an evaluation alone decides."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

from maskris.data.published_counts import published_sizes
from maskris.experiments.claims import Claim, load_claims
from maskris.models.weights.options import Kind
from maskris.models.weights.released import released_models

ALL = "all"
"""In place of names: every released checkpoint that can be measured with the data."""

_NOTE = "Read from a page that names the file; not held against the file itself."


def released_claims() -> list[Claim]:
    """One claim for each number in the index of released checkpoints, in its order."""
    claims = []
    for name, model in released_models().items():
        for result in model.results:
            sizes = {
                split: size.expressions for split, size in published_sizes(result.dataset, result.split_by).items()
            }
            for split, value in result.values.items():
                claim = Claim(
                    method=model.title,
                    dataset=result.dataset,
                    split_by=result.split_by,
                    split=split,
                    metric=result.metric,
                    value=float(value),
                    protocol=model.protocol,
                    recipe=None,
                    source=model.page,
                    uncertain=(_NOTE,),
                    expressions=sizes.get(split),
                    text=model.text,
                    released=name,
                )
                claims.append(claim)
    return claims


def not_runnable(claim: Claim) -> str | None:
    """Why a claim about a released checkpoint can't be measured here, whatever the data; ``None`` if it can."""
    network = released_models()[str(claim.released)].network
    if network not in get_args(Kind):
        return f"maskris has no network {network}"
    return "its protocol is not known" if claim.protocol is None else None


def choose_released(
    names: Sequence[str], dataset: str | None = None, claims: str | Path | None = None
) -> dict[str, list[Claim]]:
    """The claims to measure, by the checkpoint that they are about.

    Args:
        names: Of released checkpoints, or `ALL` alone for those whose network is here.
        dataset: Only claims about this data set.
        claims: A YAML file whose claims name released checkpoints; by default those of `released_claims`.

    Raises:
        ClaimError: If the file can't be read.
        ValueError: If there is no such checkpoint, or no claim about it.
    """
    every = list(names) == [ALL]
    index = released_models()
    if unknown := [name for name in names if name not in index and not every]:
        close = get_close_matches(unknown[0], index, n=3)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else "`maskris reproduce --list --released all` lists them"
        )
        raise ValueError(f"There is no released checkpoint {unknown[0]!r}; {hint}")
    chosen: dict[str, list[Claim]] = {}
    for claim in released_claims() if claims is None else load_claims(claims):
        name = claim.released
        if name and dataset in (None, claim.dataset) and (not_runnable(claim) is None if every else name in names):
            chosen.setdefault(name, []).append(claim)
    if missing := [name for name in names if name not in chosen and not every]:
        about = f" about {dataset}" if dataset else ""
        raise ValueError(
            f"No published number{about} is known for {missing[0]}; `maskris evaluate` measures it without one"
        )
    if not chosen:
        raise ValueError(f"There is no claim of a released checkpoint about {dataset or 'anything'}")
    return chosen if every else {name: chosen[name] for name in names}
