"""The cells that the tables of a page consist of, and the template that writes them."""

import base64
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined

from maskris.evaluation.bootstrap import Interval
from maskris.reporting.plots import SERIES
from maskris.reporting.scores import interval_texts


class Key(NamedTuple):
    """The name of a model, and the number of its color in `SERIES` where there are several models."""

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
    title: str = ""


Cell = str | Estimate | Strip | Code


class Group(NamedTuple):
    """Rows of a table that belong together; the first cell of each is its heading."""

    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""


def estimate(interval: Interval, digits: int = 2) -> Estimate:
    """A value with the ends of its interval, in per cent."""
    return Estimate(*interval_texts(interval, digits))


def difference(interval: Interval, digits: int = 2) -> Estimate:
    """A difference with the ends of its interval, in points; strong where there is no zero between them."""
    value, ends = (text.replace("-", "\u2212") for text in interval_texts(interval, digits, sign="+"))
    return Estimate(value, ends, bool(ends) and not interval.contains(0))


def render(**page: Any) -> str:
    """The whole file. The template escapes every string but the charts, which matplotlib has written.

    Args:
        **page: What the template is filled with, see `maskris.reporting.html.sections.compose`.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    for kind in (Estimate, Strip, Code):
        environment.tests[kind.__name__] = lambda value, kind=kind: isinstance(value, kind)
    folder = files("maskris.reporting.html")
    template = environment.from_string(folder.joinpath("report.html.jinja").read_text(encoding="utf-8"))
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    return template.render(style=style, colors=SERIES, **page) + "\n"
