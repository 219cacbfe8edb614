"""Pictures of robustness, with matplotlib (the extra ``plots``): curves over severities, and one summary."""

import math
from pathlib import Path
from typing import Any

from maskris.experiments.study_results import StudyResults
from maskris.robustness.results import Metric, RobustnessComparison, Score
from maskris.robustness.suite import CLEAN, Condition

_COLORS = ("#0b6fb4", "#e69f00", "#2f9e6e", "#5b2a86", "#c23b4a", "#767676")


def plot_curves(comparison: RobustnessComparison, path: Path, metric: Metric = "oIoU") -> Path | None:
    """One panel for each perturbation of several severities: the metric from clean pictures on, one line per method.

    Bands are standard deviations over seeds, or the bootstrap interval of a single one.

    Args:
        comparison: The models.
        path: Where to write the PNG.
        metric: ``"oIoU"`` or ``"mIoU"``.

    Returns:
        The path; ``None`` if nothing has several severities.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    curves: dict[str, list[Condition]] = {}
    for condition in comparison.conditions:
        if condition.severity is not None:
            curves.setdefault(condition.name, []).append(condition)
    curves = {name: sorted(own, key=_severity) for name, own in curves.items() if len(own) > 1}
    if not curves:
        return None
    columns = min(4, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(2.9 * columns, 0.7 + 2.2 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for panel, (name, own) in zip(panels, curves.items(), strict=False):
        for method, color in zip(comparison.methods, _cycle(len(comparison.methods)), strict=True):
            scores = [comparison.score(method, c, metric) for c in (CLEAN, *own)]
            severities = [0.0, *map(_severity, own)]
            low, high = zip(*map(_band, scores), strict=True)
            panel.fill_between(severities, low, high, color=color, alpha=0.18, linewidth=0)
            means = [100 * score.mean for score in scores]
            panel.plot(severities, means, "o-", color=color, markersize=3.5, linewidth=1.6, label=method)
        shares = isinstance(own[0].severity, float)
        ticks = [0.0, *map(_severity, own)]
        panel.set_xticks(ticks, [f"{x:.0%}" if shares else f"{x:g}" for x in ticks], fontsize=8)
        panel.set_title(f"{own[0].family}: {name}", loc="left", fontsize=9)
        _plain(panel)
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    for line in range(lines):
        panels[line * columns].set_ylabel(f"{metric} (%)", fontsize=9)
    panels[0].set_ylim(bottom=0)
    _legend(figure, panels[0], len(comparison.methods))
    figure.savefig(path, dpi=130)
    return path


def plot_summary(comparison: RobustnessComparison, path: Path, metric: Metric = "oIoU") -> Path:
    """Two panels over the families, one bar per method: the metric, and what is retained of the clean one.

    Points are seeds; a single one has its bootstrap interval instead.

    Args:
        comparison: The models.
        path: Where to write the PNG.
        metric: ``"oIoU"`` or ``"mIoU"``.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    methods, subjects = list(comparison.methods), comparison.subjects
    figure = Figure(figsize=(9.5, 1.3 + len(subjects) * (0.22 + 0.17 * len(methods))), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    thickness = 0.8 / len(methods)
    for number, (method, color) in enumerate(zip(methods, _cycle(len(methods)), strict=True)):
        shift = (number - (len(methods) - 1) / 2) * thickness
        for panel, kind in ((left, comparison.score), (right, comparison.retained)):
            shown = [i for i in range(len(subjects)) if panel is left or subjects[i] != CLEAN]
            scores = [kind(method, subjects[i], metric) for i in shown]
            places = [i + shift for i in shown]
            panel.barh(places, [100 * s.mean for s in scores], thickness * 0.88, color=color, label=method)
            for place, score in zip(places, scores, strict=True):
                _spread(panel, place, score)
    labels = ["clean", *("mean of families" if one == "mean" else str(one) for one in subjects[1:])]
    left.set_yticks(range(len(subjects)), labels)
    left.invert_yaxis()
    left.set_xlabel(f"{metric} (%)")
    right.set_xlabel(f"{metric} retained (% of clean)")
    right.axvline(100, color="black", linewidth=0.8, linestyle=":")
    for panel in (left, right):
        _plain(panel, grid="x")
        panel.set_xlim(left=0)
    _legend(figure, left, len(methods))
    figure.savefig(path, dpi=130)
    return path


def _severity(condition: Condition) -> float:
    return float(condition.severity or 0)


def _band(score: Score) -> tuple[float, float]:
    """Ends in per cent."""
    if score.deviation is not None:
        return 100 * (score.mean - score.deviation), 100 * (score.mean + score.deviation)
    low, high = score.interval.low, score.interval.high
    return (math.nan, math.nan) if low is None or high is None else (100 * low, 100 * high)


def _spread(panel: Any, place: float, score: Score) -> None:
    if len(score.values) > 1:
        panel.plot([100 * value for value in score.values], [place] * len(score.values), "k.", markersize=4)
    else:
        panel.plot(_band(score), [place, place], color="black", linewidth=1.2)


def _cycle(count: int) -> list[str]:
    return [_COLORS[i % len(_COLORS)] for i in range(count)]


def _plain(panel: Any, grid: str = "y") -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis=grid, alpha=0.3)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8)


def _legend(figure: Any, panel: Any, count: int) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=min(count, 5), fontsize=9)


_STUDY_COLORS = ("#0b6fb4", "#e69f00", "#5b2a86", "#2f9e6e")


def plot_study(results: StudyResults, metric: str, path: Path) -> Path:
    """One row for each variant, one color for each share hidden; points are seeds, bars their means.

    Args:
        results: Of a study.
        metric: ``"mIoU"`` or ``"oIoU"``.
        path: Where to write the PNG.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    variants, shares = results.variants, list(results.occlusion)
    height = 0.8 / len(shares)
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(variants) * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    for number, share in enumerate(shares):
        cells = [results.cell(variant, share, metric) for variant in variants]
        places = [i + (number - (len(shares) - 1) / 2) * height for i in range(len(variants))]
        color = _STUDY_COLORS[number % len(_COLORS)]
        means = [100 * cell.mean for cell in cells]
        axes.barh(places, means, height * 0.9, color=color, label=f"{share:.0%} hidden" if share else "clean")
        for place, cell in zip(places, cells, strict=True):
            values, rows = [100 * value for value in cell.values], [place] * len(cell.values)
            axes.plot(values, rows, "ko", markersize=4, markeredgecolor="white", markeredgewidth=0.7)
    axes.set_yticks(range(len(variants)), variants)
    axes.set_ylim(len(variants) - 0.4, -0.6)  # the first on top, whatever their number
    axes.set_xlabel(f"{metric} (%)")
    figure.suptitle(results.title, x=0.01, ha="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(frameon=False, loc="outside upper right", ncols=len(shares), fontsize=9)
    figure.savefig(path, dpi=110)
    return path
