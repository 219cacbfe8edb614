"""Intervals of metrics and of their differences: a seeded percentile bootstrap over the rows of evaluations.

Every metric is a ratio of two sums over the expressions (oIoU: intersections over unions; mIoU: IoUs over ones),
so one draw of the expressions gives all metrics at once, as a matrix product. The draws depend on the seed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal, get_args

import numpy as np

from maskris.evaluation.metrics import Floats, Integers, metrics_of
from maskris.evaluation.result import Evaluation, align
from maskris.utils.rng import KeyedRandom

Unit = Literal["expression", "image", "referent"]
"""What is drawn with replacement. Expressions about one image or referent share its difficulty, so intervals over
images, the default everywhere, are those for other photos; intervals over expressions are narrower, for other sentences
about photos like these."""

_KEYS = {"image": ("dataset", "split_by", "image_id"), "referent": ("dataset", "split_by", "ref_id")}
_DRAWS_AT_ONCE = 2**21  # 16 MiB each of draws and of how often each unit was drawn


@dataclass(frozen=True)
class Interval:
    """A number with its percentile interval over resamples of the data.

    Attributes:
        value: The number for the data as they are, a fraction or a difference of two; ``None`` where it is undefined.
        low: Lower end of the interval; ``None`` where `value` is.
        high: Upper end.
        level: Share of the resamples between the ends (an equal share lies on either side).
    """

    value: float | None
    low: float | None
    high: float | None
    level: float = 0.95

    def contains(self, value: float) -> bool:
        """Whether a number lies within the ends."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


