"""The cells that the tables of a page consist of, and the template that writes them."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from maskris.evaluation.bootstrap import Interval
from maskris.reporting.plots import SERIES
from maskris.reporting.scores import interval_texts


class Estimate(NamedTuple):
    """A number and its interval, which take two columns so that both line up."""

    value: str = ""
    interval: str = ""
    strong: bool = False


class Strip(NamedTuple):
    """Intervals of models, by their numbers, on a common scale from 0 to 1; the values must stand beside them."""

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


def render(template: str = "report.html.jinja", **page: Any) -> str:
    """The whole file from what fills a template: that of `maskris.reporting.html.sections.compose`, by default.

    It escapes every string but the charts, which matplotlib has written.
    """
    environment = Environment(
        loader=PackageLoader("maskris.reporting", "html"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    for kind in (Estimate, Strip, Code):
        environment.tests[kind.__name__] = lambda value, kind=kind: isinstance(value, kind)
    return environment.get_template(template).render(colors=SERIES, **page) + "\n"
