"""What tests ask of an HTML page: tags that close in order, and what stands in which element."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"br", "col", "img", "link", "meta"}


@dataclass
class Node:
    name: str
    attributes: dict
    parent: "Node | None" = None
    children: list = field(default_factory=list)  # nodes and strings

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, name):
        """Every element of a name below this one, in the order of the page."""
        for child in self.children:
            if isinstance(child, Node):
                if child.name == name:
                    yield child
                yield from child.all(name)

    def of_class(self, name):
        return [node for tag in ("div", "span", "p", "figure", "ul", "td") for node in self.all(tag)
                if name in node.attributes.get("class", "").split()]  # fmt: skip


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.root = self.open = Node("", {})

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        node = Node(tag, dict(attrs), self.open)
        self.open.children.append(node)
        if tag not in VOID:
            self.open = node

    def handle_startendtag(self, tag, attrs):
        raise AssertionError(f"<{tag}/> is XML")

    def handle_endtag(self, tag):
        assert tag == self.open.name, f"</{tag}> closes <{self.open.name}>"
        self.open = self.open.parent

    def handle_data(self, data):
        self.open.children.append(data)


def read(page):
    """The tree of a page; fails if tags don't close in order."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open is reader.root, f"<{reader.open.name}> is never closed"
    return reader.root


def check(page):
    """What holds for every page: complete in itself, without scripts, and usable by those who can't see it."""
    root = read(page)
    assert page.startswith("<!DOCTYPE html>")
    nodes, names = [root], set()
    while nodes:
        node = nodes.pop()
        nodes += [child for child in node.children if isinstance(child, Node)]
        names.add(node.name)
        for key, value in node.attributes.items():
            assert not key.startswith("on"), f"<{node.name}> has a handler {key}"
            if key in ("src", "href", "action", "srcset", "data"):
                assert value.startswith(("#", "data:")), f"<{node.name}> fetches {value[:60]}"
    assert not names & {"script", "iframe", "object", "embed", "form", "base"}
    style = next(root.all("style")).text
    assert "url(" not in style
    assert "@import" not in style
    (html,) = root.all("html")
    assert html.attributes["lang"] == "en"
    assert all(image.attributes["alt"].strip() for image in root.all("img"))
    assert all("aria-label" in svg.attributes or "aria-hidden" in svg.attributes for svg in root.all("svg"))
    assert all(head.attributes["scope"] in ("col", "row", "colgroup", "rowgroup") for head in root.all("th"))
    identities = [node.attributes["id"] for name in names - {""} for node in root.all(name) if "id" in node.attributes]
    assert len(set(identities)) == len(identities)
    for link in root.all("a"):
        assert link.attributes["href"][1:] in identities
    levels = [int(name[1]) for name in headings(root)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    for table in root.all("table"):
        widths = {sum(int(cell.attributes.get("colspan") or 1) for cell in row.children) for row in table.all("tr")}
        assert len(widths) == 1, f"rows of different widths: {widths}"
    return root


def headings(root):
    """Names of the headings in the order of the page."""
    found = []

    def visit(node):
        for child in node.children:
            if isinstance(child, Node):
                if child.name in ("h1", "h2", "h3", "h4"):
                    found.append(child.name)
                visit(child)

    visit(root)
    return found


def rows(table):
    """The texts of a table's body, row by row."""
    return [[cell.text for cell in row.children] for body in table.all("tbody") for row in body.all("tr")]
