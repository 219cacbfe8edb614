"""Which expressions a report shows: the best, the median and the worst, and those on which two models disagree."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from maskris.evaluation.results import Evaluation

Rows = list[int]
"""Numbers of rows of an evaluation."""

_SAME = ("dataset", "split_by", "split", "image_id", "ref_id", "number", "expression", "target_area")


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


def extremes(evaluations: Sequence[Evaluation], count: int) -> tuple[Rows, Rows, Rows]:
    """The best, the median and the worst expressions by their mean IoU over the models.

    Among equals the ones with the highest scores come first, so that the worst are the most confident mistakes; one
    from each photo, as long as there are photos. The median ones lie nearest to the median, the better ones first.

    Args:
        evaluations: With their rows in one order, see `line_up`.
        count: Of each group; fewer where there are fewer than three times as many expressions.
    """
    iou = np.mean([_column(one, "iou") for one in evaluations], axis=0)  # [N], NaN where the protocol leaves one out
    score = np.mean([_column(one, "score") for one in evaluations], axis=0)
    known = np.flatnonzero(~np.isnan(iou))
    if not known.size:
        return [], [], []
    count = min(count, max(1, known.size // 3))
    iou, score = iou[known], score[known]
    orders = (
        np.lexsort((-score, -iou)),
        np.lexsort((-score, iou)),
        np.lexsort((-score, -iou, np.abs(iou - np.median(iou)))),
    )
    best, worst, median = (known[order] for order in orders)
    shown: Rows = []
    groups = []
    for rows in (best, worst, median):  # of so many equals, none is shown twice
        groups.append(_of_different_photos(evaluations[0], rows[~np.isin(rows, shown)], count))
        shown += groups[-1]
    return groups[0], groups[2], groups[1]


def disagreements(first: Evaluation, second: Evaluation, count: int) -> tuple[Rows, Rows]:
    """Where the first model is better than the second by the largest differences in IoU, and where it is worse.

    Args:
        first: One evaluation.
        second: Of the same expressions in the same order, see `line_up`.
        count: Most of each direction; one from each photo, as long as there are photos.
    """
    difference = _column(first, "iou") - _column(second, "iou")
    found = []
    for sign in (1, -1):
        rows = np.flatnonzero(sign * difference > 0)
        order = np.argsort(-sign * difference[rows], kind="stable")
        found.append(_of_different_photos(first, rows[order], count))
    return found[0], found[1]


def _of_different_photos(evaluation: Evaluation, rows: npt.NDArray[np.int64], count: int) -> Rows:
    """The first `count` of some rows, those that repeat a photo last."""
    photos = list(zip(*(evaluation.rows[name].to_pylist() for name in ("dataset", "image_id")), strict=True))
    seen = set()
    new: Rows = []
    repeated: Rows = []
    for row in rows.tolist():
        (repeated if photos[row] in seen else new).append(row)
        seen.add(photos[row])
        if len(new) == count:
            break
    return [*new, *repeated][:count]


def _keys(evaluation: Evaluation) -> list[tuple[object, ...]]:
    return list(zip(*(evaluation.rows[name].to_pylist() for name in _SAME), strict=True))


def _column(evaluation: Evaluation, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(evaluation.rows[name].to_numpy(), dtype=np.float64)
