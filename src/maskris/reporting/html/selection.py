"""Evaluations that lie in a run folder already."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from maskris.evaluation.result import Evaluation, align

KEPT = Path("report") / "rows.parquet"
"""Where `maskris report --data` keeps what it evaluated, within the run folder."""


class SavedRows(NamedTuple):
    """What `Evaluation.save` wrote into a run folder."""

    file: Path | None  # with the rows on clean input, if there is one
    clean: Evaluation | None
    perturbed: Mapping[str, Evaluation]  # by what was done to the input


def saved_rows(folder: Path) -> SavedRows:
    """Look through a run folder; of several files on clean input, that of `maskris report` or the first by name.

    Other Parquet files are none of our business. Instead of a folder there may be such a file.
    """
    if folder.is_file():
        return SavedRows(folder, Evaluation.load(folder), {})
    file, clean = None, None
    perturbed: dict[str, Evaluation] = {}
    for one in [folder / KEPT, *sorted(folder.glob("*.parquet"))]:
        if not one.is_file():
            continue
        try:
            found = Evaluation.load(one)
        except ValueError:
            continue
        if what := found.settings.get("perturbation"):
            perturbed.setdefault(_described(what), found)
        elif clean is None:
            file, clean = one, found
    return SavedRows(file, clean, dict(sorted(perturbed.items())))


def reason_against(clean: Evaluation, perturbed: Evaluation) -> str:
    """Why perturbed rows can not stand beside clean ones: other weights or other expressions; ``""`` if they can."""
    weights = [one.fingerprint.get("weights") for one in (clean, perturbed)]
    if None not in weights and weights[0] != weights[1]:
        return "They were measured with other weights"
    try:
        align([clean, perturbed])
    except ValueError as error:
        return str(error)
    return ""


def _described(perturbation: str) -> str:
    """A perturbation in words; as it calls itself if it isn't known."""
    if match := re.match(r"PatchOcclusion\(ratio=([\d.]+), patch_size=(\d+), seed=(\d+)", perturbation):
        seed = f", seed {match[3]}" if match[3] != "0" else ""
        return f"{100 * float(match[1]):g} % hidden, patches of {match[2]} px{seed}"
    return perturbation


def extremes(evaluations: Sequence[Evaluation], count: int) -> tuple[list[int], list[int], list[int]]:
    """The best, the median and the worst expressions by their mean IoU over the models.

    Among equals the ones with the highest scores come first, so that the worst are the most confident mistakes; one
    from each photo, as long as there are photos. The median ones lie nearest to the median, the better ones first.

    Args:
        evaluations: With their rows in one order, see `align`.
        count: Of each group; fewer where there are fewer than three times as many expressions.
    """
    iou = np.mean([_column(one, "iou") for one in evaluations], axis=0)  # [N], NaN where the protocol leaves one out
    score = np.mean([_column(one, "score") for one in evaluations], axis=0)
    known = np.flatnonzero(~np.isnan(iou))
    if not known.size:
        return [], [], []
    count = min(count, max(1, known.size // 3))
    iou, score = iou[known], score[known]
    orders = {
        "best": (-score, -iou),
        "worst": (-score, iou),
        "median": (-score, -iou, np.abs(iou - np.median(iou))),
    }
    shown: list[int] = []
    chosen = {}
    for name, keys in orders.items():
        rows = known[np.lexsort(keys)]
        chosen[name] = _of_different_photos(evaluations[0], rows[~np.isin(rows, shown)], count)
        shown += chosen[name]  # of so many equals, none is shown twice
    return chosen["best"], chosen["median"], chosen["worst"]


def disagreements(first: Evaluation, second: Evaluation, count: int) -> tuple[list[int], list[int]]:
    """Where the first model is better than the second by the largest differences in IoU, and where it is worse.

    Args:
        first: One evaluation.
        second: Of the same expressions in the same order, see `align`.
        count: Most of each direction; one from each photo, as long as there are photos.
    """
    difference = _column(first, "iou") - _column(second, "iou")
    found = []
    for sign in (1, -1):
        rows = np.flatnonzero(sign * difference > 0)
        order = np.argsort(-sign * difference[rows], kind="stable")
        found.append(_of_different_photos(first, rows[order], count))
    return found[0], found[1]


def _of_different_photos(evaluation: Evaluation, rows: npt.NDArray[np.int64], count: int) -> list[int]:
    """The first `count` of some rows, those that repeat a photo last."""
    photos = photos_of(evaluation)
    first: dict[tuple[str, int], int] = {}
    for row in rows.tolist():
        first.setdefault(photos[row], row)
    repeated = [row for row in rows.tolist() if first[photos[row]] != row]
    return [*first.values(), *repeated][:count]


def photos_of(evaluation: Evaluation) -> list[tuple[str, int]]:
    """Data set and image of each row."""
    return list(zip(*(evaluation.rows[name].to_pylist() for name in ("dataset", "image_id")), strict=True))


def _column(evaluation: Evaluation, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(evaluation.rows[name].to_numpy(), dtype=np.float64)
