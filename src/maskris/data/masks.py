"""Masks as COCO run lengths: polygons and RLE of any kind through pycocotools, the field's reference rasterizer.

Tables store compressed counts: a few hundred ASCII bytes instead of 300,000 pixels. This file imports neither torch nor
pyarrow.
"""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from pycocotools import mask as coco

Box = tuple[float, float, float, float]
"""x, y, width and height in pixels; the right and lower edges lie after the last pixel."""

MAX_SIDE = 65_500
"""Largest height or width, that of a JPEG; a greater one in an annotation is a mistake that would fill the memory."""

BORDER_TOLERANCE = 2.0
"""Pixels that a polygon may reach beyond the image: COCO's own do by rounding. The mask ends at the border anyway."""


class SizeMismatchError(ValueError):
    """A mask belongs to an image of another size."""


def encode(mask: np.ndarray) -> bytes:
    """COCO's compressed counts, without the size, of a ``[h, w]`` mask: bool, or any type where nonzero means inside.

    Raises:
        ValueError: If the mask is not a plane.
    """
    if mask.ndim != 2:
        raise ValueError(f"A mask has a height and a width, not the shape {list(mask.shape)}")
    counts: bytes = coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))["counts"]
    return counts


def decode(counts: bytes, height: int, width: int) -> np.ndarray:
    """The inverse of `encode`: a new ``[height, width]`` bool array (column by column in memory, as COCO counts)."""
    pixels: np.ndarray = coco.decode({"size": [height, width], "counts": counts})
    return pixels.view(bool)


def empty(height: int, width: int) -> bytes:
    """The compressed counts of a mask without pixels (an expression without a target)."""
    return from_counts([height * width], height, width)


def from_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> bytes:
    """The union of polygons as compressed counts, bit for bit that of pycocotools' ``frPyObjects`` and ``merge``.

    Args:
        polygons: Each ``[x0, y0, x1, y1, ...]`` in pixels, at least three points.
        height: Height of the image.
        width: Width of the image.

    Raises:
        ValueError: If there is no polygon, or one has too few, an odd number of or not finite coordinates.
    """
    _check_size(height, width)
    if not polygons:
        raise ValueError("the list of polygons is empty")
    for polygon in polygons:
        if not isinstance(polygon, (list, tuple)) or not all(
            isinstance(value, Real) and not isinstance(value, bool) for value in polygon
        ):
            raise ValueError(f"a polygon is a list of numbers [x0, y0, x1, y1, ...], not {_short(polygon)}")
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon needs at least 3 points, x and y of each, but this has {len(polygon)} numbers")
        # Far outside, pycocotools would walk along the edge pixel by pixel until the memory ends.
        if not all(abs(value) <= 2 * MAX_SIDE for value in polygon):
            raise ValueError(f"a coordinate is not finite or absurdly large: {_short(polygon)}")
    parts = coco.frPyObjects([[float(value) for value in polygon] for polygon in polygons], height, width)
    return union([part["counts"] for part in parts], height, width)


def from_counts(counts: Sequence[int] | str | bytes, height: int, width: int) -> bytes:
    """Uncompressed (list) or compressed (string) COCO counts as compressed counts, checked.

    Raises:
        ValueError: If the counts don't cover the image exactly, or are no counts at all.
    """
    _check_size(height, width)
    if isinstance(counts, str):
        if not counts.isascii():
            raise ValueError("compressed counts are ASCII, these are not")
        counts = counts.encode("ascii")
    runs = _decompress(counts) if isinstance(counts, bytes) else list(counts)
    if not set(map(type, runs)) <= {int} or min(runs, default=0) < 0:
        raise ValueError(f"the run lengths must be whole numbers of at least 0, not {_short(runs)}")
    if sum(runs) != height * width:
        raise ValueError(f"the run lengths cover {sum(runs)} pixels, but {height} x {width} has {height * width}")
    runs = _without_empty_runs(runs) if 0 in runs[1:] else runs
    compressed: bytes = coco.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"]
    return compressed


def from_segmentation(segmentation: Any, height: int, width: int) -> bytes:
    """Any segmentation that occurs in COCO-style files, as compressed counts.

    Args:
        segmentation: Polygons; one RLE ``{"size": [h, w], "counts": ...}`` (counts compressed or not); one flat
            polygon; or a list of RLEs, of which the union is taken.
        height: Height of the image.
        width: Width of the image.

    Raises:
        SizeMismatchError: If it belongs to an image of another size.
        ValueError: If it is none of these, or is damaged.
    """
    _check_size(height, width)
    if isinstance(segmentation, dict):
        return _from_rle(segmentation, height, width)
    if not isinstance(segmentation, (list, tuple)):
        raise ValueError(f"a segmentation is a list of polygons or an RLE, not {_short(segmentation)}")
    if not segmentation:
        raise ValueError("the segmentation is empty")
    if all(isinstance(part, dict) for part in segmentation):
        return union([_from_rle(part, height, width) for part in segmentation], height, width)
    return from_polygons(_polygons(segmentation), height, width)


