"""The parts that a page is made of, and the template that they are filled into."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from maskris.evaluation.bootstrap import Interval
from maskris.reporting.html.contents import Gallery
from maskris.reporting.plots import SERIES
from maskris.reporting.scores import interval_texts


class Key(NamedTuple):
    """The name of a model, marked with its color of `SERIES` where there are several models."""

    name: str
    color: int | None = None


class Estimate(NamedTuple):
    """A number and its interval, which take two columns so that both line up."""

    value: str = ""
    interval: str = ""
    strong: bool = False


class Strip(NamedTuple):
    """Intervals on a common scale from 0 to 1, each with its color; their numbers must stand beside them."""

    intervals: Sequence[tuple[int, Interval]]


class Code(NamedTuple):
    """Text of a program, and what is shown where the mouse rests on it."""

    text: str
    title: str | None = None


Cell = str | Key | Estimate | Strip | Code


class Head(NamedTuple):
    """A heading over one column or several.

    Attributes:
        content: What it says; an empty one heads nothing.
        span: How many columns lie under it; an `Estimate` needs two.
        text: Whether the column holds text, not numbers.
        key: A model that is named after the content.
        scale: Whether the ends of the scale of a `Strip` stand there.
    """

    content: str = ""
    span: int = 1
    text: bool = False
    key: Key | None = None
    scale: bool = False


class Group(NamedTuple):
    """Rows of a table that belong together; the first cell of each is its heading."""

    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table; `kind` is a class of the style sheet.

    Raises:
        ValueError: If a row has more cells than columns, or fewer.
    """

    caption: str
    heads: Sequence[Sequence[Head]]
    groups: Sequence[Group]
    kind: str = ""

    def __post_init__(self) -> None:
        """Check the widths."""
        for row in (row for group in self.groups for row in group.rows):
            if (cells := sum(1 + isinstance(cell, Estimate) for cell in row)) != len(self.texts):
                raise ValueError(f"A row has {cells} cells under {len(self.texts)} columns")

    @property
    def texts(self) -> list[bool]:
        """Whether each column holds text."""
        return [head.text for head in self.heads[-1] for _ in range(head.span)]


class Figure(NamedTuple):
    """Charts as titles and SVG, with a legend where there are several models."""

    caption: str
    legend: Sequence[Key]
    panels: Sequence[tuple[str, str]]


class Recipe(NamedTuple):
    """The text of a recipe, folded."""

    model: Key
    text: str


Part = str | PageTable | Figure | Gallery | Recipe


class Section(NamedTuple):
    """A section; it is left out if it has no parts."""

    anchor: str
    title: str
    parts: Sequence[Part]


def estimate(interval: Interval, digits: int = 2) -> Estimate:
    """A value with the ends of its interval, in per cent."""
    return Estimate(*interval_texts(interval, digits))


def difference(interval: Interval, digits: int = 2) -> Estimate:
    """A difference with the ends of its interval, in points; strong where there is no zero between them."""
    value, ends = (text.replace("-", "\u2212") for text in interval_texts(interval, digits, sign="+"))
    return Estimate(value, ends, bool(ends) and not interval.contains(0))


def render(title: str, lead: Any, models: Sequence[Key], sections: Sequence[Section]) -> str:
    """The whole file. Every string is escaped but the charts, which matplotlib has written.

    Args:
        title: Of the page.
        lead: What the summary is about; ``None`` where nothing was measured.
        models: All of the report.
        sections: In their order.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    for kind in (Key, Estimate, Strip, Code, PageTable, Figure, Gallery, Recipe):
        environment.tests[kind.__name__] = lambda value, kind=kind: isinstance(value, kind)
    folder = files("maskris.reporting.html")
    template = environment.from_string(folder.joinpath("report.html.jinja").read_text(encoding="utf-8"))
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    kept = [section for section in sections if section.parts]
    return template.render(title=title, lead=lead, models=models, sections=kept, style=style, colors=SERIES) + "\n"
