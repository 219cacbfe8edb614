"""Numbers as the page prints them: per cent, with real minus signs, and with their intervals."""

from typing import NamedTuple

from maskris.evaluation.bootstrap import Interval
from maskris.evaluation.page.html import Html, join, tag
from maskris.evaluation.report import NOTHING, percent

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
