"""The section of the page on robustness: what is left of the mIoU when pictures and words get worse."""

from collections.abc import Mapping, Sequence
from typing import Literal

from maskris.evaluation.page.chart import STYLES, Series, line_chart
from maskris.evaluation.page.choose import line_up
from maskris.evaluation.page.document import Document, Group, Head
from maskris.evaluation.page.html import Content, Html, join, tag
from maskris.evaluation.page.measured import difference_to_first, key, legend, size
from maskris.evaluation.page.numbers import EMPTY, Estimate, difference, estimate
from maskris.evaluation.page.report import Report, listed
from maskris.evaluation.report import percent
from maskris.evaluation.results import Evaluation
from maskris.evaluation.robustness.comparison import MEAN, RobustnessComparison, Subject
from maskris.evaluation.robustness.suite import CLEAN, HARMLESS, Condition

METRIC: Literal["mIoU"] = "mIoU"


def robustness(report: Report, page: Document) -> Html | None:
    """The result of `maskris robustness`, else what lies in the run folders."""
    if report.robustness is None:
        return _in_run_folders(report, page)
    found = report.robustness
    names = [subject.name for subject in report.subjects]
    numbers = [names.index(name) for name in found.methods]
    families = [Group([_row(found, one) for one in found.subjects])]
    about = f"{METRIC} by family of perturbations ({size(found.runs[0].evaluation())}): the mean over its "
    about += f"conditions, and what is retained of the {METRIC} on clean input."
    if MEAN in found.subjects and (apart := [family for family in found.families if family in HARMLESS]):
        about += f" The mean of the families leaves out {listed(apart)}, which makes no input worse."
    short = page.table(about, _heads(report, numbers), families)
    curves = _curves(report, page, found, numbers)
    single = [
        Group([_row(found, one) for one in found.conditions if one.family == family], family.capitalize())
        for family in found.families
    ]
    return join(short, curves, page.table(f"{METRIC} under every condition.", _heads(report, numbers), single))


def _row(found: RobustnessComparison, of: Subject) -> list[Content | Estimate]:
    """One condition or family: the metric and what is retained of it by model, and differences to the first."""
    label = of.label if isinstance(of, Condition) else "Mean of the families" if of == MEAN else of
    row: list[Content | Estimate] = [label]
    for method in found.methods:
        row.append(estimate(found.score(method, of, METRIC).interval, 1))
        row.append(percent(found.retained(method, of, METRIC).mean, 1))
    return row + [difference(found.difference(method, of, METRIC), 1) for method in list(found.methods)[1:]]


def _curves(report: Report, page: Document, found: RobustnessComparison, numbers: Sequence[int]) -> Html | None:
    """The metric over the severity of what has several."""
    charts = []
    for name in dict.fromkeys(one.name for one in found.conditions):
        same = [one for one in found.conditions if one.name == name and one.severity is not None]
        if len(same) < 2:
            continue
        steps = sorted(same, key=lambda one: one.severity or 0)
        severity = [0.0, *(float(one.severity or 0) for one in steps)]
        series = [
            Series(
                method, severity, [100 * found.score(method, one, METRIC).mean for one in (CLEAN, *steps)], i % STYLES
            )
            for i, method in zip(numbers, found.methods, strict=True)
        ]
        unit = "share" if isinstance(steps[0].severity, float) else "severity"
        charts.append(line_chart(series, about=f"{METRIC} under {name}", x=unit, y=f"{name} ({METRIC}, %)"))
    if not charts:
        return None
    caption = f"{METRIC} over the severity of a perturbation; 0 is clean input."
    panels = tag("div", *charts, class_="panels four" if len(charts) == 4 else "panels")
    return page.figure(caption, legend(report, numbers), panels)


def _heads(report: Report, numbers: Sequence[int]) -> list[list[Head]]:
    names = [key(report, i) for i in numbers]
    above = [Head(None), *(Head(name, 3) for name in names), *difference_to_first(report, numbers, f" in {METRIC}")]
    below = [Head("Input", text=True), *(head for _ in names for head in (Head(METRIC, 2), Head("retained")))]
    return [above, [*below, *(Head(name, 2) for name in names[1:])]]


def _in_run_folders(report: Report, page: Document) -> Html | None:
    """What is left of the metric under perturbations whose rows lie in the run folders."""
    conditions = list(dict.fromkeys(name for one in report.subjects for name in one.perturbed))
    if not conditions:
        return None
    rows: list[list[Content | Estimate]] = []
    for name in ("clean", *conditions):
        parts = {i: one.perturbed[name] for i, one in enumerate(report.subjects) if name in one.perturbed}
        if name == "clean":
            parts = dict(report.evaluations)
        row: list[Content | Estimate] = [name]
        for i in range(len(report.subjects)):
            found = estimate(report.intervals(parts[i], [METRIC])[METRIC], 1) if i in parts else EMPTY
            row += [found, _retained(report.evaluations.get(i), parts.get(i))]
        rows.append([*row, *_differences(report, parts)])
    caption = f"{METRIC} under perturbations of the input, and its share of the {METRIC} on clean input."
    return page.table(caption, _heads(report, range(len(report.subjects))), [Group(rows)])


def _differences(report: Report, parts: Mapping[int, Evaluation]) -> Sequence[Content | Estimate]:
    """To the first model, if all were measured on the same expressions."""
    empty = [EMPTY] * (len(report.subjects) - 1)
    if len(parts) < len(report.subjects):
        return empty
    try:
        return [difference(one[METRIC], 1) for one in report.differences(parts, [METRIC])]
    except ValueError:
        return empty


def _retained(clean: Evaluation | None, perturbed: Evaluation | None) -> str:
    """Perturbed over clean, in per cent, if both are of the same expressions."""
    if clean is None or perturbed is None:
        return ""
    try:
        line_up([clean, perturbed])
    except ValueError:
        return ""
    whole, part = clean.metrics[METRIC], perturbed.metrics[METRIC]
    return percent(part / whole, 1) if whole else ""
