"""Links and images of the README and the docs lead somewhere, as GitHub shows them."""

import re

import pytest
from docs_blocks import PAGES, ROOT

IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text: str) -> list[str]:
    """Everything between `](` and `)`, outside of code."""
    text = re.sub(r"^```.*?^```$|`[^`\n]*`(?!\])", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for link in links(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "mailto:")):
            continue
        assert not link.startswith(("http:", "/")), f"{page}: {link} must be https, or relative"
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), f"{page}: {link} leaves the repository"
        assert target.is_file(), f"{page}: there is no {path}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link} has no such heading"


def test_every_picture_is_shown_somewhere():
    shown = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in links(page.read_text(encoding="utf-8"))
        if link.endswith((".png", ".svg", ".jpg", ".webp"))
    }
    assert {path for path in (ROOT / "docs" / "images").iterdir() if path.is_file()} <= shown


def test_headings_and_links_are_found():
    text = "# A `b` (c)\n```sh\n# no heading\n[x](no-link)\n```\n`](neither)` [y](z.md#a-b-c) ![`w`](v.png)"
    assert anchors(text) == {"a-b-c"}
    assert links(text) == ["z.md#a-b-c", "v.png"]
