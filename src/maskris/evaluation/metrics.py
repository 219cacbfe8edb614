"""What each metric is, written once in `METRICS`, and their values from exact, mergeable integer sums.

Every metric is a ratio of two sums over the expressions. Every sum is an integer (even that of the IoUs), so the result
depends neither on the order of the expressions nor on how they were spread over batches and processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskris.evaluation.protocol import Comparison, Protocol, exact

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
_UNIT = 128  # sums are in units of 2**-128: every float64 in {0} and [2**-75, 1], an IoU, is an exact multiple


@dataclass(frozen=True)
class Counts:
    """Pixel counts of `N` expressions, from which all metrics follow.

    Attributes:
        intersection: ``[N]`` int64, pixels in both masks.
        prediction: ``[N]`` int64, pixels of the predicted mask.
        target: ``[N]`` int64, pixels of the true mask.
        box_intersection: ``[N]`` int64, pixels common to the tight boxes of both masks (0 where one is empty).
        box_union: ``[N]`` int64, pixels in either box.

    Raises:
        ValueError: If lengths differ, or an intersection is larger than one of its masks.
    """

    intersection: Integers
    prediction: Integers
    target: Integers
    box_intersection: Integers
    box_union: Integers

    def __post_init__(self) -> None:
        """Check the counts; wrong ones would give wrong numbers silently."""
        shapes = {values.shape for values in vars(self).values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"Counts need five arrays of one length, not shapes {sorted(shapes)}")
        wrong = (
            (self.intersection < 0)
            | (self.intersection > np.minimum(self.prediction, self.target))
            | (self.box_intersection < 0)
            | (self.box_intersection > self.box_union)
        )
        if wrong.any():
            i = int(wrong.argmax())
            row = {key: int(values[i]) for key, values in vars(self).items()}
            raise ValueError(f"Counts of expression {i} contradict each other: {row}")

    def __len__(self) -> int:
        """The number of expressions."""
        return len(self.intersection)

    @property
    def union(self) -> Integers:
        """``[N]`` int64, pixels in either mask."""
        return self.prediction + self.target - self.intersection

    @property
    def iou(self) -> Floats:
        """``[N]`` float64, intersection over union; 0 where both masks are empty."""
        return self.intersection / np.maximum(self.union, 1)

    @property
    def box_iou(self) -> Floats:
        """``[N]`` float64, intersection over union of the boxes; 0 where both masks are empty."""
        return self.box_intersection / np.maximum(self.box_union, 1)

    def reaches(self, threshold: float, comparison: Comparison = ">=") -> Bools:
        """``[N]`` bool, whether the IoU is at least (or above) a threshold; never where both masks are empty."""
        x = exact(threshold)  # integers on both sides, so 7 of 10 pixels are exactly 0.7
        left, right = self.intersection * x.denominator, self.union * x.numerator
        return (left >= right) & (self.union > 0) if comparison == ">=" else left > right

    @classmethod
    def from_tensor(cls, counts: Tensor) -> "Counts":
        """From the ``[N, 5]`` of `count`, with one copy to the host."""
        return cls(*counts.cpu().numpy().astype(np.int64).T)


def count(prediction: Tensor, target: Tensor) -> Tensor:
    """Count pixels on the masks' device.

    Args:
        prediction: ``[N, h, w]`` bool.
        target: ``[N, h, w]`` bool, on the same device.

    Returns:
        ``[N, 5]`` int64 in the order of `Counts`.

    Raises:
        ValueError: If the masks are not bool or their shapes differ.
    """
    if prediction.dtype != torch.bool or target.dtype != torch.bool:
        raise ValueError(f"Masks must be bool, not {prediction.dtype} and {target.dtype}; apply the protocol first")
    if prediction.shape != target.shape or prediction.ndim != 3:
        raise ValueError(
            f"Prediction {list(prediction.shape)} and target {list(target.shape)} must both be [N, h, w] of one size"
        )
    pixels = [m.sum((1, 2)) for m in (prediction & target, prediction, target)]  # bool sums are int64
    a, b = tight_boxes(prediction), tight_boxes(target)
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - overlap
    return torch.stack([*pixels, overlap, union], dim=1)


def tight_boxes(masks: Tensor) -> Tensor:
    """Tight boxes ``[N, 4]`` int64: left, top, right, bottom (exclusive); zeros for an empty mask."""
    sides = []
    for axis in (1, 2):  # the columns, then the rows that the mask occupies
        occupied = masks.any(dim=axis)  # [N, w], [N, h]
        before, after = ((some.cumsum(1) == 0).sum(1) for some in (occupied, occupied.flip(1)))
        end = occupied.shape[1] - after
        sides.append((torch.minimum(before, end), end))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1)


@dataclass(frozen=True)
class Outcomes:
    """Pixel counts of `N` expressions under a protocol, from which a `Metric` takes its columns.

    Attributes:
        counts: Of the expressions.
        exists: ``[N]`` bool, whether there is a referent at all.
        protocol: How expressions without a referent and equal IoUs count.
        on_mask: ``[N]`` bool, whether the peak of the map lies on the true mask; ``None`` where that was not measured.
        in_box: ``[N]`` bool, whether it lies in the mask's tight box.
    """

    counts: Counts
    exists: Bools
    protocol: Protocol
    on_mask: Bools | None = None
    in_box: Bools | None = None

    @property
    def found(self) -> Bools:
        """``[N]`` bool, whether the prediction is not empty."""
        return self.counts.prediction > 0

    @property
    def rejected(self) -> Bools:
        """``[N]`` bool, whether there is no referent and the prediction is empty."""
        return ~self.exists & ~self.found

    @property
    def kept(self) -> Bools:
        """``[N]`` bool, the expressions that oIoU and mIoU are taken over."""
        return self.exists | (self.protocol.empty_target != "exclude")

    @property
    def referents(self) -> Bools:
        """``[N]`` bool, the expressions that Pr@X and box accuracy are shares of."""
        return self.exists | (self.protocol.empty_target == "miss")


Column = Callable[[Outcomes], npt.NDArray[Any]]
"""Outcomes of `N` expressions to ``[N]`` values: bool, int64, or float64 that are IoUs or whole numbers."""


@dataclass(frozen=True)
class Metric:
    """A ratio of two sums over the expressions.

    Attributes:
        key: Its name in `Scores.values`, `Evaluation.metrics`, logs and claims.
        label: Its name in tables.
        numerator: What is summed above.
        denominator: What is summed below.
        needs_empty: Whether it is left out where every expression has a referent.
        pointing: Whether it needs `Outcomes.on_mask` and `Outcomes.in_box`: left out where they were not measured.
    """

    key: str
    label: str
    numerator: Column
    denominator: Column
    needs_empty: bool = False
    pointing: bool = False

    def columns(self, outcomes: Outcomes) -> tuple[Floats, Floats]:
        """Numerators and denominators, each ``[N]``."""
        above, below = self.numerator(outcomes), self.denominator(outcomes)
        return np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)

    def value(self, outcomes: Outcomes) -> float | None:
        """A fraction in [0, 1]; ``None`` where the denominator is 0."""
        above, below = _exact_sum(self.numerator(outcomes)), _exact_sum(self.denominator(outcomes))
        return above / below if below else None  # Python divides integers of any size with one correct rounding


def precision_at(x: float) -> Metric:
    """Pr@X: share of expressions whose IoU reaches X."""
    key = f"Pr@{x:g}"
    return Metric(key, key, lambda o: o.counts.reaches(x, o.protocol.comparison), lambda o: o.referents)


METRICS: tuple[Metric | Callable[[float], Metric], ...] = (
    Metric("oIoU", "oIoU", lambda o: o.counts.intersection, lambda o: o.counts.union * o.kept),
    Metric("mIoU", "mIoU", lambda o: o.counts.iou + o.rejected * (o.protocol.empty_target == "hit"), lambda o: o.kept),
    precision_at,
    Metric(
        "box_accuracy", "box acc.", lambda o: 2 * o.counts.box_intersection > o.counts.box_union, lambda o: o.referents
    ),
    Metric("PointM", "PointM", lambda o: _measured(o.on_mask), lambda o: o.referents, pointing=True),
    Metric("PointIt", "PointIt", lambda o: _measured(o.in_box), lambda o: o.referents, pointing=True),
    Metric("gIoU", "gIoU", lambda o: o.counts.iou + o.rejected, lambda o: np.ones_like(o.exists), needs_empty=True),
    Metric("N-acc", "N-acc", lambda o: o.rejected, lambda o: ~o.exists, needs_empty=True),
    Metric("T-acc", "T-acc", lambda o: o.exists & o.found, lambda o: o.exists, needs_empty=True),
)
"""All metrics in the order of tables; a function stands for one metric at each threshold of the protocol."""


def metrics_of(protocol: Protocol) -> dict[str, Metric]:
    """The metrics under a protocol by their keys, Pr@X at each of its thresholds, peaks only where it measures them."""
    metrics: list[Metric] = []
    for entry in METRICS:
        metrics += [entry] if isinstance(entry, Metric) else map(entry, protocol.thresholds)
    return {metric.key: metric for metric in metrics if protocol.pointing or not metric.pointing}


def labels(protocol: Protocol) -> dict[str, str]:
    """Headings of tables by the metrics' keys; what is not among them repeats another metric under this protocol."""
    headings = {key: metric.label for key, metric in metrics_of(protocol).items()}
    if protocol.empty_target == "hit":  # GRES calls oIoU cIoU, and this mIoU is its gIoU
        del headings["gIoU"]
        headings |= {"oIoU": "cIoU", "mIoU": "gIoU"}
    return headings


