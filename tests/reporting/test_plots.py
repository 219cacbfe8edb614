"""Charts of a page show the numbers that they are given, and follow the page's colors."""

import builtins
import re

import pytest
from html_check import read
from hypothesis import given, settings
from hypothesis import strategies as st

from maskris.reporting.plots import SERIES, Series, line_chart, new_figure


def drawn(markup):
    """The lines of a chart as lists of points, one list for each piece."""
    (svg,) = read(markup).all("svg")
    lines = [path for path in svg.all("path") if any(f"stroke: {color}" in style(path) for color in SERIES)]
    return svg, [
        [
            [tuple(map(float, point.split())) for point in piece.split("L")]
            for piece in path.attributes.get("d", "")[1:].split("M")
            if "L" in piece
        ]
        for path in lines
        if "fill: none" in style(path)
    ]


def style(node):
    return node.attributes.get("style", "")


def chart(*series, **options):
    return line_chart(series, about="About", x="step", **options)


def test_a_line_goes_through_its_points_and_is_told_in_words():
    svg, lines = drawn(chart(Series("a<b", [0, 50, 100], [1, 3, 2]), Series("b", [0, 100], [0, 0], 1)))
    (first,), (second,) = lines
    heights = [y for _, y in first]
    assert heights[1] < heights[2] < heights[0]  # SVG counts downwards
    assert heights[0] - heights[2] == pytest.approx(heights[2] - heights[1], abs=0.11)
    assert first[1][0] - first[0][0] == pytest.approx(first[2][0] - first[1][0], abs=0.11)
    assert second[0][1] == second[1][1] > heights[0]
    assert svg.attributes["aria-label"] == "About. a<b: 1 at 0, 2 at 100; b: 0 at 0, 0 at 100"
    assert [text.text for text in svg.all("text")][:7] == ["0", "20", "40", "60", "80", "100", "step"]


def test_what_is_missing_is_a_gap_and_few_points_are_marked():
    svg, lines = drawn(chart(Series("a", [1, 2, 3, 4, 5], [1, 2, None, 3, 4]), Series("b", [1, 2], [None, 3], 1)))
    assert [len(piece) for piece in lines[0]] == [2, 2]
    assert [style(use).split("fill: ")[1][:7] for use in svg.all("use") if SERIES[0] in style(use)] == [SERIES[0]] * 4
    assert len([use for use in svg.all("use") if SERIES[1] in style(use)]) == 1


def test_a_long_line_is_drawn_with_means_of_neighbors():
    y = [i % 2 for i in range(999)] + [None]
    _, ((points,),) = drawn(chart(Series("a", list(range(1000)), y), y_range=(0, 1)))
    assert len({x for x, _ in points}) == 333
    _, (((zero, one),),) = drawn(chart(Series("a", [0, 1], [0, 1]), y_range=(0, 1)))
    height = zero[1] - one[1]
    assert sorted({y for _, y in points}) == pytest.approx(
        [zero[1] - share * height for share in (2 / 3, 1 / 3)], abs=0.02
    )


def test_a_logarithmic_axis_has_powers_of_ten_and_leaves_out_what_it_cannot_show():
    svg, lines = drawn(chart(Series("a", [1, 2, 3, 4], [0.5, 5, 50, 0]), log=True))
    (piece,) = lines[0]
    assert piece[0][1] - piece[1][1] == pytest.approx(piece[1][1] - piece[2][1], abs=0.11)
    assert len(piece) == 3
    assert {"1", "10"} <= {text.text for text in svg.all("text")}


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.one_of(st.none(), st.floats(-1e9, 1e9))), min_size=1, max_size=30),
    st.booleans(),
)
def test_everything_stays_within_the_picture(points, log):
    x, y = zip(*sorted(points, key=lambda point: point[0]), strict=True)
    svg, lines = drawn(chart(Series("a", x, y), log=log))
    width, height = map(float, svg.attributes["viewbox"].split()[2:])
    for across, up in (point for line in lines for piece in line for point in piece):
        assert 0 <= across <= width
        assert 0 <= up <= height


def test_a_chart_has_the_colors_of_the_page_and_no_effect_on_it():
    charts = [chart(Series("a", [0, 20_000], [-5e-5, 0])), chart(Series("b", [0, 20_000], [-5e-5, 0]))]
    names = [set(re.findall(r' id="([^"]+)"', one)) for one in charts]
    assert not names[0] & names[1]
    for one in charts:
        svg, _ = drawn(one)
        assert {node.name for node in svg.all("style")} == set()
        assert "currentColor" in one
        assert "var(--hair)" in one
        assert "font-family" not in one
        assert set(re.findall(r"#[0-9a-f]{6}(?=[;\"])", one)) == {SERIES[0]}
        texts = [text.text for text in svg.all("text")]
        assert "20k" in texts
        assert "\u22122e\u221205" in texts


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'maskris\[plots\]'"):
        new_figure(1, 1)
