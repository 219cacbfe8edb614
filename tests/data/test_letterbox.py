"""The letterbox of CRIS and ETRIS against OpenCV's, and its way back."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskris.data.preprocess import CLIP_LETTERBOX, CLIP_MEAN, Placement, Preprocess, place, warp

sides = st.integers(1, 60)


def photo(height: int, width: int) -> np.ndarray:
    """A picture with edges, slopes and noise in three channels."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * 5 + y * 3) % 256, (x * y) % 251, np.where((x // 7 + y // 5) % 2, 240, 10)]
    return np.stack(planes, axis=2).astype(np.uint8)


# By OpenCV 5.0.0: warpAffine(photo(h, w), [[s, 0, left], [0, s, top]], (12, 12), INTER_CUBIC, border (123, 117, 104)),
# rows 5 and 8 of the first two channels; and INTER_LINEAR of 255 x (third channel > 99), row 5.
OPENCV: dict[tuple[int, int], tuple[list[list[int]], list[int]]] = {
    (20, 30): (
        [
            [22, 35, 48, 60, 72, 85, 98, 110, 122, 135, 148, 160],
            [45, 58, 70, 82, 95, 108, 120, 132, 145, 158, 170, 182],
            [0, 19, 38, 56, 75, 94, 112, 131, 150, 169, 188, 218],
            [0, 38, 75, 112, 150, 188, 225, 0, 49, 86, 124, 162],
        ],
        [255, 255, 255, 0, 0, 0, 255, 255, 255, 0, 0, 128],
    ),
    (25, 16): (
        [
            [123, 123, 60, 40, 50, 61, 71, 82, 92, 102, 125, 123],
            [123, 123, 72, 58, 69, 79, 90, 100, 111, 122, 123, 123],
            [117, 117, 36, 18, 40, 61, 83, 106, 127, 151, 113, 117],
            [117, 117, 35, 28, 63, 98, 133, 168, 203, 222, 121, 117],
        ],
        [0, 0, 0, 0, 0, 0, 255, 255, 255, 0, 0, 0],
    ),
    (6, 9): (
        [
            [7, 6, 14, 18, 22, 25, 29, 33, 37, 40, 38, 65],
            [4, 3, 12, 16, 20, 24, 28, 33, 36, 40, 38, 65],
            [0, 0, 3, 5, 7, 9, 10, 12, 14, 15, 8, 41],
            [0, 0, 0, 1, 4, 8, 12, 16, 19, 23, 19, 50],
        ],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 191, 255, 191],
    ),
}


def test_numbers_of_opencv() -> None:
    for (height, width), (rows, mask_row) in OPENCV.items():
        pixels = photo(height, width)
        preprocess = Preprocess(12, 12, "letterbox", CLIP_MEAN)
        image = preprocess.image(Image.fromarray(pixels))
        ours = torch.stack([image[0, 5], image[0, 8], image[1, 5], image[1, 8]]).int()
        assert (ours - torch.tensor(rows)).abs().max() <= 1
        mask = preprocess.mask(pixels[..., 2] > 99)
        assert (mask[5] * 255 - torch.tensor(mask_row)).abs().max() <= 0.51


@pytest.mark.parametrize("size", [(480, 640), (333, 500), (150, 90), (416, 416)])
def test_opencv_where_it_is_installed(size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
    # OpenCV 4 rounds positions to 1/32 pixel.
    levels, soft, back = (1, 0.003, 5e-3) if int(cv2.__version__.split(".")[0]) >= 5 else (8, 0.04, 0.02)
    height, width = size
    pixels, mask = photo(height, width), photo(height, width)[..., 2] > 99
    scale, top, left = place(size, (416, 416))
    matrix = np.array([[scale, 0, left], [0, scale, top]])
    border = [round(255 * value) for value in CLIP_MEAN]
    expected: Any = cv2.warpAffine(pixels, matrix, (416, 416), flags=cv2.INTER_CUBIC, borderValue=border)
    ours = CLIP_LETTERBOX.image(Image.fromarray(pixels)).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - expected).max() <= levels
    expected = cv2.warpAffine(mask.astype(np.uint8) * 255, matrix, (416, 416), flags=cv2.INTER_LINEAR, borderValue=0)
    assert np.abs(CLIP_LETTERBOX.mask(mask).numpy() - expected / 255).max() <= soft
    maps = torch.rand(2, 1, 13, 13, generator=torch.Generator().manual_seed(0))
    maps = torch.nn.functional.interpolate(maps, (416, 416), mode="bicubic")[:, 0].clamp(0.1, 0.9)
    inverse = cv2.invertAffineTransform(matrix)
    for plane, ours_back in zip(maps.numpy(), CLIP_LETTERBOX.restore(maps, size).numpy(), strict=True):
        expected = cv2.warpAffine(plane, inverse, (width, height), flags=cv2.INTER_CUBIC, borderValue=0)
        assert np.abs(ours_back - expected).max() <= back


