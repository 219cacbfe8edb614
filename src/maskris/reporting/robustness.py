"""Robustness as tables for the terminal and for Markdown, as JSON and as CSV; in tables all numbers are per cent."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from maskris.evaluation.bootstrap import Interval, SeedScores, difference_text
from maskris.reporting.tables import NOTHING, markdown_table
from maskris.robustness.language import language_breakdown
from maskris.robustness.results import MEAN, METRICS, Metric, RobustnessComparison, Score, Subject
from maskris.robustness.suite import CLEAN, Condition

Rows = tuple[list[str], list[list[str]]]
"""Headings and cells."""


def rows(comparison: RobustnessComparison, of: Sequence[Subject], metric: Metric, brief: bool = False) -> Rows:
    """One row for each condition or family: metric and what is retained by method, and differences to the first.

    Args:
        comparison: The models.
        of: Conditions or families.
        metric: ``"oIoU"`` or ``"mIoU"``.
        brief: Without intervals, and with means only of what is retained; differences whose interval is on one side
            of 0 have a star.
    """
    first, *others = comparison.methods
    headings = [""]
    for method in comparison.methods:
        headings += [f"{method}: {metric}", "retained"]
    headings += [f"{method} - {first}" for method in others]
    changed = {c: comparison.runs[0].changed(c) for c in of if isinstance(c, Condition)}
    if with_changes := any(share is not None for share in changed.values()):
        headings.append("changed")
    cells = []
    for one in of:
        row = [_label(one)]
        for method in comparison.methods:
            score, kept = comparison.score(method, one, metric), comparison.retained(method, one, metric)
            retained = SeedScores((kept.mean,)).text() if brief else score_text(kept)
            row += [score_text(score, brief), "" if one == CLEAN else retained]
        apart = [comparison.difference(method, one, metric) for method in others]
        row += map(_starred if brief else difference_text, apart)
        if with_changes:
            share = changed.get(one) if isinstance(one, Condition) else None
            row.append("" if share is None else f"{share:.0%}")
        cells.append(row)
    return headings, cells


def language_rows(comparison: RobustnessComparison, metric: Metric) -> Rows:
    """The metric of clean expressions by their language: one row for each group of each breakdown."""
    parts = [language_breakdown(run.evaluation(CLEAN)) for run in comparison.runs]
    cells = []
    for by, groups in parts[0].items():
        for group, scores in groups.items():
            values = [[parts[i][by][group].flat()[metric] for i in runs] for runs in comparison.methods.values()]
            cells.append([f"{by}: {group}", f"{scores.n:,}", *(SeedScores(tuple(one)).text() for one in values)])
    return ["clean", "N", *comparison.methods], cells


def tables(comparison: RobustnessComparison, metric: Metric = "oIoU") -> list[Table | Text]:
    """For the terminal, the shortest last: conditions, the language of the clean expressions, families, what it is."""
    brief = len(comparison.methods) > 1
    return [
        _table(rows(comparison, comparison.conditions, metric, brief), f"{metric} by condition"),
        _table(language_rows(comparison, metric), f"{metric} by language"),
        _table(rows(comparison, comparison.subjects, metric, brief), f"{metric} by family"),
        Text(describe(comparison)),
    ]


def to_markdown(comparison: RobustnessComparison, pictures: Sequence[str] = ()) -> str:
    """A page with the same tables for both metrics.

    Args:
        comparison: The models.
        pictures: Files to show, relative to the page.
    """
    parts = ["# Robustness", describe(comparison)]
    for metric in METRICS:
        parts += [f"## {metric} by family", markdown_table(*rows(comparison, comparison.subjects, metric))]
    parts += [f"![{Path(picture).stem}]({picture})" for picture in pictures]
    for metric in METRICS:
        parts += [f"## {metric} by condition", markdown_table(*rows(comparison, comparison.conditions, metric))]
    for metric in METRICS:
        parts += [f"## {metric} by language, nothing changed", markdown_table(*language_rows(comparison, metric))]
    return "\n\n".join(parts) + "\n"


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
    return " ".join(dict.fromkeys(text))


def summary(comparison: RobustnessComparison) -> dict[str, Any]:
    """Both metrics and what is retained, for families and conditions of each method, as JSON types; fractions."""

    def numbers(method: str, of: Subject) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for metric in METRICS:
            for name, score in (
                (metric, comparison.score(method, of, metric)),
                (f"{metric} retained", comparison.retained(method, of, metric)),
            ):
                ends = score.interval.low, score.interval.high
                values = [None if math.isnan(value) else value for value in score.values]
                found[name] = {"mean": score.interval.value, "values": values, "interval": list(ends)}
        return found

    return {
        method: {
            "clean": numbers(method, CLEAN),
            "families": {str(family): numbers(method, family) for family in comparison.subjects[1:]},
            "conditions": {c.key: numbers(method, c) for c in comparison.conditions if c != CLEAN},
        }
        for method in comparison.methods
    }


def write_csv(comparison: RobustnessComparison, path: Path) -> Path:
    """One line for each model and condition; fractions."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        retained = [f"{metric} retained" for metric in METRICS]
        writer.writerow(["name", "folder", "family", "condition", "severity", "N", "changed", *METRICS, *retained])
        for i, run in enumerate(comparison.runs):
            for c, condition in enumerate(comparison.conditions):
                share = run.changed(condition)
                where = [run.name, run.folder.name, condition.family, condition.name, condition.severity]
                numbers = [comparison.values[metric][i] for metric in METRICS]
                kept = [float(own[c] / own[0]) if own[0] else math.nan for own in numbers]
                row = [*(float(own[c]) for own in numbers), *kept]
                writer.writerow([*where, run.expressions, "" if share is None else share, *row])
    return path


def score_text(score: Score, brief: bool = False) -> str:
    """Mean ± deviation over several seeds, or a value with its interval; per cent."""
    if len(score.values) > 1 or brief:
        return score.text()
    value, low, high = score.interval.value, score.interval.low, score.interval.high
    if value is None or low is None or high is None:
        return NOTHING
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _starred(interval: Interval) -> str:
    """A difference in points, with a star where 0 is outside of its interval."""
    if interval.value is None:
        return NOTHING
    return f"{100 * interval.value:+.1f}{' ' if interval.contains(0) else '*'}"


def _label(of: Subject) -> str:
    if isinstance(of, Condition):
        return of.label
    return "mean of families" if of == MEAN else of


def _table(part: Rows, title: str) -> Table:
    headings, cells = part
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
    for i, heading in enumerate(headings):
        heading = escape(heading).replace(": ", "\n").replace(" - ", "\n- ")
        table.add_column(heading, justify="right" if i else "left", overflow="fold", no_wrap=not i)
    for row in cells:
        table.add_row(*map(escape, row))
    return table
