"""Measure published numbers again and say which are verified."""

from pathlib import Path
from typing import TYPE_CHECKING

from maskris.cli.common import say, show, show_whole
from maskris.cli.options import DataOptions, IntervalOptions, ModelOptions

if TYPE_CHECKING:
    from maskris.experiments.claims import Claim


def reproduce(
    dataset: str | None = None,
    *,
    recipe: str | None = None,
    checkpoint: str | None = None,
    released: list[str] | None = None,
    claims: Path | None = None,
    out: Path | None = None,
    list: bool = False,  # noqa: A002 (the option's name)
    data: DataOptions,
    intervals: IntervalOptions,
    model: ModelOptions,
    overrides: list[str] | None = None,
) -> int:
    """Measure published numbers again: claimed, measured, difference, interval and verdict, one row for each claim.

    Trains by the claims' recipe, or takes a checkpoint, and evaluates every split under the claims' protocol. Killed
    and given again, the same command goes on; what was evaluated of the same weights and data is not evaluated again.
    A claim is verified only on its whole split, and only if its value lies within the interval or is reached.

    With --released the authors' own weights are fetched, converted and evaluated, and held against what the authors
    print for them: reproduced if at most 0.1 points apart. The exit code is 1 only if a checkpoint can't be had.

    Args:
        dataset: Such as refcoco, refcoco+ or refcocog; by default all that the recipe or the released checkpoint has
            claims about.
        recipe: Whose claims to measure; by default the first that the claims name for the data set.
        checkpoint: Evaluate this run folder, model folder or Hub id instead of training.
        released: Names of released checkpoints, such as caris-refcoco; or all, for those with claims about the data.
        claims: A YAML file of claims; by default those of the paper, or of the released checkpoints' authors.
        out: Folder for the run, the evaluated rows, reproduction.json and reproduction.md; by default
            reproductions/<recipe> or reproductions/<checkpoint>.
        list: List the claims, with --released those about released checkpoints, and do nothing else.
        data: What to train and evaluate on.
        intervals: Of the measured numbers.
        model: How it is evaluated.
        overrides: Keys of the recipe with their values.
    """
    from maskris.experiments import reproduction
    from maskris.reporting.claims import write_reproduction
    from maskris.utils.process import is_first_process

    if list:
        known = _known(dataset, recipe, released, claims)
        if not known:
            raise ValueError("There is no such claim; `maskris reproduce --list` lists all of them")
        show_whole(known)
        return 0
    made = reproduction.reproduce(
        dataset,
        data.data or [],
        recipe=recipe,
        checkpoint=checkpoint,
        released=released,
        claims=claims,
        splits=data.splits,
        out=out,
        overrides=overrides or [],
        interval_unit=intervals.interval_unit,
        resamples=intervals.resamples,
        model_class=model.model_class,
        log=say,
        **model.evaluation(),
        **data.evaluation(),
    )
    if made.interrupted is not None:
        return 128 + made.interrupted
    if is_first_process():
        show(made)
        say(f"Written: {made.folder / 'reproduction.json'}, {write_reproduction(made)}")
    return 1 if made.failed else 0


def _known(dataset: str | None, recipe: str | None, released: "list[str] | None", claims: Path | None) -> "list[Claim]":
    """The claims that the options choose."""
    from maskris.experiments.authors_claims import choose_released, released_claims
    from maskris.experiments.claims import load_claims

    if released is None:
        return [one for one in load_claims(claims) if dataset in (None, one.dataset) and recipe in (None, one.recipe)]
    if released == ["all"] and claims is None:  # also those that can't be measured
        return [one for one in released_claims() if dataset in (None, one.dataset)]
    return [one for some in choose_released(released, dataset, claims).values() for one in some]
