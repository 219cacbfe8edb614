"""Measure published numbers again and say which are verified."""

from pathlib import Path
from typing import TYPE_CHECKING

from maskris.cli.common import say, show
from maskris.cli.options import DataOptions, IntervalOptions, ModelOptions

if TYPE_CHECKING:
    from maskris.experiments.claims import Claim


def reproduce(
    dataset: str | None = None,
    *,
    recipe: str | None = None,
    checkpoint: str | None = None,
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

    Args:
        dataset: Such as refcoco, refcoco+ or refcocog; by default all that the recipe has claims about.
        recipe: Whose claims to measure; by default the first that the claims name for the data set.
        checkpoint: Evaluate this run folder, model folder or Hub id instead of training.
        claims: A YAML file of claims; by default those of the paper.
        out: Folder for the run, the evaluated rows, reproduction.json and reproduction.md; by default
            reproductions/<recipe>.
        list: List the claims and do nothing else.
        data: What to train and evaluate on.
        intervals: Of the measured numbers.
        model: How it is evaluated.
        overrides: Keys of the recipe with their values.
    """
    from maskris.experiments import reproduction
    from maskris.experiments.claims import load_claims
    from maskris.reporting.claims import write_reproduction
    from maskris.utils.process import is_first_process

    if list:
        known = load_claims(claims)
        _list([one for one in known if dataset in (None, one.dataset) and recipe in (None, one.recipe)])
        return 0
    made = reproduction.reproduce(
        dataset,
        data.data or [],
        recipe=recipe,
        checkpoint=checkpoint,
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
        show(made.findings)
        say(f"Written: {made.folder / 'reproduction.json'}, {write_reproduction(made)}")
    return 0


def _list(claims: "list[Claim]") -> None:
    """A table for people, or Markdown where the output goes to a file."""
    from rich.console import Console

    from maskris.reporting.tables import to_markdown

    if not claims:
        raise ValueError("There is no such claim; `maskris reproduce --list` lists all of them")
    if Console().is_terminal:
        show(claims)
    else:
        say(to_markdown(claims))
