"""`judge` and `judge_released`: whether a measurement verifies a claim, and why not; findings as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc
import yaml

from maskris.data.combine import joined_referents
from maskris.data.preprocess import Preprocess
from maskris.data.published_counts import published_sizes
from maskris.data.table import ReferringTable
from maskris.evaluation.bootstrap import Interval
from maskris.evaluation.result import Evaluation
from maskris.experiments.claims import Claim
from maskris.experiments.recipe import Recipe, Splits
from maskris.models.base import RISModel
from maskris.models.weights.released_files import released_origin
from maskris.training.run_record import recipe_of

Verdict = Literal["verified", "not verified", "reproduced", "differs", "not comparable", "not run", "not runnable"]

TOLERANCE = 0.005
"""In percentage points: a claim is printed with two decimals, so a value that rounds to it reaches it."""

RELEASED_TOLERANCE = 0.1
"""In percentage points: how far a number of the same weights may lie from the printed one. Rounding explains 0.005; the
rest is half precision, decoders of JPEG and implementations of resizing, which move single pixels and single hits (one
of RefCOCO's val is 0.009)."""


@dataclass(frozen=True)
class Finding:
    """A claim beside what was measured. All numbers in per cent.

    Attributes:
        claim: The claim.
        verdict: ``"verified"`` or ``"not verified"`` (`judge`); ``"reproduced"``, ``"differs"`` or
            ``"not comparable"`` (`judge_released`); ``"not run"`` or ``"not runnable"``.
        reasons: Why it is none of ``"verified"`` and ``"reproduced"``, each in a few words.
        measured: What came out; ``None`` if nothing was run.
        low: Lower end of its interval.
        high: Upper end.
        expressions: How many were evaluated.
    """

    claim: Claim
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    expressions: int = 0

    @property
    def difference(self) -> float | None:
        """Measured - claimed, in percentage points."""
        return None if self.measured is None else self.measured - self.claim.value

    def __str__(self) -> str:
        """The verdict with its reasons."""
        return f"{self.verdict}: {'; '.join(self.reasons)}" if self.reasons else self.verdict

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        values = {key: value for key, value in vars(self).items() if key != "claim"}
        return {"claim": asdict(self.claim), "difference": self.difference, **values}


def judge(claim: Claim, evaluation: Evaluation, interval: Interval, doubts: Sequence[str] = ()) -> Finding:
    """Hold a measurement against a claim.

    A claim is verified if its value lies within the interval, or the measured value reaches it (`TOLERANCE`); if every
    expression of the published split was evaluated, and no other; and if nothing else speaks against it.

    Args:
        claim: The claim.
        evaluation: Of the claim's split alone, under its protocol.
        interval: Of the claim's metric in it.
        doubts: What else makes this another measurement than the claim's, for example other settings.
    """
    finding = _compare(claim, evaluation, interval, doubts)
    against, measured = [*finding.reasons], finding.measured
    if measured is not None and measured < claim.value - TOLERANCE and not interval.contains(claim.value / 100):
        against.append("the claim is above the interval")
    return replace(finding, verdict="not verified" if against else "verified", reasons=tuple(against))


def judge_released(claim: Claim, evaluation: Evaluation, interval: Interval, doubts: Sequence[str] = ()) -> Finding:
    """Hold a measurement with released weights against what their authors print for them.

    The same weights give the same number, so the interval decides nothing: the claim is reproduced if the numbers are
    at most `RELEASED_TOLERANCE` apart, else it differs. Other data than the claim's make it not comparable.

    Args:
        claim: The claim.
        evaluation: Of the claim's split alone, under its protocol.
        interval: Of the claim's metric in it.
        doubts: What else makes this another measurement than the claim's.
    """
    finding = _compare(claim, evaluation, interval, doubts)
    if finding.reasons or finding.difference is None:
        return replace(finding, verdict="not comparable")
    if abs(finding.difference) <= RELEASED_TOLERANCE + 1e-9:  # decimals are no binary numbers
        return replace(finding, verdict="reproduced")
    return replace(finding, verdict="differs", reasons=(f"by more than {RELEASED_TOLERANCE} points",))


def _compare(claim: Claim, evaluation: Evaluation, interval: Interval, doubts: Sequence[str]) -> Finding:
    """The numbers, and all that makes them those of something else; without a verdict yet."""
    against = [reason for reason in (_other_data(claim, evaluation), *doubts) if reason]
    measured, low, high = (None if end is None else 100 * end for end in (interval.value, interval.low, interval.high))
    if measured is None:
        against.append("nothing defines the metric")
    return Finding(claim, "not run", tuple(against), measured, low, high, len(evaluation))


def _other_data(claim: Claim, evaluation: Evaluation) -> str | None:
    """What shows that these are not the data of the claim."""
    published = published_sizes(claim.dataset, claim.split_by).get(claim.split)
    wanted = {"expressions": claim.expressions}
    if published is not None and published.expressions == claim.expressions:
        wanted |= {"referents": published.referents, "images": published.images}
    found = {"expressions": len(evaluation)}
    for name, column in {"referents": "ref_id", "images": "image_id"}.items():
        found[name] = pc.count_distinct(evaluation.rows[column]).as_py()
    for name, number in wanted.items():
        if number is not None and found[name] != number:
            return f"other data ({found[name]:,} of {number:,} {name})"
    return None


def reasons(findings: Sequence[Finding]) -> dict[str, list[str]]:
    """Every reason, with the claims that it speaks against, such as ``refcoco unc val oIoU``."""
    against: dict[str, list[str]] = {}
    for finding in findings:
        for reason in finding.reasons:
            against.setdefault(f"{finding.verdict}: {reason}", []).append(finding.claim.name)
    return against


# Training settings that may differ: they are meant to vary, or change how a run computes but not what.
_FREE = ("seed", "precision", "gradient_accumulation_steps")
_SHOWN = 3  # of the settings that differ, those that are named


def recipe_differences(claimed: Recipe, model: RISModel, source: str) -> list[str]:
    """How a model differs from what a recipe makes, a few words for each difference.

    A run folder keeps its recipe, so every setting is compared. Of weights from elsewhere only the class and the input
    can be.

    Args:
        claimed: The recipe of the claims, without overrides.
        model: The model.
        source: Where it was loaded from.
    """
    kept = recipe_of(Path(source))
    if kept is None:
        described = yaml.safe_load(claimed.to_yaml())["model"]
        name = described["class_path"].rpartition(".")[2]
        if type(model).__name__ != name:
            return [f"other model ({type(model).__name__}, not {name})"]
        wanted = Preprocess.from_dict((described.get("init_args") or {}).get("preprocess") or {})
        ours, theirs = ((one.resize, *one.size) for one in (model.preprocess, wanted))
        if ours == theirs:
            return []
        return [f"other input ({ours[1]} x {ours[2]}, {ours[0]}; not {theirs[1]} x {theirs[2]}, {theirs[0]})"]
    claims, found = _settings(claimed), _settings(Recipe(kept))
    changed = [
        f"{key} {_brief(found.get(key))}, not {_brief(claims.get(key))}"
        for key in dict.fromkeys([*claims, *found])
        if claims.get(key) != found.get(key)
    ]
    more = [f"{len(changed) - _SHOWN} more"] if len(changed) > _SHOWN else []
    return [f"other settings ({'; '.join([*changed[:_SHOWN], *more])})"] if changed else []


def weights_differences(claim: Claim, source: str) -> list[str]:
    """Whether a model was made of released weights that are not those of a claim, in a few words."""
    origin = released_origin(source)
    return [] if origin in (None, claim.released) else [f"other weights (the released {origin})"]


def training_data_differences(claims: Sequence[Claim], table: ReferringTable, splits: Splits) -> list[str]:
    """How the training data differ from what is published about them.

    Args:
        claims: All claims of the recipe: their data sets are what it is trained on.
        table: The data at hand.
        splits: Of the recipe.
    """
    sizes: dict[tuple[str, str], int] = {}
    combined: set[tuple[str, ...]] = set()  # of these, images of other splits were left out, so sizes say nothing
    columns = map(table.column, ("dataset", "split_by", "split", "origins", "expressions"))
    for dataset, split_by, split, origins, expressions in zip(*columns, strict=True):
        if split == splits.train and origins:
            combined |= {tuple(one.split()[:2]) for origin in origins for one in origin.split(", ")}
        elif split == splits.train:
            sizes[dataset, split_by] = sizes.get((dataset, split_by), 0) + len(expressions)
    doubts = []
    for dataset, split_by in dict.fromkeys((claim.dataset, claim.split_by) for claim in claims):
        published = published_sizes(dataset, split_by).get(splits.train)
        found = sizes.pop((dataset, split_by), 0)
        wanted = found if published is None or published.expressions is None else published.expressions
        if wanted != found and (dataset, split_by) not in combined:
            doubts.append(f"trained on other data ({found:,} of {wanted:,} expressions of {dataset} {split_by})")
    train = table.take([row for row, split in enumerate(table.column("split")) if split == splits.train])
    if joined := joined_referents(train):
        doubts.append(f"trained on fewer referents, {joined:,} joined to others (prepare without --merge)")
    if "pseudo" in train.column("mask_source"):
        doubts.append(f"trained on masks that nobody annotated{_origins(train)}")
    if splits.text and (texts := sorted(set(train.column("text")) - {"", splits.text})):
        doubts.append(f"trained on other sentences ({' and '.join(texts)}, not {splits.text})")
    others = [f"{dataset} {split_by}".rstrip() for dataset, split_by in sizes]
    return [*doubts, f"trained on {', '.join(others)} too"] if others else doubts


def split_differences(claim: Claim, table: ReferringTable) -> list[str]:
    """What is wrong with the rows of a claim's split, their number aside: masks that a model made, other sentences."""
    doubts = []
    if set(table.column("mask_source")) != {"annotated"}:
        doubts.append(f"masks that nobody annotated{_origins(table)}")
    if (texts := set(table.column("text")) - {""}) and texts != {claim.text}:
        prepared = " and ".join(f"--text {text}" for text in sorted(texts))
        doubts.append(f"the table was prepared with {prepared}, the claim needs --text {claim.text}")
    return doubts


def _origins(table: ReferringTable) -> str:
    """What made the pseudo masks of a table, in brackets."""
    origins = sorted(set(table.column("mask_origin")) - {""})
    return f" ({' and '.join(origins)})" if origins else ""


def _settings(recipe: Recipe) -> dict[str, Any]:
    """The resolved keys of a recipe that make the model what it is, such as ``strategy.image.ratio``."""
    values = yaml.safe_load(recipe.to_yaml())
    kept = recipe.training.identity()
    values["training"] = {key: value for key, value in values["training"].items() if key in kept and key not in _FREE}
    values["data"].pop("test", None)
    return dict(_flat(values))


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
        pairs += _flat(value, name) if isinstance(value, dict) else [(name, value)]
    return pairs


def _brief(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
