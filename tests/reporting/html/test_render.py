"""Every string becomes text, never markup; the checker that the other tests of pages rely on finds what is wrong."""

import pytest
from html_check import check, read
from hypothesis import given, settings
from hypothesis import strategies as st

from maskris.evaluation.bootstrap import Interval
from maskris.reporting.html.contents import Example, Gallery, Picture
from maskris.reporting.html.render import (
    Code,
    Estimate,
    Figure,
    Group,
    Head,
    Key,
    PageTable,
    Recipe,
    Section,
    Strip,
    difference,
    estimate,
    render,
)

HOSTILE = "<img src=x onerror=alert(1)>\"'&</td><script>"


def page(*parts, title="A"):
    return render(title, None, [Key("A")], [Section("one", "One", parts)])


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")))
def test_text_comes_back_as_it_was(text):
    table = PageTable("c", [[Head("a", text=True), Head("b")]], [Group([[text, Code(text, text)]])])
    root = check(page(table, title=text))
    assert next(root.all("title")).text == text
    assert next(root.all("h1")).text == text
    (row,) = next(root.all("tbody")).all("tr")
    assert [cell.text for cell in row.children] == [text, text]
    assert list(root.all("code"))[-1].attributes.get("title", "") == text


def test_every_string_of_every_part_is_escaped():
    models = [Key(HOSTILE, 0), Key(HOSTILE, 1)]
    cells = [HOSTILE, HOSTILE, Estimate(HOSTILE, HOSTILE, True), Key(HOSTILE, 3)]
    heads = [
        [Head(span=2), Head(HOSTILE, 2, key=models[0]), Head(HOSTILE)],
        [Head(HOSTILE, text=True), Head("b"), Head(key=models[1], span=2), Head(scale=True)],
    ]
    tables = [PageTable(HOSTILE, heads, [Group([cells], HOSTILE, HOSTILE)]) for _ in range(2)]
    gallery = Gallery(HOSTILE, [Example(HOSTILE, HOSTILE, [Picture(HOSTILE, HOSTILE, b"", (1, 1), 0, 0.5)])])
    figure = Figure(HOSTILE, models, [(HOSTILE, '<svg aria-hidden="true"></svg>')])
    score = (models[0], Estimate(HOSTILE, HOSTILE), Estimate(HOSTILE, HOSTILE))
    lead = {
        "size": HOSTILE, "splits": HOSTILE, "scores": [score], "differences": [(models[1], Estimate(HOSTILE))],
        "drawn": HOSTILE, "resamples": HOSTILE, "protocol": HOSTILE, "decisions": HOSTILE,
    }  # fmt: skip
    parts = [*tables, HOSTILE, figure, gallery, Recipe(models[0], HOSTILE)]
    text = render(HOSTILE, lead, models, [Section("one", HOSTILE, parts), Section("nothing", "Nothing", [])])
    root = check(text)
    assert "<img src=x" not in text
    assert [caption.text.split(".")[0] for caption in root.all("figcaption")] == [
        "Table 1", "Table 2", "Figure 1", "Figure 2",
    ]  # fmt: skip
    assert [title.text for title in root.all("h2")] == [f"1{HOSTILE}"]
    assert next(root.all("title")).text == HOSTILE
    assert next(root.all("td")).attributes == {"colspan": "2"}  # an empty heading heads nothing
    assert {image.attributes["alt"] for image in root.all("img")} == {HOSTILE}
    assert [pre.text for pre in root.all("pre")] == [HOSTILE]


def test_a_row_that_does_not_fit_under_the_headings_is_an_error():
    with pytest.raises(ValueError, match="A row has 1 cells under 2 columns"):
        PageTable("b", [[Head("c"), Head("d")]], [Group([["only one"]])])


def test_numbers_with_their_intervals():
    assert estimate(Interval(0.5, 0.25, 1.0), 1) == ("50.0", "[25.0, 100.0]", False)
    assert estimate(Interval(None, None, None)).value == "\u2013"
    assert difference(Interval(-0.5, -1.0, -0.25)) == ("\u221250.00", "[\u2212100.00, \u221225.00]", True)
    assert not difference(Interval(0.0, 0.0, 0.0)).strong


def test_a_strip_has_a_point_and_an_interval_for_each_model_that_has_them():
    strip = Strip([(1, Interval(0.5, 0.25, 0.75)), (2, Interval(None, None, None)), (0, Interval(1.0, 1.0, 1.0))])
    root = check(page(PageTable("c", [[Head("a"), Head(scale=True)]], [Group([["b", strip]])])))
    svg = list(root.all("svg"))[1]
    assert [(dot.attributes["cx"], dot.attributes["class"]) for dot in svg.all("circle")] == [
        ("84.0", "dot s1"), ("164.0", "dot s0"),
    ]  # fmt: skip
    whiskers = [path.attributes["d"] for path in svg.all("path") if "whisker" in path.attributes["class"]]
    assert whiskers[0].startswith("M44.0 ")
    assert whiskers[0].endswith("H124.0")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("<p><b>x</p>", "closes <b>"),
        ("<p>", "never closed"),
        ('<p id="a" id="b"></p>', "attribute twice"),
        ("<p/>", "is XML"),
    ],
)
def test_the_checker_finds_broken_pages(wrong, words):
    with pytest.raises(AssertionError, match=words):
        read(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        "<script></script>",
        '<img src="data:,">',
        '<img src="https://a.b" alt="c">',
        '<p onclick="f()"></p>',
        '<a href="#nowhere">b</a>',
        "<th>b</th>",
        "<h4>b</h4>",
    ],
)
def test_the_checker_finds_what_no_page_may_have(wrong):
    with pytest.raises((AssertionError, KeyError)):
        check(page(Figure("c", [], [("d", wrong)])))  # charts are the only markup that is taken as it is
