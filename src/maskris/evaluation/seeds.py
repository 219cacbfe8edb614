"""`OverSeeds`: one number measured for several seeds of a training, and its difference to another, as text."""

import math
from dataclasses import dataclass
from statistics import fmean, stdev

from maskris.evaluation.bootstrap import Interval
from maskris.evaluation.report import NOTHING


@dataclass(frozen=True)
class OverSeeds:
    """A metric of one method or variant.

    Attributes:
        values: By seed of the training, fractions; NaN where nothing defines it.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; ``None`` for a single one."""
        return stdev(self.values) if len(self.values) > 1 else None

    def text(self) -> str:
        """Mean ± deviation, in per cent; a dash where a seed has no value."""
        if any(map(math.isnan, self.values)):
            return NOTHING
        return f"{100 * self.mean:.1f}" + (f" ± {100 * self.deviation:.1f}" if self.deviation is not None else "")


def difference_text(interval: Interval, missing: str = NOTHING) -> str:
    """A difference and its interval, in points.

    Args:
        interval: Fractions.
        missing: What to say where the difference is undefined.
    """
    if interval.value is None or interval.low is None or interval.high is None:
        return missing
    return f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
