"""Robustness as tables, as a page of Markdown and as files; in tables all numbers are per cent."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from maskris.evaluation.bootstrap import Interval, SeedScores
from maskris.reporting.plots import plot_curves, plot_summary
from maskris.reporting.scores import interval_texts, notes_of, seeds_text
from maskris.reporting.tables import NOTHING, Table, write_csv
from maskris.robustness.language import language_breakdown
from maskris.robustness.results import MEAN, METRICS, Metric, Robustness, RobustnessComparison, Score, Subject
from maskris.robustness.suite import CLEAN, Condition
from maskris.utils.files import atomic_file, write_json


def tables(result: Robustness | RobustnessComparison, metric: Metric = "oIoU") -> list[Table]:
    """Conditions, the language of the clean expressions, and families with what the numbers are; the shortest last."""
    comparison = _comparison(result)
    brief = len(comparison.methods) > 1
    families = subjects_table(comparison, "family", metric, brief)
    return [
        subjects_table(comparison, "condition", metric, brief),
        language_table(comparison, metric),
        replace(families, caption=describe(comparison)),
    ]


def markdown(result: Robustness | RobustnessComparison, pictures: Sequence[str] = ()) -> str:
    """A page with the same tables for both metrics, and pictures whose files are named relative to the page."""
    comparison = _comparison(result)
    parts = ["# Robustness", describe(comparison)]
    parts += [subjects_table(comparison, "family", metric).to_markdown("##") for metric in METRICS]
    parts += [f"![{Path(picture).stem}]({picture})" for picture in pictures]
    parts += [subjects_table(comparison, "condition", metric).to_markdown("##") for metric in METRICS]
    language = [language_table(comparison, metric) for metric in METRICS]
    parts += [replace(one, title=f"{one.title}, nothing changed").to_markdown("##") for one in language]
    return "\n\n".join(parts) + "\n"


def subjects_table(
    comparison: RobustnessComparison, by: Literal["family", "condition"], metric: Metric, brief: bool = False
) -> Table:
    """One row for each family or condition: metric and what is retained by method, and differences to the first.

    A brief table has no intervals, and means only of what is retained; differences whose interval is on one side of 0
    have a star.
    """
    of: Sequence[Subject] = comparison.subjects if by == "family" else comparison.conditions
    first, *others = comparison.methods
    headings = ["", *(name for method in comparison.methods for name in (f"{method}: {metric}", "retained"))]
    headings += [f"{method} - {first}" for method in others]
    changed = [comparison.runs[0].changed(one) if isinstance(one, Condition) else None for one in of]
    rows = []
    for one in of:
        row = [one.label if isinstance(one, Condition) else "mean of families" if one == MEAN else one]
        for method in comparison.methods:
            score, kept = comparison.score(method, one, metric), comparison.retained(method, one, metric)
            retained = seeds_text(SeedScores((kept.mean,))) if brief else _score_text(kept)
            row += [_score_text(score, brief), "" if one == CLEAN else retained]
        apart = [comparison.difference(method, one, metric) for method in others]
        rows.append([*row, *(_starred(interval) if brief else _joined(interval, "+") for interval in apart)])
    if any(share is not None for share in changed):
        headings.append("changed")
        for row, share in zip(rows, changed, strict=True):
            row.append("" if share is None else f"{share:.0%}")
    return Table(headings, rows, f"{metric} by {by}")


def language_table(comparison: RobustnessComparison, metric: Metric) -> Table:
    """The metric of clean expressions by their language: one row for each group of each breakdown."""
    parts = [language_breakdown(run.evaluation(CLEAN)) for run in comparison.runs]
    rows = []
    for by, groups in parts[0].items():
        for group, scores in groups.items():
            values = [[parts[i][by][group].flat()[metric] for i in runs] for runs in comparison.methods.values()]
            rows.append([f"{by}: {group}", f"{scores.n:,}", *(seeds_text(SeedScores(tuple(one))) for one in values)])
    return Table(["clean", "N", *comparison.methods], rows, f"{metric} by language")


def describe(comparison: RobustnessComparison) -> str:
    """What the numbers are, in a few sentences."""
    run = comparison.runs[0]
    text = [f"{run.expressions:,} expressions about {run.sums.shape[-1]:,} images; per cent."]
    if max(map(len, comparison.methods.values())) > 1:
        text.append("Mean ± standard deviation over seeds.")
    text.append("Retained: share of the same model's clean score. Brackets: 95 % intervals of a bootstrap over images.")
    if len(comparison.methods) > 1:
        text.append("Differences in points (*: 0 is outside the interval).")
    if any(run.changed(c) is not None for c in comparison.conditions):
        text.append("Changed: expressions whose words a condition changes.")
    for run in comparison.runs:
        for why in dict.fromkeys(run.skipped.values()):
            names = [c.label for c, reason in run.skipped.items() if reason == why]
            text.append(f"{run.name} was not measured under {', '.join(names)}: {why}.")
    text += [f"{note[0].upper()}{note[1:]}." for note in notes_of(run.evaluation() for run in comparison.runs)]
    return " ".join(dict.fromkeys(text))


def runs_table(result: Robustness | RobustnessComparison) -> Table:
    """One row for each model and condition; fractions."""
    comparison = _comparison(result)
    retained = [f"{metric} retained" for metric in METRICS]
    rows: list[list[object]] = []
    for i, run in enumerate(comparison.runs):
        for c, condition in enumerate(comparison.conditions):
            share = run.changed(condition)
            where = [run.name, run.folder.name, condition.family, condition.name, condition.severity]
            numbers = [comparison.values[metric][i] for metric in METRICS]
            kept = [float(own[c] / own[0]) if own[0] else math.nan for own in numbers]
            rows.append([*where, run.expressions, share, *(float(own[c]) for own in numbers), *kept])
    return Table(["name", "folder", "family", "condition", "severity", "N", "changed", *METRICS, *retained], rows)


def write_robustness(comparison: RobustnessComparison, folder: Path, metric: Metric = "oIoU") -> list[Path]:
    """Write ``robustness.md``, ``summary.json``, ``results.csv`` and, where matplotlib is installed, two pictures.

    Args:
        comparison: The models.
        folder: Where to; it exists.
        metric: Of the pictures; the files have both.

    Returns:
        The paths.
    """
    pictures: list[Path] = []
    with suppress(ImportError):
        pictures.append(plot_summary(comparison, folder / "summary.png", metric))
        if curves := plot_curves(comparison, folder / "curves.png", metric):
            pictures.append(curves)
    page, numbers = folder / "robustness.md", folder / "summary.json"
    with atomic_file(page) as file:
        file.write(markdown(comparison, [path.name for path in pictures]))
    write_json(numbers, comparison.summary(), indent=1)
    return [page, numbers, write_csv(comparison, folder / "results.csv"), *pictures]


def _comparison(result: Robustness | RobustnessComparison) -> RobustnessComparison:
    return result.compare() if isinstance(result, Robustness) else result


def _score_text(score: Score, brief: bool = False) -> str:
    """Mean ± deviation over several seeds, or a value with its interval; per cent."""
    return seeds_text(score) if len(score.values) > 1 or brief else _joined(score.interval)


def _joined(interval: Interval, sign: str = "") -> str:
    return " ".join(filter(None, interval_texts(interval, sign=sign)))


def _starred(interval: Interval) -> str:
    """A difference in points, with a star where 0 is outside of its interval."""
    star = " " if interval.contains(0) else "*"
    return NOTHING if interval.value is None else f"{100 * interval.value:+.1f}{star}"
