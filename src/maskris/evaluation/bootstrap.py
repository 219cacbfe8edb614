"""How sure a metric is: seeded percentile bootstrap over the expressions of an evaluation, alone or against another.

Every metric here is a ratio of two sums over the expressions (oIoU: intersections over unions; mIoU: IoUs over ones),
so one draw of the expressions gives all metrics at once, as a matrix product. The draws depend on the seed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from maskris.evaluation.result import Evaluation
from maskris.utils.rng import KeyedRandom

Floats = npt.NDArray[np.float64]

Unit = Literal["expression", "image", "referent"]
"""What is drawn with replacement. Expressions about one image or referent share its difficulty, so intervals over
images are the honest ones for "other photos"; those over expressions answer "other sentences on photos like these"."""

_KEYS = {"image": ("dataset", "split_by", "image_id"), "referent": ("dataset", "split_by", "ref_id")}

_SAME = ("dataset", "split_by", "split", "image_id", "ref_id", "number", "expression", "target_area")

_DRAWS_AT_ONCE = 2**21  # 16 MiB each of draws and of how often each unit was drawn


@dataclass(frozen=True)
class Interval:
    """A number and where it would mostly lie if the data were drawn again.

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
    unit: Unit = "expression",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of an evaluation's metrics.

    Args:
        evaluation: With one row per expression; its protocol defines the metrics.
        metrics: Names as in `Evaluation.metrics`; by default all of them.
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
    sums = _per_unit(evaluation, metrics, _units(evaluation, unit))
    drawn = _ratios(resample(sums, resamples, seed))  # [B, M]
    values = evaluation.metrics
    names = _chosen(evaluation, metrics)
    return {name: percentile_interval(values[name], drawn[:, i], level) for i, name in enumerate(names)}


def paired_intervals(
    first: Evaluation,
    second: Evaluation,
    metrics: Sequence[str] | None = None,
    *,
    unit: Unit = "expression",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of the differences first - second of two evaluations over the same expressions.

    Both are drawn together, which cancels what makes an expression hard for either: these intervals are narrower than
    those of the two alone would suggest. An interval without 0 says that the difference is not one of the sample drawn;
    another training seed is another matter.

    Args:
        first: One evaluation.
        second: Of another model, of the same expressions in any order and under the same protocol.
        metrics: As for `intervals`.
        unit: As for `intervals`.
        level: As for `intervals`.
        resamples: As for `intervals`.
        seed: As for `intervals`.

    Raises:
        ValueError: If the expressions or the protocols differ.
    """
    if first.protocol != second.protocol:
        raise ValueError(
            f"The evaluations follow different protocols, {first.protocol.name} and {second.protocol.name}; evaluate "
            "both under one"
        )
    first, second = _sorted(first), _sorted(second)
    _check_same_expressions(first, second)
    units, names = _units(first, unit), _chosen(first, metrics)
    sums = np.concatenate([_per_unit(one, names, units) for one in (first, second)], axis=1)
    drawn = resample(sums, resamples, seed)
    middle = drawn.shape[1] // 2
    difference = _ratios(drawn[:, :middle]) - _ratios(drawn[:, middle:])  # [B, M]
    a, b = first.metrics, second.metrics
    return {name: percentile_interval(a[name] - b[name], difference[:, i], level) for i, name in enumerate(names)}


def paired_over_seeds(
    first: Sequence[Evaluation],
    second: Sequence[Evaluation],
    metric: str,
    *,
    unit: Unit = "image",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The interval of the mean difference of two methods that were trained with the same seeds.

    All evaluations are drawn together, as in `paired`, and the differences are averaged over the seeds. The interval
    speaks of other data; how much the seeds differ is another number.

    Args:
        first: Evaluations of one method, by seed.
        second: Those of the other, with the same seeds in the same order.
        metric: Name of the metric.
        unit: As for `intervals`.
        level: As for `intervals`.
        resamples: As for `intervals`.
        seed: As for `intervals`.

    Raises:
        ValueError: If the numbers of evaluations, their expressions or their protocols differ.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"Give as many evaluations of one as of the other, not {len(first)} and {len(second)}")
    everyone = [_sorted(evaluation) for evaluation in (*first, *second)]
    for other in everyone[1:]:
        if other.protocol != everyone[0].protocol:
            raise ValueError("The evaluations follow different protocols; evaluate all under one")
        _check_same_expressions(everyone[0], other)
    units = _units(everyone[0], unit)
    drawn = _ratios(resample(np.concatenate([_per_unit(one, [metric], units) for one in everyone], 1), resamples, seed))
    seeds = len(first)
    difference = (drawn[:, :seeds] - drawn[:, seeds:]).mean(1)
    value = np.mean([a.metrics[metric] - b.metrics[metric] for a, b in zip(first, second, strict=True)])
    return percentile_interval(float(value), difference, level)


def ratio_interval(
    numerator: Floats, denominator: Floats, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The interval of ``sum(numerator) / sum(denominator)`` of any numbers; ones below make it that of a mean.

    Args:
        numerator: ``[N]``.
        denominator: ``[N]``.
        level: As for `intervals`.
        resamples: As for `intervals`.
        seed: As for `intervals`.
    """
    sums = np.stack([numerator, denominator], axis=1).astype(np.float64)
    value = _ratios(sums.sum(0, keepdims=True))[0, 0]
    return percentile_interval(float(value), _ratios(resample(sums, resamples, seed))[:, 0], level)


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


def ratios(evaluation: Evaluation) -> dict[str, tuple[Floats, Floats]]:
    """Every metric as numerators and denominators of the expressions, each ``[N]``; their sums' ratio is the metric.

    The names are those of `Evaluation.metrics`, without the number of expressions.
    """
    counts, protocol = evaluation.counts, evaluation.protocol
    exists, found = evaluation.exists, counts.prediction > 0
    everything = np.ones(len(evaluation), dtype=bool)
    right = ~exists & ~found
    kept = exists if protocol.empty_target == "exclude" else everything
    referents = everything if protocol.empty_target == "miss" else exists  # what Pr@X is a share of
    pairs = {
        "oIoU": (counts.intersection, counts.union * kept),
        "mIoU": (counts.iou + right * (protocol.empty_target == "hit"), kept),
        **{f"Pr@{x:g}": (counts.reaches(x, protocol.comparison), referents) for x in protocol.thresholds},
        "box accuracy": (counts.box_hits, referents),
    }
    if not exists.all():
        pairs |= {
            "gIoU": (counts.iou + right, everything),
            "N-acc": (right, ~exists),
            "T-acc": (exists & found, exists),
        }
    return {name: (np.asarray(a, np.float64), np.asarray(b, np.float64)) for name, (a, b) in pairs.items()}


def _chosen(evaluation: Evaluation, metrics: Sequence[str] | None) -> list[str]:
    known = [name for name in evaluation.metrics if name != "N"]
    if unknown := [name for name in metrics or () if name not in known]:
        raise ValueError(f"There is no metric {', '.join(unknown)} in this evaluation, but {', '.join(known)}")
    return known if metrics is None else list(metrics)


def _per_unit(evaluation: Evaluation, metrics: Sequence[str] | None, units: npt.NDArray[np.int64] | None) -> Floats:
    """Numerators and denominators of the metrics, summed over each unit: ``[U, 2 M]``."""
    pairs = ratios(evaluation)
    columns = [column for name in _chosen(evaluation, metrics) for column in pairs[name]]
    if units is None:
        return np.stack(columns, axis=1)
    return np.stack([np.bincount(units, weights=column) for column in columns], axis=1)


def _units(evaluation: Evaluation, unit: Unit) -> npt.NDArray[np.int64] | None:
    """The number of each expression's unit, from 0; ``None`` where every expression is its own."""
    if unit not in get_args(Unit):
        raise ValueError(f"The unit must be {', '.join(get_args(Unit))}, not {unit!r}")
    if unit == "expression" or not len(evaluation):
        return None
    codes = [evaluation.rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in _KEYS[unit]]
    numbers = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1]
    return np.asarray(numbers.reshape(-1), dtype=np.int64)