def test_the_geometry_by_hand() -> None:
    placement = place((20, 40), (60, 60))
    assert placement == Placement(1.5, 15.0, 0.0)
    assert placement.inverse == Placement(1 / 1.5, -10.0, 0.0)
    row = torch.arange(40.0).expand(1, 20, 40)
    drawn = warp(row, (60, 60), placement, torch.tensor([-7.0]), "bilinear")
    torch.testing.assert_close(drawn[0, :14], torch.full((14, 60), -7.0), msg="the border")
    # Pixel u is read at u / 1.5; the last photo pixel, 39, stands at u = 58.5.
    torch.testing.assert_close(drawn[0, 15, :59], torch.arange(59) / 1.5)
    assert drawn[0, 15, 59] == pytest.approx(39 - (59 / 1.5 - 39) * (39 + 7), abs=1e-4), "half photo, half border"


@given(sides, sides, sides, sides)
def test_a_photo_fills_one_side_and_is_centered(height: int, width: int, h: int, w: int) -> None:
    scale, top, left = place((h, w), (height, width))
    assert min(top, left) == pytest.approx(0, abs=1e-9)
    assert 2 * top + h * scale == pytest.approx(height)
    assert 2 * left + w * scale == pytest.approx(width)


@given(sides, sides, sides, sides, st.sampled_from(["bicubic", "bilinear"]))
def test_one_color_stays_one_color(height: int, width: int, h: int, w: int, mode: Any) -> None:
    color = torch.tensor([3.0, 200.0])
    planes = color[:, None, None].expand(2, h, w)
    drawn = warp(planes, (height, width), place((h, w), (height, width)), color, mode)
    torch.testing.assert_close(drawn, color[:, None, None].expand(2, height, width), atol=1e-3, rtol=0)


@given(st.integers(8, 60), st.integers(8, 60), st.integers(8, 60), st.integers(8, 60))
def test_there_and_back_is_the_identity_on_slopes(height: int, width: int, h: int, w: int) -> None:
    """Linear interpolation is exact on slopes, so the way back must be the exact inverse, up to the border."""
    y, x = torch.meshgrid(torch.arange(float(h)), torch.arange(float(w)), indexing="ij")
    planes = torch.stack([x, y])
    placement = place((h, w), (height, width))
    there = warp(planes, (height, width), placement, torch.zeros(2), "bilinear")
    back = warp(there, (h, w), placement.inverse, torch.zeros(2), "bilinear")
    edge = int(3 / placement.scale) + 4
    torch.testing.assert_close(
        back[:, edge : h - edge, edge : w - edge], planes[:, edge : h - edge, edge : w - edge], atol=1e-3, rtol=0
    )


def test_soft_outlines_stay_between_zero_and_one() -> None:
    mask = photo(37, 53)[..., 2] > 99
    soft = Preprocess(24, 24, "letterbox").mask(mask)
    assert soft.dtype == torch.float32
    assert soft.min() == 0
    assert soft.max() == 1
    assert len(soft.unique()) > 10
    restored = Preprocess(24, 24, "letterbox").restore(soft[None], mask.shape)
    assert restored.min() >= 0
    assert restored.max() <= 1
