"""Scores, evaluations and intervals as tables and as text, in per cent as papers print them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from maskris.evaluation.bootstrap import Interval, SeedScores, Unit, bootstrap_intervals, paired_intervals
from maskris.evaluation.metrics import Scores, labels, metrics_of
from maskris.evaluation.result import Evaluation, align
from maskris.reporting.tables import NOTHING, Table, percent

_BREAKDOWNS = ("split", "length", "size", "kind")


def tables(result: Evaluation | Scores, by: Sequence[str] = _BREAKDOWNS) -> list[Table]:
    """By split first, then every breakdown (see `Evaluation.breakdown`) that has more than one group.

    Scores are a table of one row.
    """
    if isinstance(result, Scores):
        return [scores_table({"all": result}, caption=result.protocol.describe())]
    made: list[Table] = []
    for key in by:
        groups = result.breakdown(key)
        if not made and len(groups) != 1:  # also without any: a line of dashes
            groups["all"] = result.scores
        if not made or len(groups) > 1:
            made.append(scores_table(groups, f"By {key}", key, "" if made else describe(result)))
    return made


def markdown(result: Evaluation | Scores, by: Sequence[str] = _BREAKDOWNS) -> str:
    """The same as `tables` as a Markdown text, what was measured first."""
    made = tables(result, by)
    return "\n\n".join([made[0].caption, *(table.to_markdown("###") for table in made)]) + "\n"


def scores_table(groups: Mapping[str, Scores], title: str = "", heading: str = "", caption: str = "") -> Table:
    """One row per group, by its name; gRefCOCO's columns appear only where expressions without referent do.

    The heading stands over the names; the caption should describe the protocol.
    """
    some = next(iter(groups.values()), None)
    metrics = metrics_of(some.protocol) if some else {}
    headings = labels(some.protocol) if some else {}
    if not any(metrics[key].pointing and key in scores.values for key in metrics for scores in groups.values()):
        headings = {key: label for key, label in headings.items() if not metrics[key].pointing}
    columns: dict[str, Callable[[Scores], str]] = {"N": lambda scores: f"{scores.n:,}"}
    columns |= {label: _cell(key) for key, label in headings.items() if not metrics[key].needs_empty}
    if any(scores.n_empty for scores in groups.values()):
        columns["no target"] = lambda scores: f"{scores.n_empty:,}"
        columns |= {label: _cell(key) for key, label in headings.items() if metrics[key].needs_empty}
    rows = [[name, *(cell(scores) for cell in columns.values())] for name, scores in groups.items()]
    return Table([heading, *columns], rows, title, caption)


def groups_table(results: Mapping[str, Evaluation], by: str, metric: str = "mIoU", title: str = "") -> Table:
    """One metric of several evaluations of the same expressions, group by group.

    Args:
        results: By the headings of their columns.
        by: Which groups, as for `Evaluation.breakdown`; the first row holds all of them together.
        metric: Its key.
        title: Of the table.
    """
    found = {name: {"all": result.scores, **result.breakdown(by)} for name, result in results.items()}
    first = next(iter(found.values()))
    rows = [
        [group, f"{first[group].n:,}", *(_cell(metric)(scores[group]) for scores in found.values())] for group in first
    ]
    return Table([by, "N", *found], rows, title)


def _cell(key: str) -> Callable[[Scores], str]:
    return lambda scores: percent(scores.values.get(key))


def intervals_table(evaluation: Evaluation, unit: Unit = "image", resamples: int = 2000) -> Table:
    """Every metric of every split with its 95 % interval in per cent; arguments as for `bootstrap_intervals`."""
    rows = []
    for split, part in evaluation.parts("split").items():
        found = bootstrap_intervals(part, unit=unit, resamples=resamples)
        for i, (key, label) in enumerate((key, label) for key, label in labels(part.protocol).items() if key in found):
            ends = map(percent, (found[key].value, found[key].low, found[key].high))
            rows.append(["" if i else split, label, *ends])
    title, notes = f"95 % bootstrap intervals over {unit}s", "; ".join(evaluation.notes)
    return Table(["split", "metric", "value", "from", "to"], rows, title, notes)


def differences_table(
    first: Evaluation, second: Evaluation, names: tuple[str, str], unit: Unit = "image", resamples: int = 2000
) -> Table:
    """Every metric of every split of two models, and the difference with its paired 95 % interval.

    Args:
        first: One evaluation.
        second: Of the same expressions in any order and under the same protocol.
        names: Of the two models.
        unit: As for `paired_intervals`, which raises the errors too.
        resamples: As for `paired_intervals`.
    """
    rows = []
    ours, theirs = (one.parts("split") for one in align([first, second]))
    for split, part in ours.items():
        found = paired_intervals(part, theirs[split], unit=unit, resamples=resamples)
        shown = {key: label for key, label in labels(part.protocol).items() if key in found}
        for i, (key, label) in enumerate(shown.items()):
            values = (part.metrics[key], theirs[split].metrics[key])
            ends = (found[key].value, found[key].low, found[key].high)
            rows.append(["" if i else split, label, *map(percent, (*values, *ends))])
    caption = f"Differences with 95 % paired bootstrap intervals over {unit}s"
    return Table(["split", "metric", *names, "difference", "from", "to"], rows, f"{names[0]} and {names[1]}", caption)


def describe(evaluation: Evaluation) -> str:
    """What was measured, in a sentence or two: protocol, model, how its masks came, perturbation, and notes."""
    model, settings = evaluation.model, evaluation.settings
    parts = [describe_protocol(evaluation)]
    if name := model.get("name") or model.get("class"):
        parts.append(f"model {name}")
    if settings.get("perturbation"):
        parts.append(f"under {settings['perturbation']}")
    if not len(evaluation):
        parts.append("the table holds no expression, so there was nothing to evaluate")
    if settings.get("reduced_decoding"):
        parts.append("large JPEGs decoded at a reduced size")
    if settings.get("truncated"):
        parts.append(f"expressions that were too long and lost their last words: {settings['truncated']:,}")
    if settings.get("forms"):
        parts.append(f"masks from {', '.join(f'{form} ({n:,})' for form, n in settings['forms'].items())}")
    if settings.get("other_splits"):
        parts.append(f"predictions for other splits left out: {settings['other_splits']:,}")
    return "; ".join([*parts, *evaluation.notes])


def notes_of(evaluations: Iterable[Evaluation]) -> list[str]:
    """`Evaluation.notes` of all of them, each once."""
    return list(dict.fromkeys(note for evaluation in evaluations for note in evaluation.notes))


def describe_protocol(evaluation: Evaluation) -> str:
    """The protocol with the size at which the model was evaluated, where it is known."""
    size = evaluation.model.get("input_size")
    given = "forms" in evaluation.settings
    return evaluation.protocol.describe((size[0], size[1]) if size else None, given=given)


def seeds_text(scores: SeedScores) -> str:
    """Mean ± standard deviation over the seeds, in per cent; a dash where a seed has no value."""
    if any(map(math.isnan, scores.values)):
        return NOTHING
    deviation = "" if scores.deviation is None else f" ± {100 * scores.deviation:.1f}"
    return f"{100 * scores.mean:.1f}{deviation}"


def interval_texts(interval: Interval | None, digits: int = 1, sign: str = "") -> tuple[str, str]:
    """A value and the ends of its interval in brackets, in per cent; a dash and nothing where it is undefined."""
    if interval is None or interval.value is None or interval.low is None or interval.high is None:
        return NOTHING, ""
    value, low, high = (f"{100 * end:{sign}.{digits}f}" for end in (interval.value, interval.low, interval.high))
    return value, f"[{low}, {high}]"
