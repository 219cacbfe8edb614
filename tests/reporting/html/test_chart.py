"""Charts show the numbers that they are given, where they belong."""

import math
import re

import pytest
from html_check import read
from hypothesis import given
from hypothesis import strategies as st

from maskris.evaluation.bootstrap import Interval
from maskris.reporting.html.chart import HEIGHT, WIDTH, Series, interval_strip, line_chart, short, ticks


def drawn(markup):
    """The lines of a chart as lists of points, one list for each piece."""
    (svg,) = read(markup).all("svg")
    lines = [path for path in svg.all("path") if "line" in path.attributes["class"]]
    return svg, [
        [
            [tuple(map(float, point.split())) for point in piece.split("L")]
            for piece in path.attributes["d"][1:].split("M")
        ]
        for path in lines
    ]


def chart(*series, **options):
    return line_chart(series, about="About", x="step", y="loss", **options)


def test_a_line_goes_through_its_points_and_is_told_in_words():
    svg, lines = drawn(chart(Series("a<b", [0, 50, 100], [1, 3, 2]), Series("b", [0, 100], [0, 0], 1)))
    (first,), (second,) = lines
    heights = [y for _, y in first]
    assert heights[1] < heights[2] < heights[0]  # SVG counts downwards
    assert heights[0] - heights[2] == pytest.approx(heights[2] - heights[1], abs=0.11)
    assert first[1][0] - first[0][0] == pytest.approx(first[2][0] - first[1][0], abs=0.11)
    assert {y for _, y in second} == {max(float(t.attributes["y"]) for t in svg.all("text") if t.text == "0") - 16.0}
    assert svg.attributes["aria-label"] == "About. a<b: 1 at 0, 2 at 100; b: 0 at 0, 0 at 100"


def test_what_is_missing_is_a_gap_and_a_single_point_a_dot():
    svg, lines = drawn(chart(Series("a", [1, 2, 3, 4, 5], [1, 2, None, 3, 4]), Series("b", [1, 2], [None, 3])))
    assert [len(piece) for piece in lines[0]] == [2, 2]
    assert len(lines) == 1
    assert len(list(svg.all("circle"))) == 5  # few points are marked


def test_a_long_line_is_drawn_with_means_of_neighbors():
    _, ((points,),) = drawn(chart(Series("a", list(range(1000)), [i % 2 for i in range(999)] + [None]), y_range=(0, 1)))
    assert len(points) == 333
    top, bottom = 10, HEIGHT - 38
    assert {y for _, y in points} == {round(bottom - share * (bottom - top), 1) for share in (1 / 3, 2 / 3)}


def test_a_logarithmic_axis_has_powers_of_ten_and_leaves_out_what_it_cannot_show():
    svg, lines = drawn(chart(Series("a", [1, 2, 3, 4], [0.5, 5, 50, 0]), log=True))
    (piece,) = lines[0]
    assert piece[0][1] - piece[1][1] == pytest.approx(piece[1][1] - piece[2][1], abs=0.11)
    assert len(piece) == 3
    assert [text.text for text in svg.all("text")][:4] == ["0.1", "1", "10", "100"]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.one_of(st.none(), st.floats(-1e9, 1e9))), min_size=1, max_size=30),
    st.booleans(),
)
def test_everything_stays_within_the_picture(points, log):
    x, y = zip(*sorted(points, key=lambda point: point[0]), strict=True)
    svg, _ = drawn(chart(Series("a", x, y), log=log))
    for path in svg.all("path"):
        for across, up in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.attributes["d"]):
            assert 0 <= float(across) <= WIDTH
            assert 0 <= float(up) <= HEIGHT


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_within_the_ends(low, width):
    high = low + width
    found = ticks(low, high)
    assert 1 <= len(found) <= 7
    assert found == sorted(found)
    assert low - 1e-6 * width <= found[0]
    assert found[-1] <= high + 1e-6 * width


def test_ticks_and_numbers_of_an_axis():
    assert ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert ticks(0.1, 0.4) == [0.1, 0.2, 0.3, 0.4]
    assert ticks(3, 3) == [3]
    assert ticks(0, math.inf) == [0]
    assert list(map(short, (0, 0.25, -2, 1500, 20_000, 2.5e6, 5e-5))) == [
        "0", "0.25", "\u22122", "1500", "20k", "2.5M", "5·10⁻⁵",
    ]  # fmt: skip


def test_a_strip_has_a_point_and_an_interval_for_each_model_that_has_them():
    strip = interval_strip(
        {1: Interval(0.5, 0.25, 0.75), 2: Interval(None, None, None), 4: Interval(1, 1, 1)}, width=208
    )
    (svg,) = read(strip).all("svg")
    assert [(dot.attributes["cx"], dot.attributes["class"]) for dot in svg.all("circle")] == [
        ("104.0", "dot s1"), ("204.0", "dot s0"),
    ]  # fmt: skip
    whiskers = [path.attributes["d"] for path in svg.all("path") if "whisker" in path.attributes["class"]]
    assert re.fullmatch(r"M54\.0 [\d.]+H154\.0", whiskers[0])
