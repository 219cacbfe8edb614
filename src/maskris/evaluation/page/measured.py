"""The sections of the page on what was measured: summary, metrics and breakdowns."""

from collections.abc import Mapping, Sequence

import numpy as np

from maskris.evaluation.page.chart import STYLES, Series, interval_strip, line_chart, strip_scale
from maskris.evaluation.page.document import Document, Group, Head
from maskris.evaluation.page.html import Content, Html, join, tag
from maskris.evaluation.page.numbers import Estimate, difference, estimate
from maskris.evaluation.page.report import Report, listed
from maskris.evaluation.report import percent
from maskris.evaluation.results import Evaluation

_BREAKDOWNS = {
    "split": "Split",
    "length": "Length of the expression",
    "relative size": "Share of the photo",
    "kind": "Kind of expression",
    "category": "Category",
}
_MOST_GROUPS = 12  # of a breakdown; data sets have up to 80 categories

Parts = Mapping[int, Evaluation]
"""Evaluations of the same expressions by the number of the model."""


def key(report: Report, number: int) -> Html:
    """The name of a model with the mark of its colour, where there are several."""
    name = report.subjects[number].name
    return tag("span", name, class_=f"key s{number % STYLES}") if len(report.subjects) > 1 else join(name)


def legend(report: Report, numbers: Sequence[int]) -> Html | None:
    """What the colours of a figure mean, where there are several."""
    if len(report.subjects) < 2:
        return None
    return tag("ul", *(tag("li", key(report, i)) for i in numbers), class_="legend")


def size(evaluation: Evaluation) -> str:
    """How much was measured on."""
    photos = set(zip(*(evaluation.rows[name].to_pylist() for name in ("dataset", "image_id")), strict=True))
    return f"{len(evaluation):,} expressions about {len(photos):,} photos"


def summary(report: Report) -> list[Html]:
    """What was found, in a few sentences."""
    if not report.evaluations:
        said = "No rows of an evaluation were found, so this page says what the run folder alone can say. "
        return [
            join(said, tag("code", "--data FILE.parquet"), " evaluates, and adds metrics, breakdowns and pictures.")
        ]
    first, *others = report.evaluations
    data = report.evaluations[first]
    parts = [join(f"Measured on {size(data)} of {listed(list(data.breakdown('split')))}. ")]
    for i, evaluation in report.evaluations.items():
        oiou, miou = (estimate(one, 1).inline() for one in report.intervals(evaluation, ["oIoU", "mIoU"]).values())
        parts.append(join(key(report, i), " reaches an oIoU of ", oiou, " and an mIoU of ", miou, ". "))
    for i, apart in zip(others, report.differences(report.evaluations, ["mIoU"]), strict=True):
        number = difference(apart["mIoU"], 1).inline()
        verdict = "an interval with zero in it" if apart["mIoU"].contains(0) else "an interval without zero"
        names = join(key(report, i), " differs from ", key(report, first))
        parts.append(join(names, " by ", number, f" points of mIoU, {verdict}. "))
    others_of = "photos" if report.unit == "image" else f"{report.unit}s"
    together = "; for differences, both models are drawn together" if others else ""
    note = (
        f"All values are per cent. Brackets hold 95 % percentile intervals of a bootstrap over {others_of} "
        f"({report.resamples:,} resamples{together}). An interval speaks of "
        f"other {others_of}; another training seed is another matter. Protocol "
    )
    return [join(*parts), join(note, tag("em", data.protocol.name), _decisions(data), ".")]


def metrics(report: Report, page: Document) -> Html | None:
    """Every metric of every split with its interval."""
    if not report.evaluations:
        return None
    splits = {i: one.parts("split") for i, one in report.evaluations.items()}
    groups = []
    for split, part in next(iter(splits.values())).items():
        found = [report.intervals(parts[split]) for parts in splits.values()]
        apart = list(report.differences({i: parts[split] for i, parts in splits.items()}))
        rows: list[list[Content | Estimate]] = [
            [name, *(estimate(one[name]) for one in found), *(difference(one[name]) for one in apart)]
            for name in found[0]
        ]
        groups.append(Group(rows, join(split, " ", tag("span", f"{len(part):,} expressions", class_="muted"))))
    names = [Head(key(report, i), 2) for i in splits]
    above = [Head(None), Head("Value", 2 * len(splits)), *difference_to_first(report, list(splits))]
    heads = [[Head("Metric", text=True), *names, *names[1:]]]
    bold = " Differences in bold have an interval without zero." if len(splits) > 1 else ""
    return page.table(f"Metrics by split with 95 % intervals.{bold}", [above, *heads] if bold else heads, groups)


