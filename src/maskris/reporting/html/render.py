"""`Document`: the frame of the page, its numbered sections, figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

from maskris.evaluation.bootstrap import Interval
from maskris.reporting.html.html import Content, Html, join, tag
from maskris.reporting.tables import NOTHING, percent

MINUS = "\u2212"


class Estimate(NamedTuple):
    """A number and its interval, which tables set into two columns so that both line up."""

    value: Html
    interval: Html

    def inline(self) -> Html:
        """Both, for a sentence."""
        return join(self.value, "\u00a0", tag("span", self.interval, class_="interval"))


EMPTY = Estimate(Html(), Html())


def points(value: float, digits: int = 2) -> str:
    """A difference of fractions in percentage points, always with its sign."""
    return f"{100 * value:+.{digits}f}".replace("-", MINUS)


def estimate(interval: Interval, digits: int = 2) -> Estimate:
    """A value with the ends of its interval."""
    if interval.value is None or interval.low is None or interval.high is None:
        return Estimate(join(NOTHING), Html())
    ends = f"[{percent(interval.low, digits)}, {percent(interval.high, digits)}]"
    return Estimate(join(percent(interval.value, digits)), join(ends))


def difference(interval: Interval, digits: int = 2) -> Estimate:
    """A difference with the ends of its interval; bold where there is no zero between them."""
    if interval.value is None or interval.low is None or interval.high is None:
        return Estimate(join(NOTHING), Html())
    value = points(interval.value, digits)
    ends = f"[{points(interval.low, digits)}, {points(interval.high, digits)}]"
    return Estimate(join(value) if interval.contains(0) else tag("strong", value), join(ends))


# Nothing is fetched and nothing is run, whatever a string in the page may say.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Head:
    """A heading over one column or several; an `Estimate` needs two.

    Attributes:
        content: What it says.
        span: How many columns lie under it.
        text: Whether the column holds text, not numbers.
    """

    content: Content
    span: int = 1
    text: bool = False


@dataclass(frozen=True)
class Group:
    """Rows of a table that belong together; the first cell of each row is its heading."""

    rows: Sequence[Sequence[Content | Estimate]]
    title: Content = None


class Document:
    """Collects sections, and numbers what is in them in the order in which it is made.

    Args:
        title: Of the page.
        subtitle: Under it.
    """

    def __init__(self, title: str, subtitle: Content = None) -> None:
        self.title = title
        self._subtitle = subtitle
        self._lead: list[Html] = []
        self._sections: list[tuple[str, str, Html]] = []
        self._figures = 0
        self._tables = 0

    def lead(self, *paragraphs: Content) -> None:
        """What stands before the first section."""
        self._lead += [tag("p", paragraph) for paragraph in paragraphs]

    def section(self, name: str, title: str, *parts: Html | None) -> None:
        """Add a section; nothing is added where nothing is in it.

        Args:
            name: Its anchor.
            title: Its heading.
            *parts: Its contents.
        """
        if kept := [part for part in parts if part]:
            self._sections.append((name, title, join(*kept)))

    def figure(self, caption: Content, *parts: Content, above: bool = False, class_: str = "") -> Html:
        """A numbered figure, its caption below it or above it."""
        self._figures += 1
        text = tag("figcaption", tag("b", f"Figure {self._figures}."), " ", caption)
        inside = [text, *parts] if above else [*parts, text]
        classes = f"{class_} captioned" if above else class_
        return tag("figure", *inside, id=f"figure-{self._figures}", class_=classes.strip() or None)

    def table(
        self, caption: Content, heads: Sequence[Sequence[Head]], groups: Sequence[Group], class_: str = ""
    ) -> Html:
        """A numbered table, its caption above it; it scrolls within itself where the screen is narrow.

        Args:
            caption: What it shows.
            heads: Rows of headings, each over all columns.
            groups: Its rows.
            class_: For the style sheet.
        """
        self._tables += 1
        name = f"table-{self._tables}"
        text = [head.text for head in heads[-1] for _ in range(head.span)]
        bodies = []
        for group in groups:
            rows = [tag("tr", *_cells(row, text)) for row in group.rows]
            if group.title is not None:
                rows.insert(0, tag("tr", tag("th", group.title, colspan=len(text), scope="rowgroup")))
            bodies.append(tag("tbody", *rows))
        top = tag("thead", *(tag("tr", *map(_heading, row)) for row in heads))
        labeled = f"{name}-caption"
        about = tag("figcaption", tag("b", f"Table {self._tables}."), " ", caption, id=labeled)
        table = tag("table", top, *bodies, aria_labeledby=labeled)
        box = tag("div", table, class_="scroll", role="region", tabindex=0, aria_labeledby=labeled)
        return tag("figure", about, box, id=name, class_=f"captioned {class_}".strip())

    def render(self) -> str:
        """The whole file."""
        style = files("maskris.reporting.html").joinpath("style.css").read_text(encoding="utf-8")
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name_="color-scheme", content="light dark"),
            tag("meta", name_="generator", content="maskris report"),
            tag("title", self.title),
            tag("link", rel="icon", href="data:,"),
            tag("style", Html(style)),
        )
        front = tag("header", tag("h1", self.title), tag("p", self._subtitle, class_="subtitle"))
        lead = tag("div", *self._lead, class_="lead")
        links, sections = [], []
        for number, (name, title, body) in enumerate(self._sections, 1):
            links.append(tag("li", tag("a", f"{number}\u2002{title}", href=f"#{name}")))
            heading = tag("h2", tag("span", number, class_="number"), title, id=f"{name}-title")
            sections.append(tag("section", heading, body, id=name, aria_labeledby=f"{name}-title"))
        contents = tag("nav", tag("ol", *links), aria_label="Contents")
        body = tag("body", tag("main", front, lead, contents, *sections))
        return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _heading(head: Head) -> Html:
    span = head.span if head.span > 1 else None
    if head.content is None:  # an empty heading heads nothing
        return tag("td", colspan=span)
    scope = "col" if span is None else "colgroup"
    return tag("th", head.content, scope=scope, colspan=span, class_="text" if head.text else None)


def _cells(row: Sequence[Content | Estimate], text: Sequence[bool]) -> list[Html]:
    """The first cell as the row's heading, an estimate as two cells."""
    cells: list[Html] = []
    for cell in row:
        if isinstance(cell, Estimate):
            cells += [tag("td", cell.value), tag("td", cell.interval, class_="interval")]
        elif not cells:
            cells.append(tag("th", cell, scope="row"))
        else:
            cells.append(tag("td", cell, class_="text" if text[len(cells)] else None))
    if len(cells) != len(text):
        raise ValueError(f"A row has {len(cells)} cells under {len(text)} columns")
    return cells
