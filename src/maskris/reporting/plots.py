"""Plots with matplotlib (the extra ``plots``): robustness and studies as PNG, the charts of a page as SVG."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from maskris.evaluation.bootstrap import SeedScores
from maskris.experiments.study_results import StudyResults
from maskris.inference.visualize import PALETTE
from maskris.robustness.results import MEAN, Metric, RobustnessComparison, Score
from maskris.robustness.suite import CLEAN, Condition

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = tuple(PALETTE[i] for i in (0, 4, 2, 3, 1, 5))
"""Colors of models and of what else is compared: the first four stand out from white and from black."""

_DASHES = ("-", "--", ":", "-.")
_STEPS = (1, 2, 2.5, 5, 10)  # of the numbers of an axis
_MOST_POINTS = 400
_MARKED = 8  # a line of so few points shows where they are
_INK, _HAIR = "#010203", "#040506"  # stand for colors of the page while an SVG is drawn
_FOR_PAGE = {  # patterns in matplotlib's SVG, and what an element of a page has in their place
    "<style.*?</style>": "",
    '<g id="[^"]*"': "<g",
    "font-family: [^;]*; ": "",
    "xlink:": "",
    _INK: "currentColor",
    _HAIR: "var(--hair)",
    r"<(\w+)([^>]*)/>": r"<\1\2></\1>",
    r">\s+<": "><",
    r"\s+": " ",
    r"(\.\d\d)\d+(?=[^<>]*>)": r"\1",  # two digits are enough for places, but not for labels
}


class Series(NamedTuple):
    """One line of a chart, of a model and its number, from which color and dashes follow; ``None`` is a gap."""

    name: str
    x: Sequence[float]  # increasing
    y: Sequence[float | None]
    number: int = 0


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure; its size is in inches.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots are drawn by matplotlib: pip install 'maskris[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def line_chart(
    series: Sequence[Series], *, about: str, x: str, y_range: tuple[float, float] | None = None, log: bool = False
) -> str:
    """Lines over a common horizontal axis as an SVG element for a page.

    Axes have the color of the page's text, the grid that of its variable ``--hair``, so they follow its dark mode.

    Args:
        series: At least one, with at least one place.
        about: What the chart shows, for those who can't see it; the first and last values are added.
        x: Name of the horizontal axis.
        y_range: Ends of the vertical axis; by default those of the numbers and 0, as for the horizontal one.
        log: Whether the vertical axis is logarithmic; numbers that are not positive are left out then.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = new_figure(3.6, 2.1)
    from matplotlib.ticker import LogLocator, MaxNLocator

    axes = figure.subplots()
    for one in series:
        across, up = _thinned(one)
        if log:
            up[~(up > 0)] = math.nan
        color, dashes = SERIES[one.number % len(SERIES)], _DASHES[one.number % len(_DASHES)]
        marker = "o" if np.isfinite(up).sum() <= _MARKED else ""
        axes.plot(across, up, dashes, marker=marker, markersize=4, color=color, linewidth=1.3, clip_on=False)
    axes.update_datalim([(0, 1 if log else 0)])
    axes.margins(0)
    axes.autoscale_view()
    if log:
        axes.set_yscale("log")
        axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(numticks=6) if log else MaxNLocator(5, steps=_STEPS))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    if y_range:
        axes.set_ylim(*y_range)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_short)
    axes.set_xlabel(x, fontsize=9, color=_INK)
    axes.tick_params(labelsize=9, colors=_INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=_HAIR, linewidth=0.7)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_INK)
    return _svg(figure, f"{about}. {'; '.join(map(_ends, series))}")


def _svg(figure: "Figure", about: str) -> str:
    """A figure as an element of HTML: text stays text, and nothing in it has an effect on the page around it."""
    from matplotlib import rc_context

    file = io.StringIO()
    # Elements that others refer to are named by a hash of this text, so that no two charts of a page share a name.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": about}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    head, _, content = file.getvalue().partition(' version="1.1">')
    for pattern, text in _FOR_PAGE.items():
        content = re.sub(pattern, text, content, flags=re.DOTALL)
    box = head[head.index("viewBox") :].split(" xmlns")[0]
    return f'<svg {box} class="chart" role="img" aria-label={quoteattr(about)}>{content.strip()}'


def _short(value: float, _: Any = None) -> str:
    """A number for an axis: 0.25, 1500, 20k, 5e-05."""
    text = f"{value / 1000:g}k" if 10_000 <= abs(value) < 1e6 else f"{value:g}"
    return text.replace("-", "\u2212")


