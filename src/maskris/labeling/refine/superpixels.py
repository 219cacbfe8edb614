"""Superpixels: maps averaged over small regions of one color, so that masks end where the photo has edges."""

from math import sqrt

import numpy as np
import numpy.typing as npt
from PIL import Image

SIGMA = 1.0
"""Standard deviation in pixels by which photos are smoothed first: their grain would turn 100 superpixels into two."""

_PIXELS = 400_000  # of the photo in which they are looked for, about 630 x 630; more costs time and moves no edge much
_COMPACTNESS = (10.0, 30.0, 100.0, 1000.0)  # each makes them more like the squares of a grid


def divide(photo: Image.Image, count: int) -> npt.NDArray[np.int64]:
    """Divide a photo into regions by SLIC (Achanta et al., 2012).

    Where color alone leaves less than half of the regions asked for, as on a photo of hardly any contrast, place
    counts for more.

    Args:
        photo: RGB.
        count: About how many; there are between half and twice as many.

    Returns:
        ``[h, w]``, the number of each pixel's region, from 0.

    Raises:
        ModuleNotFoundError: If scikit-image is missing.
        ValueError: If `count` is less than 2, or the photo is too small for so many.
    """
    try:
        from skimage.segmentation import slic
    except ModuleNotFoundError as error:
        raise ImportError("Superpixels need scikit-image: pip install 'maskris[weak]'") from error
    if count < 2:
        raise ValueError(f"There are at least 2 superpixels, not {count}")
    if photo.width * photo.height < 4 * count:
        raise ValueError(
            f"A photo of {photo.width} x {photo.height} pixels is too small for {count} superpixels; ask for at most "
            f"{photo.width * photo.height // 4}"
        )
    scale = min(1.0, sqrt(_PIXELS / (photo.width * photo.height)))
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    pixels = np.asarray(photo if scale == 1 else photo.resize(size, Image.Resampling.BILINEAR))
    found = 0
    for compactness in _COMPACTNESS:
        regions = slic(pixels, n_segments=count, compactness=compactness, sigma=SIGMA, start_label=0, channel_axis=-1)
        numbers, regions = np.unique(regions, return_inverse=True)  # SLIC may leave numbers out
        found, regions = len(numbers), regions.reshape(pixels.shape[:2]).astype(np.int64)
        if count / 2 <= found <= 2 * count:
            return _enlarged(regions, photo.height, photo.width)
    raise ValueError(f"SLIC finds {found} superpixels where {count} were asked for; ask for fewer, or for none")


def average(values: np.ndarray, regions: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """A map ``[h, w]`` with the mean of each of the regions ``[h, w]`` in all of its pixels."""
    sums = np.bincount(regions.ravel(), values.ravel().astype(np.float64))
    means = sums / np.maximum(np.bincount(regions.ravel()), 1)
    return np.asarray(means[regions], dtype=np.float32)


def _enlarged(regions: npt.NDArray[np.int64], height: int, width: int) -> npt.NDArray[np.int64]:
    """The nearest region of each pixel of the whole photo."""
    h, w = regions.shape
    rows, columns = (np.arange(height) * h) // height, (np.arange(width) * w) // width
    return np.asarray(regions[rows[:, None], columns[None]])