@dataclass(frozen=True)
class Scores:
    """Metrics of some expressions, as in ``scores["mIoU"]``: fractions in [0, 1], ``None`` where nothing defines them.

    Attributes:
        n: Number of expressions.
        n_empty: How many of them have no referent.
        values: All of them by the keys of `metrics_of`, in their order, as JSON types; those that need expressions
            without a referent, or peaks of maps, are left out where there are none.
        protocol: The protocol that these numbers follow.
    """

    n: int
    n_empty: int
    values: dict[str, float | None]
    protocol: Protocol

    @classmethod
    def of(cls, outcomes: Outcomes) -> "Scores":
        """The scores of some expressions; without any, all values are ``None``."""
        n_empty = int((~outcomes.exists).sum())
        metrics = metrics_of(outcomes.protocol).values()
        peaks = outcomes.on_mask is not None
        values = {
            one.key: one.value(outcomes)
            for one in metrics
            if (n_empty or not one.needs_empty) and (peaks or not one.pointing)
        }
        return cls(len(outcomes.counts), n_empty, values, outcomes.protocol)

    def __getitem__(self, key: str) -> float | None:
        return self.values[key]

    def flat(self) -> dict[str, float]:
        """The values and the number of expressions ``N``; NaN where nothing defines a value."""
        return {"N": self.n, **{key: float("nan") if value is None else value for key, value in self.values.items()}}


