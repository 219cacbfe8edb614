"""EXIF orientation: how the pixels in a photo's file lie to the photo as viewers show it."""

import numpy as np
from PIL import ExifTags, Image

from maskris.data import masks

_TURNS = {  # orientation: how the stored pixels become upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def exif_orientation(image: Image.Image) -> int:
    """The number from 1 (upright as it is stored) to 8.

    It is 1 for damaged EXIF, and for a TIFF, which PIL turns itself while it loads it.
    """
    if image.format == "TIFF":
        return 1
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF comes from any camera or editor; damage there must not hide a photo that decodes
        return 1
    return found if found in _TURNS else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """A picture as viewers show it, without what would make the next reader turn it once more."""
    if orientation == 1:
        return image
    upright = image.transpose(_TURNS[orientation])
    upright.info = {}  # PIL copies it, with EXIF and XMP
    return upright


def turn_mask(
    counts: bytes, height: int, width: int, orientation: int, *, back: bool = False
) -> tuple[bytes, int, int]:
    """A mask of the pixels in a photo's file as one of the upright photo, with its height and width.

    Args:
        counts: Compressed counts of ``[height, width]``.
        height: Before it is turned.
        width: Before it is turned.
        orientation: EXIF's, from 1 to 8, by which the photo is turned upright.
        back: Turn a mask of the upright photo to the pixels in the file.

    Raises:
        ValueError: If there is no such orientation.
    """
    if orientation == 1:
        return counts, height, width
    if orientation not in _TURNS:
        raise ValueError(f"the orientation is a number of EXIF from 1 to 8, not {orientation!r}")
    if back:
        orientation = {6: 8, 8: 6}.get(orientation, orientation)  # the others undo themselves
    plane = Image.fromarray(np.ascontiguousarray(masks.decode(counts, height, width)))
    turned = plane.transpose(_TURNS[orientation])
    return masks.encode(np.asarray(turned)), turned.height, turned.width


def turn_box(box: masks.Box, height: int, width: int, orientation: int) -> masks.Box:
    """A box of the pixels in a photo's file, ``[height, width]``, as one of the upright photo.

    Raises:
        ValueError: If there is no such orientation.
    """
    x, y, w, h = box
    right, below = width - x - w, height - y - h  # what is left beside the box
    turned = {
        1: (x, y, w, h), 2: (right, y, w, h), 3: (right, below, w, h), 4: (x, below, w, h),
        5: (y, x, h, w), 6: (below, x, h, w), 7: (below, right, h, w), 8: (y, right, h, w),
    }  # fmt: skip
    if orientation not in turned:
        raise ValueError(f"the orientation is a number of EXIF from 1 to 8, not {orientation!r}")
    return turned[orientation]