def union(masks: Sequence[bytes], height: int, width: int) -> bytes:
    """The union of masks of one size, each as compressed counts; that of none is empty."""
    if not masks:
        return empty(height, width)
    counts: bytes = coco.merge([{"size": [height, width], "counts": counts} for counts in masks])["counts"]
    return counts


def area_of(counts: bytes, height: int, width: int) -> int:
    """Pixels inside."""
    return int(coco.area({"size": [height, width], "counts": counts}))


def shared_area(first: bytes, second: bytes, height: int, width: int) -> int:
    """Pixels inside of both masks."""
    both = coco.merge([{"size": [height, width], "counts": counts} for counts in (first, second)], intersect=True)
    return int(coco.area(both))


def box_of(mask: np.ndarray) -> Box:
    """The tight box of a ``[h, w]`` mask; all zeros where it has no pixels."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not columns.size:
        return 0.0, 0.0, 0.0, 0.0
    x, y = columns[0], rows[0]
    return float(x), float(y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)


def box_of_counts(counts: bytes, height: int, width: int) -> Box:
    """`box_of` of compressed counts, without decoding them."""
    if not area_of(counts, height, width):
        return 0.0, 0.0, 0.0, 0.0
    x, y, w, h = (float(value) for value in coco.toBbox({"size": [height, width], "counts": counts}))
    return x, y, w, h


def misplaced(segmentation: Any, height: int, width: int) -> str:
    """Why a valid segmentation's polygons aren't those of this image; ``""`` if they are, and for an RLE.

    They may reach `BORDER_TOLERANCE` pixels beyond it, but not lie in its first pixel with all that they have.
    """
    if isinstance(segmentation, dict) or isinstance(segmentation[0], dict):
        return ""
    points = np.concatenate(_polygons(segmentation)).reshape(-1, 2)
    reach = max(float(-points.min()), float((points - (width, height)).max()))
    if reach > BORDER_TOLERANCE:
        return f"a polygon reaches {reach:.1f} px beyond the {width} x {height} image"
    if points.max() <= 1 < min(height, width):
        return "all coordinates lie between 0 and 1; those of a polygon are pixels, no shares of the sides"
    return ""


def _polygons(segmentation: Sequence[Any]) -> Sequence[Any]:
    return [segmentation] if isinstance(segmentation[0], Real) else segmentation  # one without the list around it


def _from_rle(rle: dict[str, Any], height: int, width: int) -> bytes:
    if "size" not in rle or "counts" not in rle:
        raise ValueError(f"an RLE has the keys size and counts, not {', '.join(map(str, rle)) or 'none'}")
    if not isinstance(rle["size"], (list, tuple)) or list(rle["size"]) != [height, width]:
        raise SizeMismatchError(
            f"the RLE is of size {_short(rle['size'])} (height, width), but the image has {[height, width]}"
        )
    if not isinstance(rle["counts"], (list, tuple, str, bytes)):
        raise ValueError(f"the counts of an RLE are a list or a string, not {_short(rle['counts'])}")
    return from_counts(rle["counts"], height, width)


def _decompress(counts: bytes) -> list[int]:
    """Run lengths of compressed counts. pycocotools reads beyond the end of damaged ones, so they are checked here."""
    digits = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits & 32 == 0)  # the last digit of each number
    lengths = np.diff(ends, prepend=-1)
    if not ((digits >= 0) & (digits < 64)).all() or lengths.max(initial=0) > _MOST_DIGITS:
        raise ValueError(f"these are no compressed counts: {_short(counts)}")
    if len(digits) and (not len(ends) or ends[-1] != len(digits) - 1):
        raise ValueError(f"the compressed counts are cut off: {_short(counts)}")
    if not len(digits):
        return []
    starts = ends + 1 - lengths
    places = np.arange(len(digits)) - np.repeat(starts, lengths)
    values = np.add.reduceat((digits & 31) << 5 * places, starts)
    values -= np.where(digits[ends] & 16, np.int64(1) << 5 * lengths, 0)  # the fifth bit of the last one is the sign
    for first in (1, 2):  # from the fourth number on, they are differences to the one before last
        values[first::2] = np.cumsum(values[first::2])
    runs: list[int] = values.tolist()
    return runs


_MOST_DIGITS = 8  # of a number: 40 bits, where 33 are enough for the largest image


def _without_empty_runs(runs: list[int]) -> list[int]:
    """The same mask without empty runs but the first, with which pycocotools' boxes and unions are wrong."""
    kept = runs[:1]
    joins = False  # whether the run before was empty, so that the next one goes on with what precedes it
    for run in runs[1:]:
        if joins:
            kept[-1] += run
            joins = False
        elif run:
            kept.append(run)
        else:
            joins = True
    return kept


def _check_size(height: int, width: int) -> None:
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ValueError(f"an image can't have {height} x {width} pixels (height x width)")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