class Metrics:
    """Accumulates counts; two of them merge, so each process keeps its own.

    Args:
        protocol: A protocol or the name of a preset.

    Example:
        >>> import torch
        >>> mask = torch.ones(1, 4, 4, dtype=torch.bool)
        >>> Metrics("maskris").update(mask, mask).compute()["mIoU"]
        1.0
    """

    def __init__(self, protocol: Protocol | str = "maskris") -> None:
        self.protocol = Protocol.of(protocol)
        self._parts: list[Integers] = []  # [N, 6]: the counts, and whether there is a referent

    def update(self, prediction: Tensor, target: Tensor) -> "Metrics":
        """Add `N` binary predictions.

        Args:
            prediction: ``[N, h, w]`` bool.
            target: ``[N, h, w]`` bool; an empty mask means that the expression has no referent.

        Raises:
            ValueError: If the masks are not bool or their shapes differ.
        """
        return self.add(Counts.from_tensor(count(prediction, target)))

    def add(self, counts: Counts, has_target: Bools | None = None) -> "Metrics":
        """Add `N` expressions by their counts.

        Args:
            counts: Their pixel counts.
            has_target: ``[N]`` bool, whether there is a referent at all. By default where `counts.target` is not 0;
                a tiny referent may vanish when its mask is made smaller, and is a miss all the same.
        """
        exists = counts.target > 0 if has_target is None else has_target
        self._parts.append(np.column_stack([*vars(counts).values(), exists]))
        return self

    def merge(self, *others: "Metrics") -> "Metrics":
        """A new `Metrics` with the expressions of all; associative and commutative.

        Raises:
            ValueError: If a protocol differs.
        """
        merged = Metrics(self.protocol)
        for part in (self, *others):
            if part.protocol != self.protocol:
                raise ValueError(f"Can't merge metrics of two protocols: {self.protocol} and {part.protocol}")
            merged._parts += part._parts
        return merged

    def compute(self) -> Scores:
        """The metrics so far; without any expression all are ``None``."""
        *counts, exists = np.concatenate([np.zeros((0, 6), dtype=np.int64), *self._parts]).T
        return Scores.of(Outcomes(Counts(*counts), exists > 0, self.protocol))


def _measured(column: Bools | None) -> Bools:
    if column is None:
        raise ValueError("The peaks of these predictions were not measured; evaluate a model under a pointing protocol")
    return column


def _exact_sum(values: npt.NDArray[Any]) -> int:
    if values.dtype.kind == "f":
        return sum(map(int, np.ldexp(values, _UNIT).tolist()))
    return int(values.sum()) << _UNIT
