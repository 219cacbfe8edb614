"""Masks made worse by a known amount, to see what a method does with labels that are wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskris.data import masks
from maskris.data.table import ReferringTable
from maskris.utils.rng import numpy_generator


@dataclass(frozen=True)
class Corruption:
    """How wrong labels are.

    Args:
        iou: IoU of each mask with the true one, reached by erosion for half of the masks, by dilation for the others.
        wrong: Share of referents that get the mask of another object in their picture, where there is one.
        seed: Seed of the draws, which depend on nothing but it and the referent.

    Raises:
        ValueError: If a value is out of range.
    """

    iou: float = 0.65
    wrong: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values (they come from recipes)."""
        if not 0 < self.iou <= 1:
            raise ValueError(f"The IoU of corrupted masks must be above 0 and at most 1, not {self.iou}")
        if not 0 <= self.wrong <= 1:
            raise ValueError(f"The share of wrong objects must lie in [0, 1], not {self.wrong}")

    def __str__(self) -> str:
        """For `Referent.mask_origin`."""
        return f"true masks corrupted to IoU {self.iou:g}, {self.wrong:.0%} wrong objects, seed {self.seed}"


def corrupt_masks(table: ReferringTable, corruption: Corruption) -> ReferringTable:
    """The same referents with worse masks, which are pseudo masks from now on and say so.

    Empty masks stay. Boxes and areas are those of the new masks.

    Raises:
        ValueError: If a referent has no mask that could be made worse.
    """
    if unknown := [row for row, source in enumerate(table.column("mask_source")) if source == "none"]:
        raise ValueError(
            f"{len(unknown)} referents have no mask to corrupt (mask_source 'none'), the first in row {unknown[0]}"
        )
    rows, counts = table.to_pylist(), table.column("mask")
    for own in table.by_image():
        for i in own:
            row, others = rows[i], [counts[j] for j in own if counts[j] != counts[i] and rows[j]["area"]]
            if row["area"]:
                key = (corruption.seed, "corrupt", row["dataset"], row["split_by"], row["split"], row["ref_id"])
                row |= _corrupted(row, others, corruption, numpy_generator(*key).bit_generator)
    return ReferringTable.from_rows(rows, table.images_root)


def _corrupted(
    row: dict[str, Any], others: list[bytes], how: Corruption, bits: np.random.BitGenerator
) -> dict[str, Any]:
    swap, which, grow, noise = (int(value) for value in bits.random_raw(4))
    mask = masks.decode(row["mask"], row["height"], row["width"])
    if others and swap < how.wrong * 2**64:
        mask = masks.decode(others[which % len(others)], row["height"], row["width"])
    mask = change_to_iou(mask, how.iou, grow=bool(grow % 2), seed=noise)
    return {
        "mask": masks.encode(mask),
        "box": masks.box_of(mask),
        "area": int(mask.sum()),
        "mask_source": "pseudo",
        "mask_origin": str(how),
    }


def change_to_iou(mask: np.ndarray, iou: float, *, grow: bool, seed: int = 0) -> np.ndarray:
    """Erode or dilate a mask until its IoU with what it was is as near to `iou` as whole pixels allow.

    Rings of pixels are taken or added one after the other, and of the last one as many pixels at random as are needed.
    What is too large to grow that far in its picture shrinks instead.

    Args:
        mask: ``[h, w]`` bool, not empty.
        iou: Above 0 and at most 1.
        grow: Dilate instead of erode.
        seed: Of the pixels of the last ring.

    Returns:
        ``[h, w]`` bool; at least one pixel is left.
    """
    area = int(mask.sum())
    if grow and (wanted := round(area / iou)) <= mask.size:
        changed: np.ndarray = mask | _rings_from(mask, ~mask, wanted - area, seed)
    else:
        changed = mask & ~_rings_from(~mask, mask, area - max(1, round(area * iou)), seed)
    return changed


def _rings_from(seeds: np.ndarray, room: np.ndarray, pixels: int, seed: int) -> np.ndarray:
    """The `pixels` pixels of `room` that are nearest to `seeds`, by rings; ``[h, w]`` bool."""
    taken = np.zeros_like(room)
    for ring in _rings(seeds, room):
        if (missing := pixels - int(taken.sum())) <= 0:
            break
        places = np.flatnonzero(ring)
        if len(places) > missing:
            order = np.argsort(numpy_generator(seed, "ring").bit_generator.random_raw(len(places)), kind="stable")
            places = places[order[:missing]]
        taken.flat[places] = True
    return taken


def _rings(reached: np.ndarray, room: np.ndarray) -> Iterator[np.ndarray]:
    """The pixels at distance 1, 2, … in `room`; four and eight neighbors in turn, so that disks stay nearly round.

    Where nothing is reached at first (a mask that fills its picture), the picture's border counts as the outside.
    """
    corners = False
    border = np.pad(reached, 1, constant_values=not reached.any())
    while (left := room & ~border[1:-1, 1:-1]).any():
        near = border.copy()
        near[1:] |= border[:-1]
        near[:-1] |= border[1:]
        flat = near if corners else border
        grown = near.copy()
        grown[:, 1:] |= flat[:, :-1]
        grown[:, :-1] |= flat[:, 1:]
        corners = not corners
        ring = left & grown[1:-1, 1:-1]
        border[1:-1, 1:-1] |= ring
        yield ring