def success(report: Report, page: Document) -> Html | None:
    """Pr@X at every X."""
    if not report.evaluations:
        return None
    thresholds = [round(0.02 * i, 2) for i in range(1, 51)]
    series = []
    for i, one in report.evaluations.items():
        counted = np.ones(len(one), dtype=bool) if one.protocol.empty_target == "miss" else one.exists
        reached = [one.counts.reaches(x, one.protocol.comparison)[counted] for x in thresholds]
        shares = [100 * float(some.mean()) if some.size else None for some in reached]
        series.append(Series(report.subjects[i].name, thresholds, shares, i % STYLES))
    about = "Share of expressions whose IoU reaches a threshold"
    chart = line_chart(series, about=about, x="IoU threshold X", y="Pr@X (%)", y_range=(0, 100))
    return page.figure(f"{about}, for every threshold X.", legend(report, list(report.evaluations)), chart)


def breakdowns(report: Report, page: Document) -> Html | None:
    """Groups of expressions by oIoU and mIoU, the latter as a picture too."""
    if not report.evaluations:
        return None
    first, *others = report.evaluations
    groups = [Group([_breakdown_row(report, "All", report.evaluations)])]
    hidden = ""
    for by, title in _BREAKDOWNS.items():
        parts = {i: one.parts(by) for i, one in report.evaluations.items()}
        labels = list(parts[first])
        if len(labels) > _MOST_GROUPS:
            largest = sorted(labels, key=lambda label: -len(parts[first][label]))[:_MOST_GROUPS]
            hidden += f" Of {len(labels)} groups by {by}, the {_MOST_GROUPS} with most expressions are shown."
            labels = [label for label in labels if label in largest]
        if len(labels) > 1:
            rows = [_breakdown_row(report, label, {i: parts[i][label] for i in parts}) for label in labels]
            groups.append(Group(rows, title))
    number = len(report.evaluations)
    above = [
        Head(None, 2),
        Head("oIoU", number),
        Head("mIoU", number),
        *difference_to_first(report, [first, *others], " in mIoU"),
    ]
    names = [key(report, i) if others else None for i in report.evaluations]
    below = [Head("Expressions", text=True), Head("N"), *map(Head, names), *map(Head, names)]
    below += [Head(name, 2) for name in names[1:]]
    heads = [[*above, Head("mIoU, 0 to 100 %")], [*below, Head(strip_scale())]]
    caption = f"Metrics by group of expressions, all splits together.{hidden}"
    return page.table(caption, heads, groups, class_="breakdown")


def _breakdown_row(report: Report, label: str, parts: Parts) -> list[Content | Estimate]:
    found = [report.intervals(one, ["oIoU", "mIoU"]) for one in parts.values()]
    apart = [one["mIoU"] for one in report.differences(parts, ["mIoU"])]
    values = [percent(one[name].value, 1) for name in ("oIoU", "mIoU") for one in found]
    n = len(next(iter(parts.values())))
    strip = interval_strip({i: one["mIoU"] for i, one in zip(parts, found, strict=True)})
    return [label, f"{n:,}", *values, *(difference(one, 1) for one in apart), strip]


def difference_to_first(report: Report, numbers: Sequence[int], what: str = "") -> list[Head]:
    """The heading over differences to the first of some models, where there are any."""
    first, *others = numbers
    return [Head(join(f"Difference{what} to ", key(report, first)), 2 * len(others))] if others else []


def _decisions(evaluation: Evaluation) -> str:
    """What follows the protocol's name in its description."""
    side = evaluation.model.get("input_size")
    text = evaluation.protocol.describe((side[0], side[1]) if side else None)
    return text.removeprefix(evaluation.protocol.name)
