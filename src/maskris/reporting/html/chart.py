"""Charts as inline SVG: they take their colors from the page's style sheet, and so follow its dark mode and print."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from maskris.evaluation.bootstrap import Interval
from maskris.reporting.html.html import Html, tag

STYLES = 4
"""Colors and dashes that the style sheet has; a fifth model looks like the first."""

WIDTH, HEIGHT = 360, 216  # of a line chart, in the units of its text

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 38

_MOST_POINTS = 400

_MARKED = 8  # a line of so few points shows where they are


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: What the legend calls it.
        x: Increasing numbers.
        y: As many; a gap where one is ``None``.
        style: Its color and dashes: class ``s<style>`` of the style sheet.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    style: int = 0


def line_chart(
    series: Sequence[Series],
    *,
    about: str,
    x: str,
    y: str,
    y_range: tuple[float, float] | None = None,
    log: bool = False,
) -> Html:
    """Lines over a common horizontal axis.

    Args:
        series: At least one, with at least one place.
        about: What the chart shows, for those who can't see it; the first and last values are added.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        y_range: Ends of the vertical axis; by default those of the numbers and 0, as for the horizontal one.
        log: Whether the vertical axis is logarithmic; numbers that are not positive are left out then.
    """
    thin = [_thinned(one) for one in series]
    if log:
        thin = [replace(one, y=[math.log10(v) if v is not None and v > 0 else None for v in one.y]) for one in thin]
    xs = [value for one in thin for value in one.x]
    ys = [value for one in thin for value in one.y if value is not None] or [0]
    left, right = min(0, *xs), max(xs)
    low, high = y_range or ((math.floor(min(ys)), math.ceil(max(ys))) if log else (min(0, *ys), max(ys)))
    x_ticks, y_ticks = ticks(left, right), ticks(low, high)
    labels = {v: short(10**v) if log else short(v) for v in y_ticks if not log or v == int(v)}

    def across(value: float) -> str:
        return f"{_LEFT + (value - left) / ((right - left) or 1) * (WIDTH - _LEFT - _RIGHT):.1f}"

    def up(value: float) -> str:
        return f"{HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1) * (HEIGHT - _TOP - _BOTTOM):.1f}"

    bottom = HEIGHT - _BOTTOM
    parts = [tag("path", d=f"M{_LEFT} {up(v)}H{WIDTH - _RIGHT}", class_="grid") for v in labels]
    parts += [tag("text", text, x=_LEFT - 6, y=up(v), dy="0.32em", text_anchor="end") for v, text in labels.items()]
    parts += [tag("path", d=f"M{across(v)} {bottom}v4", class_="axis") for v in x_ticks]
    parts += [tag("text", short(v), x=across(v), y=bottom + 16, text_anchor="middle") for v in x_ticks]
    parts.append(tag("path", d=f"M{_LEFT} {bottom}H{WIDTH - _RIGHT}", class_="axis"))
    parts.append(tag("text", x, x=(_LEFT + WIDTH - _RIGHT) / 2, y=HEIGHT - 5, text_anchor="middle", class_="name"))
    for one in thin:
        points = [None if v is None else (across(u), up(v)) for u, v in zip(one.x, one.y, strict=True)]
        if path := _path(points):
            parts.append(tag("path", d=path, class_=f"line s{one.style}"))
        if len(known := [point for point in points if point]) <= _MARKED:
            parts += [_dot(*point, one.style) for point in known]
    ends = "; ".join(_ends(one) for one in series)
    svg = tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=f"{about}. {ends}", class_="chart")
    return tag("div", tag("p", y, class_="axis-name"), svg, class_="panel")


def interval_strip(intervals: Mapping[int, Interval], *, width: int = 168) -> Html:
    """Values between 0 and 1 as points with their intervals, one under the other on a common scale.

    Args:
        intervals: By the number of the model, which decides the color. The numbers must stand beside the picture: it
            is hidden from those who can't see it.
        width: In pixels.
    """
    height = max(29, 9 * len(intervals) + 11)  # at least a row of the table, so that the grid has no gaps
    parts = [tag("path", d=f"M{_on(v, width)} 0V{height}", class_="grid") for v in (0, 0.25, 0.5, 0.75, 1)]
    for row, (number, one) in enumerate(intervals.items()):
        if one.value is None or one.low is None or one.high is None:
            continue
        y = f"{(row + 0.5) * (height - 6) / len(intervals) + 3:.1f}"
        ends = f"M{_on(one.low, width)} {y}H{_on(one.high, width)}"
        parts.append(tag("path", d=ends, class_=f"whisker s{number % STYLES}"))
        parts.append(_dot(_on(one.value, width), y, number % STYLES))
    return tag("svg", *parts, width=width, height=height, aria_hidden="true", class_="strip")


def strip_scale(width: int = 168) -> Html:
    """The scale over a column of `interval_strip`, in per cent."""
    marks = [(0, "start"), (0.5, "middle"), (1, "end")]
    parts = [
        tag("text", f"{100 * v:g}", x=_on(v, width) if a == "middle" else v * width, y=11, text_anchor=a)
        for v, a in marks
    ]
    return tag("svg", *parts, width=width, height=14, aria_hidden="true", class_="strip")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, about as many as wanted, that reach from `low` or just above it to `high` or just below it."""
    if not math.isfinite(high - low) or high <= low:
        return [low]
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number for an axis: 0.25, 1500, 20k, 5·10⁻⁵."""
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:g}k" if size < 1e6 else f"{value / 1e6:g}M"
    if size and size < 0.001:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{float(mantissa):g}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    return f"{value:g}".replace("-", "−")  # noqa: RUF001 (a minus sign)


def _dot(x: str, y: str, style: int) -> Html:
    return tag("circle", cx=x, cy=y, r=3, class_=f"dot s{style}")


def _on(value: float, width: int) -> str:
    """Where a fraction lies on a strip; points at the ends stay whole."""
    return f"{4 + value * (width - 8):.1f}"


def _path(points: Sequence[tuple[str, str] | None]) -> str:
    """SVG's path through points, with a gap at each ``None``."""
    commands = [
        f"{'L' if i and points[i - 1] is not None else 'M'}{' '.join(point)}"
        for i, point in enumerate(points)
        if point is not None
    ]
    return "".join(commands) if len(commands) > 1 else ""


def _thinned(series: Series) -> Series:
    """At most `_MOST_POINTS` points, each the mean of as many neighbors."""
    size = -(-len(series.x) // _MOST_POINTS)
    if size <= 1:
        return series
    x, y = [], []
    for i in range(0, len(series.x), size):
        known = [value for value in series.y[i : i + size] if value is not None]
        x.append(sum(series.x[i : i + size]) / len(series.x[i : i + size]))
        y.append(sum(known) / len(known) if known else None)
    return replace(series, x=x, y=y)


def _ends(series: Series) -> str:
    known = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]
    if not known:
        return f"{series.name}: nothing"
    (x0, y0), (x1, y1) = known[0], known[-1]
    return f"{series.name}: {y0:.4g} at {x0:g}, {y1:.4g} at {x1:g}"
