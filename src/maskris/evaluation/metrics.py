"""`Metrics`: oIoU, mIoU, Pr@X, box accuracy and gRefCOCO's numbers from exact, mergeable integer sums.

Every sum is an integer (even that of the IoUs), so the result depends neither on the order of the expressions nor on
how they were spread over batches and processes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskris.evaluation.protocol import Comparison, Protocol, exact

Integers = npt.NDArray[np.int64]

_UNIT = 128  # IoUs are summed in units of 2**-128: every float64 in {0} and [2**-75, 1] is an exact multiple


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
    def iou(self) -> npt.NDArray[np.float64]:
        """``[N]`` float64, intersection over union; 0 where both masks are empty."""
        return self.intersection / np.maximum(self.union, 1)

    @property
    def box_iou(self) -> npt.NDArray[np.float64]:
        """``[N]`` float64, intersection over union of the boxes; 0 where both masks are empty."""
        return self.box_intersection / np.maximum(self.box_union, 1)

    def reaches(self, threshold: float, comparison: Comparison = ">=") -> npt.NDArray[np.bool_]:
        """``[N]`` bool, whether the IoU is at least (or above) a threshold; never where both masks are empty."""
        x = exact(threshold)  # integers on both sides, so 7 of 10 pixels are exactly 0.7
        left, right = self.intersection * x.denominator, self.union * x.numerator
        return (left >= right) & (self.union > 0) if comparison == ">=" else left > right

    @property
    def box_hits(self) -> npt.NDArray[np.bool_]:
        """``[N]`` bool, whether the IoU of the boxes is above 0.5."""
        return 2 * self.box_intersection > self.box_union

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
    a, b = _boxes(prediction), _boxes(target)
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - overlap
    return torch.stack([*pixels, overlap, union], dim=1)


def _boxes(masks: Tensor) -> Tensor:
    """Tight boxes ``[N, 4]`` int64: left, top, right, bottom (exclusive); zeros for an empty mask."""
    sides = []
    for axis in (1, 2):  # the columns, then the rows that the mask occupies
        occupied = masks.any(dim=axis).to(torch.int64)  # [N, w], [N, h]
        size = occupied.shape[1]
        places = torch.arange(1, size + 1, device=masks.device)
        end = (occupied * places).amax(1) if size else occupied.sum(1)
        start = size - (occupied * places.flip(0)).amax(1) if size else end
        sides.append((torch.where(end > 0, start, 0), end))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1)


@dataclass(frozen=True)
class Scores:
    """What `Metrics.compute` returns. All values are fractions in [0, 1]; ``None`` where nothing defines them.

    Attributes:
        n: Number of expressions.
        n_empty: How many of them have no referent.
        oiou: Sum of intersections over sum of unions (gRefCOCO's cIoU).
        miou: Mean IoU of the expressions, under the protocol's rule for expressions without referent.
        precision: Share of expressions whose IoU reaches X, by X as text: ``{"0.5": 0.88, ...}``.
        box_accuracy: Share of expressions whose predicted mask's box has IoU > 0.5 with that of the true mask
            (the accuracy of referring expression comprehension).
        giou: gRefCOCO's gIoU: mean IoU where an empty prediction is right for an expression without referent.
            ``None`` where every expression has one.
        n_acc: Share of expressions without referent whose prediction is empty.
        t_acc: Share of expressions with a referent whose prediction is not empty. ``None`` as `giou`.
        protocol: The protocol that these numbers follow.
    """

    n: int
    n_empty: int
    oiou: float | None
    miou: float | None
    precision: dict[str, float | None]
    box_accuracy: float | None
    giou: float | None
    n_acc: float | None
    t_acc: float | None
    protocol: Protocol

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON types, with the protocol's name."""
        values = {key: value for key, value in vars(self).items() if key != "protocol"}
        return {**values, "precision": dict(self.precision), "protocol": self.protocol.name}

    def flat(self) -> dict[str, float]:
        """The numbers under the names of the field (``oIoU``, ``Pr@0.5``, …); NaN where nothing defines one."""
        named = {"oIoU": self.oiou, "mIoU": self.miou}
        named |= {f"Pr@{label}": value for label, value in self.precision.items()}
        named["box accuracy"] = self.box_accuracy
        if self.n_empty:
            named |= {"gIoU": self.giou, "N-acc": self.n_acc, "T-acc": self.t_acc}
        return {"N": self.n, **{name: float("nan") if value is None else value for name, value in named.items()}}


class Metrics:
    """Accumulates counts; two of them merge, so each process keeps its own.

    Args:
        protocol: A protocol or the name of a preset.

    Example:
        >>> import torch
        >>> mask = torch.ones(1, 4, 4, dtype=torch.bool)
        >>> Metrics("maskris").update(mask, mask).compute().miou
        1.0
    """

    def __init__(self, protocol: Protocol | str = "maskris") -> None:
        self.protocol = Protocol.of(protocol)
        self._labels = [f"{threshold:g}" for threshold in self.protocol.thresholds]
        keys = ("n", "targets", "intersection", "union", "union_empty", "iou", "box_hits", "kept_empty", "found")
        self._sums: dict[str, int] = dict.fromkeys((*keys, *self._labels), 0)

    def update(self, prediction: Tensor, target: Tensor) -> "Metrics":
        """Add `N` binary predictions.

        Args:
            prediction: ``[N, h, w]`` bool.
            target: ``[N, h, w]`` bool; an empty mask says that the expression has no referent.

        Raises:
            ValueError: If the masks are not bool or their shapes differ.
        """
        return self.add(Counts.from_tensor(count(prediction, target)))

    def add(self, counts: Counts, has_target: npt.NDArray[np.bool_] | None = None) -> "Metrics":
        """Add `N` expressions by their counts.

        Args:
            counts: Their pixel counts.
            has_target: ``[N]`` bool, whether there is a referent at all. By default where `counts.target` is not 0;
                a tiny referent may vanish when its mask is made smaller, and is a miss all the same.
        """
        exists = counts.target > 0 if has_target is None else np.asarray(has_target, dtype=bool)
        found, union, sums = counts.prediction > 0, counts.union, self._sums
        sums["n"] += len(counts)
        sums["targets"] += int(exists.sum())
        sums["intersection"] += int(counts.intersection.sum())
        sums["union"] += int(union[exists].sum())
        sums["union_empty"] += int(union[~exists].sum())
        sums["iou"] += sum(int(value) for value in np.ldexp(counts.iou, _UNIT).tolist())
        sums["box_hits"] += int(counts.box_hits.sum())
        sums["kept_empty"] += int((~exists & ~found).sum())
        sums["found"] += int((exists & found).sum())
        for label, threshold in zip(self._labels, self.protocol.thresholds, strict=True):
            sums[label] += int(counts.reaches(threshold, self.protocol.comparison).sum())
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
            for key, value in part._sums.items():
                merged._sums[key] += value
        return merged

    def compute(self) -> Scores:
        """The metrics so far; without any expression all are ``None``."""
        s, rule = self._sums, self.protocol.empty_target
        n, targets = s["n"], s["targets"]
        empty = n - targets
        total = targets if rule == "exclude" else n
        referents = n if rule == "miss" else targets  # what Pr@X and box accuracy are shares of
        union = s["union"] + (0 if rule == "exclude" else s["union_empty"])
        right = s["kept_empty"] if rule == "hit" else 0
        return Scores(
            n=n,
            n_empty=empty,
            oiou=_ratio(s["intersection"], union),
            miou=_ratio(s["iou"] + (right << _UNIT), total << _UNIT),
            precision={label: _ratio(s[label], referents) for label in self._labels},
            box_accuracy=_ratio(s["box_hits"], referents),
            giou=_ratio(s["iou"] + (s["kept_empty"] << _UNIT), n << _UNIT) if empty else None,
            n_acc=_ratio(s["kept_empty"], empty) if empty else None,
            t_acc=_ratio(s["found"], targets) if empty else None,
            protocol=self.protocol,
        )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None  # Python divides integers of any size with one correct rounding
