"""Masks in the forms in which files hold them: pictures, run lengths, lists of rows, polygons, JSON text.

`parse_mask` tells the forms apart, for annotations and for predictions. What pixels mean is another question: in an
annotation all but black is inside (`segmentation_of`), in a prediction values between are probabilities
(`maskris.evaluation.predictions.harden`).
"""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image

from maskris.data import masks

_PICTURES = ("/9j/", "iVBORw0KGgo", "SUkq", "TU0A", "UklGR")  # JPEG, PNG, TIFF of both byte orders, WebP as base64
BLURRED = "Masks that are JPEGs have blurred edges: inside is what is brighter than half."
"""A note for whoever reads such masks."""

_BITMAP_TYPES = (np.bool_, np.uint8)
_LONGEST_SQUARE = 10  # numbers of a closed polygon with corners of 0 and 255


@dataclass(frozen=True)
class Pixels:
    """A mask that is given by its pixels.

    Attributes:
        values: ``[h, w]``, or ``[h, w, c]`` of a picture in color.
        picture: Format of the picture, such as ``"PNG"``; ``""`` for rows of numbers.
        indexed: Whether the values are places in a palette.
    """

    values: np.ndarray
    picture: str = ""
    indexed: bool = False


def parse_mask(value: Any, size: tuple[int, int] | None, load: Callable[[str], bytes]) -> Any:
    """A mask in any form as `Pixels`, or as `masks.from_segmentation` takes it: run lengths, or polygons.

    ======================================  ====================================================================
    form                                    read as
    ======================================  ====================================================================
    ``{"bytes", "path"}``, bytes            a picture (PNG, TIFF, …)
    ``{"counts", "size"}``                  COCO's run lengths, compressed or not; a list of them: their union
    rows of the photo's size; rows of bool, a bitmap ``[height, width]``
    0 and 1, or 0 and 255
    other lists of lists of numbers         polygons ``[x0, y0, x1, y1, …]``, or ``[[x0, y0], [x1, y1], …]``
    one list of numbers                     one polygon, without the list around it
    ``{"segmentation": …}``                 an annotation of COCO
    text                                    JSON with one of these, a picture as base64, or the path of one
    ======================================  ====================================================================

    Args:
        value: The mask; arrays stand for nested lists.
        size: Height and width of the photo, where they are known.
        load: The contents of a file that is named by its path.

    Raises:
        ValueError: If it is none of these, or damaged; says what it is.
    """
    if isinstance(value, str):
        return _of_text(value, size, load)
    if isinstance(value, bytes):
        return _of_picture(value)
    if isinstance(value, dict):
        if value.get("segmentation") is not None:
            return parse_mask(value["segmentation"], size, load)
        if value.get("counts") is not None:
            return value
        if value.get("bytes"):
            return _of_picture(value["bytes"])
        if value.get("path"):
            return _of_picture(load(value["path"]), value["path"])
        raise ValueError(f"a mask with the keys {', '.join(map(str, value))} holds neither run lengths nor a picture")
    if isinstance(value, (list, tuple, np.ndarray)):
        return _of_lists(value, size)
    raise ValueError(f"a mask is a picture, run lengths, polygons or rows, not {str(value)[:60]}")


def segmentation_of(value: Any, size: tuple[int, int] | None, load: Callable[[str], bytes]) -> Any:
    """An annotated mask in any form of `parse_mask` as run lengths or polygons.

    Of pixels all but 0 (black, or the first color of a palette) are inside. A JPEG has no sharp values: inside is what
    is at least half of white, and its run lengths have the further key ``blurred``. Errors are those of `parse_mask`.
    """
    found = parse_mask(value, size, load)
    if not isinstance(found, Pixels):
        return found
    if found.picture == "JPEG":
        return _rle(found.values >= 128) | {"blurred": True}
    inside = found.values != 0
    return _rle(inside if inside.ndim == 2 else inside.any(axis=2))


def from_base64(text: str) -> bytes | None:
    """The picture that a text holds, or ``None`` if it is rather a path: it is long, and starts as a picture does."""
    if len(text) < 100 or not text.startswith(_PICTURES):
        return None
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def is_one_polygon(segmentation: Any) -> bool:
    """Whether a segmentation is a polygon without a list around it, where a second part would have no place."""
    return isinstance(segmentation, list) and bool(segmentation) and isinstance(segmentation[0], Real)


def _of_text(text: str, size: tuple[int, int] | None, load: Callable[[str], bytes]) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return _of_picture(picture) if (picture := from_base64(text)) else _of_picture(load(text), text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the mask is damaged JSON: {error}") from None
    return parse_mask(value, size, load)


def _of_picture(data: bytes, name: str = "of the mask") -> Pixels:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except Exception as error:  # damaged files make the decoders raise all kinds of errors
        raise ValueError(f"the picture {name} can't be decoded: {error}") from error
    if picture.format == "JPEG":
        return Pixels(np.asarray(picture.convert("L")), "JPEG")
    opaque = {"RGBA": "RGB", "LA": "L", "PA": "P"}.get(picture.mode)
    values = np.asarray(picture.convert(opaque) if opaque else picture)
    if opaque:
        visible = np.asarray(picture.getchannel("A")) > 0
        if not visible.all() and ((values.reshape(*visible.shape, -1) != 0).any(axis=2) != visible).any():
            raise ValueError(f"the picture {name} has one mask in its colors and another in its transparency; keep one")
    return Pixels(values, str(picture.format), picture.mode in ("P", "PA"))


def _of_lists(value: Any, size: tuple[int, int] | None) -> Any:
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (dict, str)):
        return list(value)  # run lengths, which are checked where their union is taken
    array = _rectangular(value)
    if array is None:
        parts = [part for part in map(_rectangular, value) if part is not None]  # polygons of different lengths
        if len(parts) < len(value) or {part.shape[1:] for part in parts} not in ({()}, {(2,)}):
            raise ValueError("a list in the mask has parts of different depth or no numbers")
        return [part.ravel().tolist() for part in parts]
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]) and array.shape[2] != 2:
        array = array.squeeze(0 if array.shape[0] == 1 else 2)  # one channel
    if array.ndim == 2 and _is_bitmap(array, size):
        return Pixels(array)
    if array.ndim == 3 and array.shape[2] == 2:
        return array.reshape(len(array), -1).tolist()
    if array.ndim == 2 and array.shape[1] == 2:
        return array.ravel().tolist()
    if array.ndim <= 2:
        return array.tolist()
    raise ValueError(f"a mask of the shape {list(array.shape)} is neither rows nor polygons")


def _is_bitmap(array: np.ndarray, size: tuple[int, int] | None) -> bool:
    if array.dtype in _BITMAP_TYPES or (size is not None and array.shape in (size, size[::-1])):
        return True
    if len(array) < 2:
        return False
    if np.isin(array, (0, 1)).all():
        return True
    return bool(np.isin(array, (0, 255)).all()) and (size is None or array.shape[1] > _LONGEST_SQUARE)


def _rectangular(value: Any) -> np.ndarray | None:
    """Nested lists as an array of numbers; ``None`` if their lengths differ or there is something else in them."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "biuf" else None


def _rle(inside: np.ndarray) -> dict[str, Any]:
    return {"size": list(inside.shape), "counts": masks.encode(inside)}