def _thinned(series: Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """At most `_MOST_POINTS` points, each the mean of as many neighbors."""
    points = np.array([series.x, series.y], dtype=np.float64)  # [2, N], NaN where a value is missing
    size = -(-points.shape[1] // _MOST_POINTS)
    points = np.pad(points, ((0, 0), (0, -points.shape[1] % size)), constant_values=math.nan)
    known = np.ma.masked_invalid(points.reshape(2, -1, size))
    across, up = known.mean(2).filled(math.nan)
    return across, up


def _ends(series: Series) -> str:
    known = [f"{y:.4g} at {x:g}" for x, y in zip(series.x, series.y, strict=True) if y is not None]
    return f"{series.name}: {f'{known[0]}, {known[-1]}' if known else 'nothing'}"


def severity_curves(comparison: RobustnessComparison) -> dict[str, list[Condition]]:
    """The severities of each perturbation that was measured under several, after clean pictures; by its name."""
    curves: dict[str, list[Condition]] = {}
    for condition in comparison.conditions:
        if condition.severity is not None:
            curves.setdefault(condition.name, [CLEAN]).append(condition)
    return {name: sorted(own, key=severity) for name, own in curves.items() if len(own) > 2}


def severity(condition: Condition) -> float:
    """The severity as a number: 0 for clean pictures."""
    return float(condition.severity or 0)


def plot_curves(comparison: RobustnessComparison, path: Path, metric: Metric = "oIoU") -> Path | None:
    """One panel for each perturbation of several severities: the metric from clean pictures on, one line per method.

    Bands are standard deviations over seeds, or the bootstrap interval of a single one.

    Returns:
        The path of the PNG; ``None`` if nothing has several severities.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    curves = severity_curves(comparison)
    if not curves:
        return None
    columns = min(4, len(curves))
    lines = math.ceil(len(curves) / columns)
    figure = new_figure(2.9 * columns, 0.7 + 2.2 * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for panel, (name, own) in zip(panels, curves.items(), strict=False):
        severities = [*map(severity, own)]
        for number, method in enumerate(comparison.methods):
            color = SERIES[number % len(SERIES)]
            scores = [comparison.score(method, condition, metric) for condition in own]
            low, high = zip(*map(_band, scores), strict=True)
            panel.fill_between(severities, low, high, color=color, alpha=0.18, linewidth=0)
            means = [100 * score.mean for score in scores]
            panel.plot(severities, means, "o-", color=color, markersize=3.5, linewidth=1.6, label=method)
        shares = isinstance(own[1].severity, float)
        panel.set_xticks(severities, [f"{x:.0%}" if shares else f"{x:g}" for x in severities], fontsize=8)
        panel.set_title(f"{own[1].family}: {name}", loc="left", fontsize=9)
        _plain(panel, grid="y")
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel(f"{metric} (%)", fontsize=9)
    panels[0].set_ylim(bottom=0)
    return _finish(figure, panels[0], path)


def plot_summary(comparison: RobustnessComparison, path: Path, metric: Metric = "oIoU") -> Path:
    """Two panels over the families, one bar per method: the metric, and what is retained of the clean one.

    Points are seeds; a single one has its bootstrap interval instead. Errors are those of `plot_curves`.
    """
    methods, subjects = comparison.methods, dict(enumerate(comparison.subjects))
    figure = new_figure(9.5, 1.3 + len(subjects) * (0.22 + 0.17 * len(methods)))
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, metric, {m: {i: comparison.score(m, one, metric) for i, one in subjects.items()} for m in methods})
    kept = {i: one for i, one in subjects.items() if one != CLEAN}
    retained = {m: {i: comparison.retained(m, one, metric) for i, one in kept.items()} for m in methods}
    _bars(right, f"{metric} retained", retained, unit="% of clean")
    labels = {CLEAN: "clean", MEAN: "mean of families"}
    left.set_yticks(list(subjects), [labels.get(one, str(one)) for one in subjects.values()])
    left.invert_yaxis()
    right.axvline(100, color="black", linewidth=0.8, linestyle=":")
    for panel in (left, right):
        panel.set_xlim(left=0)
    return _finish(figure, left, path)


def plot_study(results: StudyResults, metric: str, path: Path) -> Path:
    """One row for each variant, one color for each share hidden; points are seeds, bars their means.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    variants, shares = results.variants, results.study.occlusion
    figure = new_figure(8, 1.2 + 0.28 * len(variants) * len(shares))
    axes = figure.add_subplot()
    bars = {}
    for share in shares:
        bars[share_label(share)] = {i: results.compare(variant, share, metric) for i, variant in enumerate(variants)}
    _bars(axes, metric, bars)
    axes.set_yticks(range(len(variants)), variants)
    axes.set_ylim(len(variants) - 0.4, -0.6)  # the first on top, whatever their number
    figure.suptitle(results.study.title, x=0.01, ha="left", fontsize=11)
    return _finish(figure, axes, path, side="right")


def share_label(share: float) -> str:
    """A share of the picture that is hidden, in words."""
    return f"{share:.0%} hidden" if share else "clean"


def _bars(panel: Any, name: str, groups: Mapping[str, Mapping[int, SeedScores]], unit: str = "%") -> None:
    """Bars beside each other at whole numbers, one color for each group; points are seeds.

    A single seed of robustness has its bootstrap interval instead.
    """
    panel.set_xlabel(f"{name} ({unit})")
    _plain(panel, grid="x")
    thickness = 0.8 / len(groups)
    for number, (label, scores) in enumerate(groups.items()):
        places = np.array(list(scores)) + (number - (len(groups) - 1) / 2) * thickness
        means = [100 * score.mean for score in scores.values()]
        panel.barh(places, means, thickness * 0.9, color=SERIES[number % len(SERIES)], label=label)
        for place, score in zip(places, scores.values(), strict=True):
            if isinstance(score, Score) and len(score.values) == 1:
                panel.plot(_band(score), [place, place], color="black", linewidth=1.2)
            else:
                seeds = [100 * value for value in score.values]
                dots = {"markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.7}
                panel.plot(seeds, [place] * len(seeds), "ko", **dots)


def _band(score: Score) -> tuple[float, float]:
    """Ends in per cent."""
    if score.deviation is not None:
        return 100 * (score.mean - score.deviation), 100 * (score.mean + score.deviation)
    low, high = score.interval.low, score.interval.high
    return (math.nan, math.nan) if low is None or high is None else (100 * low, 100 * high)


def _plain(panel: Any, grid: str) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis=grid, alpha=0.3)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8)


def _finish(figure: "Figure", panel: Any, path: Path, side: str = "center") -> Path:
    """Add the legend of a panel, and write the PNG."""
    handles, labels = panel.get_legend_handles_labels()
    place: Any = f"outside upper {side}"
    figure.legend(handles, labels, frameon=False, loc=place, ncols=min(len(labels), 5), fontsize=9)
    figure.savefig(path, dpi=130)
    return path