def bootstrap_intervals(
    evaluation: Evaluation,
    metrics: Sequence[str] | None = None,
    *,
    unit: Unit = "image",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of an evaluation's metrics.

    Args:
        evaluation: With one row per expression; its protocol defines the metrics.
        metrics: Keys as in `Evaluation.metrics`; by default all of them.
        unit: What is drawn: expressions, or all expressions of an image or of a referent together.
        level: Of the intervals.
        resamples: How often the data are drawn again. With 2,000 the ends are known to about 6 % of the standard error.
        seed: Of the draws.

    Returns:
        Intervals by metric; the values equal ``evaluation.metrics``. Resamples in which a metric is undefined (all
        unions empty, say) are left out of its interval.

    Raises:
        ValueError: If a metric, the unit or the level is unknown or out of range.
    """
    keys, values = _chosen([evaluation], metrics), evaluation.metrics
    drawn = _resampled([evaluation], keys, unit, resamples, seed)[:, 0]  # [B, M]
    return {key: percentile_interval(values[key], drawn[:, i], level) for i, key in enumerate(keys)}


def paired_intervals(
    first: Evaluation | Sequence[Evaluation],
    second: Evaluation | Sequence[Evaluation],
    metrics: Sequence[str] | None = None,
    *,
    unit: Unit = "image",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of the differences first - second of evaluations over the same expressions.

    All are drawn together, which cancels what makes an expression hard for either: these intervals are narrower than
    those of the two alone would suggest. An interval without 0 means that the difference is not one of the sample
    drawn; how much it depends on the seeds of the trainings is another number.

    Args:
        first: One evaluation, or those of a method that was trained with several seeds.
        second: Of another model, of the same expressions in any order and under the same protocol; of several seeds,
            the same ones in the same order. The differences are averaged over the seeds.
        metrics: As for `bootstrap_intervals`.
        unit: As for `bootstrap_intervals`.
        level: As for `bootstrap_intervals`.
        resamples: As for `bootstrap_intervals`.
        seed: Of the draws.

    Raises:
        ValueError: If the numbers of evaluations, their expressions or their protocols differ.
    """
    firsts, seconds = ([one] if isinstance(one, Evaluation) else one for one in (first, second))
    if len(firsts) != len(seconds) or not firsts:
        raise ValueError(f"Give as many evaluations of one as of the other, not {len(firsts)} and {len(seconds)}")
    aligned = align([*firsts, *seconds])
    keys = _chosen(aligned, metrics)
    of_first, of_second = np.split(_resampled(aligned, keys, unit, resamples, seed), 2, axis=1)  # [B, seeds, M] each
    difference = (of_first - of_second).mean(1)  # [B, M]
    pairs = [(a.metrics, b.metrics) for a, b in zip(firsts, seconds, strict=True)]
    values = [float(np.mean([a[key] - b[key] for a, b in pairs])) for key in keys]
    return {key: percentile_interval(values[i], difference[:, i], level) for i, key in enumerate(keys)}


def resample(values: Floats, resamples: int, seed: int) -> Floats:
    """Sums over `U` of `U` rows drawn with replacement.

    Sums of integers below 2**53 are exact, so the same on every machine.

    Args:
        values: ``[U, K]``.
        resamples: How many sums.
        seed: The draws depend on nothing else.

    Returns:
        ``[resamples, K]``.

    Raises:
        ValueError: If `resamples` is not positive.
    """
    if resamples < 1:
        raise ValueError(f"Intervals need at least one resample, not {resamples}")
    units = len(values)
    sums = np.zeros((resamples, values.shape[1]))
    if not units:
        return sums
    rng = KeyedRandom("bootstrap", seed)  # one stream, whatever the size of the pieces
    at_once = max(1, _DRAWS_AT_ONCE // units)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = rng.array(0, units, (count, units))
        drawn += units * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units)
        sums[start : start + count] = times.astype(np.float64) @ values
    return sums


def _chosen(evaluations: Sequence[Evaluation], metrics: Sequence[str] | None) -> list[str]:
    """Keys of metrics that all evaluations have; of masks alone, for example, there are no peaks."""
    known = [key for key in evaluations[0].scores.values if all(key in one.scores.values for one in evaluations)]
    if unknown := [key for key in metrics or () if key not in known]:
        raise ValueError(f"There is no metric {', '.join(unknown)} in this evaluation, but {', '.join(known)}")
    return known if metrics is None else list(metrics)


def _resampled(evaluations: Sequence[Evaluation], keys: Sequence[str], unit: Unit, resamples: int, seed: int) -> Floats:
    """Metrics of resamples that are drawn for all evaluations together: ``[B, evaluations, M]``."""
    units = units_of(evaluations[0], unit)
    sums = resample(np.concatenate([unit_sums(one, keys, units) for one in evaluations], 1), resamples, seed)
    sums = sums.reshape(resamples, len(evaluations), len(keys), 2)
    return ratio(sums[..., 0], sums[..., 1])


def unit_sums(evaluation: Evaluation, metrics: Sequence[str], units: Integers) -> Floats:
    """Numerators and denominators of metrics by their keys, summed over each unit of `units_of`: ``[U, 2 M]``."""
    known = metrics_of(evaluation.protocol)
    columns = [column for key in metrics for column in known[key].columns(evaluation.outcomes)]
    return np.stack([np.bincount(units, weights=column) for column in columns], axis=1)


def units_of(evaluation: Evaluation, unit: Unit = "image") -> Integers:
    """The number of each expression's unit, from 0.

    Raises:
        ValueError: If the unit is unknown.
    """
    if unit not in get_args(Unit):
        raise ValueError(f"The unit must be {', '.join(get_args(Unit))}, not {unit!r}")
    if unit == "expression" or not len(evaluation):
        return np.arange(len(evaluation))
    codes = [evaluation.rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in _KEYS[unit]]
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise quotients; NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def percentile_interval(value: float, drawn: Floats, level: float = 0.95) -> Interval:
    """The percentile interval of a number from its resamples.

    Args:
        value: Of the data as they are.
        drawn: Of the resamples ``[B]``; those that are not finite are left out.
        level: Share of them between the ends.

    Raises:
        ValueError: If the level is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"The level of an interval lies between 0 and 1, not {level}")
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(defined):
        return Interval(None, None, None, level)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high), level)


@dataclass(frozen=True)
class SeedScores:
    """A metric of one method over the seeds of its training.

    Attributes:
        values: One for each seed, fractions; NaN where nothing defines it.
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
