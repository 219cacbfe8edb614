"""Every string becomes text, never markup; the checker that the other tests of pages rely on finds what is wrong."""

from pathlib import Path

import pytest
from evaluation.made_up import made_up
from html_check import check, read
from hypothesis import given, settings
from hypothesis import strategies as st

from maskris.evaluation.bootstrap import Interval
from maskris.reporting.html.contents import Example, Gallery, Picture, Report, Subject
from maskris.reporting.html.sections import compose
from maskris.reporting.html.template import Strip, difference, estimate, render
from maskris.training.run_record import RunRecord


def report(name="A", *, evaluation=None, **record):
    return Report([Subject(name, RunRecord(Path("run"), **record), evaluation)], resamples=5)


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")))
def test_text_comes_back_as_it_was(text):
    settings = {"seed": text}
    shown = report(text, recipe=f"x{text}x", settings=settings, state={"run": {"model": text}})
    picture = Picture(text, f"a{text}", b"", (1, 1), 0, 0.5)
    root = check(compose(Report([*shown.subjects], [Gallery(text, [Example(text, text, [picture])])], resamples=5)))
    assert next(root.all("title")).text == text
    assert next(root.all("h1")).text == text
    (asked,) = root.of_class("asked")
    assert asked.text == f"“{text}”"
    assert [image.attributes["alt"] for image in root.all("img")] == [f"a{text}"]
    assert next(root.all("pre")).text == f"x{text}x".strip()
    facts = {row.children[0].text: row.children[1].text for row in root.all("tr") if len(row.children) == 2}
    assert facts["class"] == text


def test_figures_and_tables_are_numbered_and_what_is_empty_is_left_out():
    root = check(compose(report(evaluation=made_up(), recipe="a: 1")))
    assert [caption.text.split(".")[0] for caption in root.all("figcaption")] == [
        "Table 1", "Figure 1", "Table 2", "Table 3",
    ]  # fmt: skip
    assert [title.text for title in root.all("h2")] == [
        "1Metrics", "2Breakdowns", "3Configuration", "4Environment",
    ]  # fmt: skip
    assert [link.text.split() for link in next(root.all("nav")).all("a")] == [
        ["1", "Metrics"], ["2", "Breakdowns"], ["3", "Configuration"], ["4", "Environment"],
    ]  # fmt: skip
    empty = next(list(root.all("table"))[1].all("td"))
    assert empty.attributes == {"colspan": "2"}  # an empty heading heads nothing


def test_a_page_without_one_of_its_contents_is_an_error():
    with pytest.raises(Exception, match="'models' is undefined"):
        render(title="A")


def test_numbers_with_their_intervals():
    assert estimate(Interval(0.5, 0.25, 1.0), 1) == ("50.0", "[25.0, 100.0]", False)
    assert estimate(Interval(None, None, None)).value == "\u2013"
    assert difference(Interval(-0.5, -1.0, -0.25)) == ("\u221250.00", "[\u2212100.00, \u221225.00]", True)
    assert not difference(Interval(0.0, 0.0, 0.0)).strong
    assert not difference(Interval(None, None, None)).strong


def test_a_strip_has_a_point_and_an_interval_for_each_model_that_has_them(monkeypatch):
    strip = Strip([(1, Interval(0.5, 0.25, 0.75)), (2, Interval(None, None, None)), (0, Interval(1.0, 1.0, 1.0))])
    monkeypatch.setattr("maskris.reporting.html.sections.Strip", lambda _: strip)
    root = check(compose(report(evaluation=made_up())))
    svg = next(svg for svg in root.all("svg") if list(svg.all("circle")))
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
    page = compose(report())
    check(page)
    with pytest.raises((AssertionError, KeyError)):
        check(page.replace("</main>", f"{wrong}</main>"))
