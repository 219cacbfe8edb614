"""The letterbox of CRIS and ETRIS: scale without distortion, centre, and put a colour around; and the way back.

Both call OpenCV's ``warpAffine``, whose geometry is kept here without OpenCV: pixel `u` of the result is read at
``(u - offset) / scale`` of the photo, both counted as indices (most libraries count pixel centres); interpolation is
bicubic (a = -0.75) or linear, without antialiasing; and what lies outside has the border's colour. OpenCV 5 agrees
within one of 255 levels of an image; OpenCV 4, which rounds positions to 1/32 pixel, within a few.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kernel = Literal["cubic", "linear"]


class Placement(NamedTuple):
    """Pixel `(y, x)` of the photo lies at ``(top + scale y, left + scale x)`` of the model's input."""

    scale: float
    top: float
    left: float

    @property
    def inverse(self) -> "Placement":
        """From the model's input to the photo."""
        return Placement(1 / self.scale, -self.top / self.scale, -self.left / self.scale)


def place(photo: tuple[int, int], size: tuple[int, int]) -> Placement:
    """Where a photo of height and width `photo` lies in an input of height and width `size`."""
    scale = min(size[0] / photo[0], size[1] / photo[1])
    return Placement(scale, (size[0] - photo[0] * scale) / 2, (size[1] - photo[1] * scale) / 2)


def warp(planes: Tensor, size: tuple[int, int], placement: Placement, border: Tensor, kernel: Kernel) -> Tensor:
    """Draw planes into others.

    Args:
        planes: ``[C, h, w]`` float.
        size: Height and width of the result.
        placement: Where in it the planes lie.
        border: ``[C]``, the value of each plane outside its edges.
        kernel: ``"cubic"`` overshoots at edges, ``"linear"`` doesn't.

    Returns:
        ``[C, *size]`` float.
    """
    # A frame of one pixel holds the border's value, and whatever is read further out is read there.
    framed = border.to(planes)[:, None, None].repeat(1, planes.shape[1] + 2, planes.shape[2] + 2)
    framed[:, 1:-1, 1:-1] = planes
    for dim, offset in ((1, placement.top), (2, placement.left)):  # the kernel is a product of its two directions
        index, weight = _taps(size[dim - 1], framed.shape[dim], placement.scale, offset, kernel, planes.device)
        weight = weight[:, :, None] if dim == 1 else weight
        drawn = framed.index_select(dim, index[0]) * weight[0]
        for k in range(1, len(index)):
            drawn.addcmul_(framed.index_select(dim, index[k]), weight[k])
        framed = drawn
    return framed


def _taps(
    length: int, framed: int, scale: float, offset: float, kernel: Kernel, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which pixels of a framed row make each pixel of the result, and with which weights: both ``[taps, length]``."""
    position = (torch.arange(length, dtype=torch.float64) - offset) / scale
    start = position.floor()
    t = position - start
    if kernel == "linear":
        steps, weight = torch.arange(2), torch.stack([1 - t, t])
    else:
        steps, weight = torch.arange(-1, 3), torch.stack([_far(1 + t), _near(t), _near(1 - t), _far(2 - t)])
    index = (start.long() + 1 + steps[:, None]).clamp(0, framed - 1)
    return index.to(device), weight.float().to(device)


def _near(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.75 for distances up to 1."""
    return (1.25 * x - 2.25) * x * x + 1


def _far(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.75 for distances from 1 to 2."""
    return ((-0.75 * x + 3.75) * x - 6) * x + 3