def _ratios(sums: Floats) -> Floats:
    """Columns 0, 2 and so on over the columns beside them."""
    return ratio(sums[:, ::2], sums[:, 1::2])


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """One over the other; NaN where the latter is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def percentile_interval(value: float, drawn: Floats, level: float = 0.95) -> Interval:
    """Where most of the resamples lie.

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


def _sorted(evaluation: Evaluation) -> Evaluation:
    order = pc.sort_indices(evaluation.rows, sort_keys=[(name, "ascending") for name in _SAME])
    return Evaluation(evaluation.rows.take(order), evaluation.protocol)


def _check_same_expressions(first: Evaluation, second: Evaluation) -> None:
    if len(first) != len(second):
        raise ValueError(f"The evaluations are of {len(first):,} and {len(second):,} expressions, not of the same ones")
    a, b = (evaluation.rows.select(_SAME).combine_chunks() for evaluation in (first, second))
    if a.equals(b):
        return
    different = np.logical_or.reduce([_numpy(pc.not_equal(a[name], b[name])) for name in _SAME])
    i = int(different.argmax())
    raise ValueError(
        f"The evaluations are not of the same expressions: {int(different.sum()):,} of {len(first):,} differ, such as "
        f"{a.take([i]).to_pylist()[0]} and {b.take([i]).to_pylist()[0]}"
    )


def _numpy(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(values.fill_null(True).to_numpy(), dtype=bool)


def line_up(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations of the same expressions under one protocol, their rows in the order of the first.

    Raises:
        ValueError: If expressions or protocols differ.
    """
    first = evaluations[0]
    keys = _keys(first)
    aligned = [first]
    for other in evaluations[1:]:
        if other.protocol != first.protocol:
            raise ValueError(
                f"The evaluations follow different protocols, {first.protocol.name} and {other.protocol.name}; "
                "evaluate all under one"
            )
        place = {key: row for row, key in enumerate(_keys(other))}
        if len(keys) != len(other) or not place.keys() >= set(keys):
            raise ValueError(
                f"The evaluations are not of the same expressions ({len(first):,} and {len(other):,} of them)"
            )
        aligned.append(replace(other, rows=other.rows.take(pa.array([place[key] for key in keys], pa.int64()))))
    return aligned


def _keys(evaluation: Evaluation) -> list[tuple[object, ...]]:
    return list(zip(*(evaluation.rows[name].to_pylist() for name in _SAME), strict=True))


@dataclass(frozen=True)
class SeedScores:
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
