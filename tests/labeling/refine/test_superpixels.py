"""Superpixels follow edges, survive grain, and are as many as were asked for."""

import sys

import numpy as np
import pytest
from PIL import Image

from maskris.labeling.refine.superpixels import average, divide

pytest.importorskip("skimage")


def scene(height=90, width=120, noise=0.0, seed=0):
    """A bright disk on dark ground, in grain of a standard deviation."""
    y, x = np.mgrid[:height, :width]
    disk = (y - 45) ** 2 + (x - 50) ** 2 < 25**2
    pixels = np.where(disk[..., None], (200, 120, 60), (30, 60, 90)).astype(np.float64)
    pixels += np.random.default_rng(seed).normal(0, noise, pixels.shape) if noise else 0
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), disk


@pytest.mark.parametrize("noise", [0, 10, 40, 80])
def test_grain_does_not_change_their_number(noise):
    regions = divide(scene(noise=noise)[0], 100)
    assert regions.shape == (90, 120)
    assert set(regions.ravel()) == set(range(regions.max() + 1))
    assert 50 <= regions.max() + 1 <= 200


def test_a_mask_gets_the_edge_of_the_photo():
    photo, disk = scene(noise=5)
    blurred = np.asarray(Image.fromarray(disk.astype(np.float32)).resize((8, 6), Image.Resampling.BILINEAR))
    blurred = np.asarray(Image.fromarray(blurred).resize((120, 90), Image.Resampling.BILINEAR))
    refined = average(blurred, divide(photo, 100))
    before, after = (((one > 0.5) & disk).sum() / ((one > 0.5) | disk).sum() for one in (blurred, refined))
    assert after > max(before, 0.93)


def test_means():
    regions = np.array([[0, 0, 1], [2, 2, 1]])
    values = np.array([[0.0, 1.0, 0.2], [0.3, 0.5, 0.4]], dtype=np.float32)
    found = average(values, regions)
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.3], [0.4, 0.4, 0.3]], rtol=1e-6)
    assert found.dtype == np.float32


def test_photos_of_any_kind():
    assert 50 <= divide(Image.new("RGB", (120, 90), "gray"), 100).max() + 1 <= 200  # of one color
    rng = np.random.default_rng(0)
    large = divide(Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize((1600, 1200)), 50)
    assert large.shape == (1200, 1600)
    assert 25 <= large.max() + 1 <= 100
    photo = scene(noise=40)[0]
    assert np.array_equal(divide(photo, 50), divide(photo, 50))


def test_what_can_not_be_divided(monkeypatch):
    photo = Image.new("RGB", (20, 10))
    with pytest.raises(ValueError, match="20 x 10 pixels is too small for 100 superpixels; ask for at most 50"):
        divide(photo, 100)
    with pytest.raises(ValueError, match="at least 2 superpixels, not 1"):
        divide(photo, 1)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r"pip install 'maskris\[weak\]'"):
        divide(photo, 10)
