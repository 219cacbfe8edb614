"""Every string becomes text, never markup; the checker that the other tests of pages rely on finds what is wrong."""

import pytest
from html_check import check, read
from hypothesis import given
from hypothesis import strategies as st

from maskris.reporting.html.html import Html, data_uri, join, tag
from maskris.reporting.html.render import Document, Estimate, Group, Head

HOSTILE = "<img src=x onerror=alert(1)>\"'&</td><script>"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")))
def test_text_comes_back_as_it_was(text):
    root = read(tag("p", text, tag("b", text), title=text, lang=None))
    (p,) = root.all("p")
    assert p.attributes == {"title": text}
    assert p.text == text + text
    assert [node.name for node in p.children if not isinstance(node, str)] == ["b"]


def test_nothing_but_finished_markup_is_taken_for_markup():
    assert join("<b>", Html("<b>"), 3, 0.5, None) == "&lt;b&gt;<b>30.5"
    assert not isinstance(Html("<b>") + "<i>", Html)  # glued together, it is text again
    assert tag("p", Html("<b>") + "<i>") == "<p>&lt;b&gt;&lt;i&gt;</p>"
    assert tag("td", class_="x", colspan=2, aria_label='"', hidden=True, title=None) == (
        '<td class="x" colspan="2" aria-label="&quot;" hidden></td>'
    )
    assert tag("img", alt="") == '<img alt="">'
    with pytest.raises(ValueError, match="<img> can't have contents"):
        tag("img", "text")
    assert data_uri(b"\0\1", "image/jpeg") == "data:image/jpeg;base64,AAE="


def test_a_document_numbers_its_figures_and_tables_and_escapes_all_of_its_strings():
    page = Document(HOSTILE, HOSTILE)
    page.lead(HOSTILE)
    rows = [[HOSTILE, HOSTILE, Estimate(join(HOSTILE), join("[0, 1]"))]]
    heads = [[Head(None, 2), Head(HOSTILE, 2)], [Head(HOSTILE, text=True), Head("b"), Head("c", 2)]]
    tables = [page.table(HOSTILE, heads, [Group(rows, HOSTILE)]) for _ in range(2)]
    page.section("one", HOSTILE, *tables)
    page.section("nothing", "Nothing", None, Html())
    page.section("two", "Two", page.figure(HOSTILE, HOSTILE), page.figure("later", above=True))
    root = check(page.render())
    assert [caption.text.split(".")[0] for caption in root.all("figcaption")] == [
        "Table 1", "Table 2", "Figure 1", "Figure 2",
    ]  # fmt: skip
    assert [title.text for title in root.all("h2")] == [f"1{HOSTILE}", "2Two"]
    assert not list(root.all("img"))
    assert next(root.all("title")).text == HOSTILE
    assert next(root.all("td")).attributes == {"colspan": "2"}  # an empty heading heads nothing


def test_a_row_that_does_not_fit_under_the_headings_is_an_error():
    with pytest.raises(ValueError, match="A row has 1 cells under 2 columns"):
        Document("a").table("b", [[Head("c"), Head("d")]], [Group([["only one"]])])


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
        tag("script"),
        tag("img", src="data:,"),
        tag("img", src="https://a.b", alt="c"),
        tag("p", onclick="f()"),
        tag("a", "b", href="#nowhere"),
        tag("th", "b"),
        tag("h4", "b"),
    ],
)
def test_the_checker_finds_what_no_page_may_have(wrong):
    page = Document("a")
    page.section("one", "One", wrong)
    with pytest.raises((AssertionError, KeyError)):
        check(page.render())
