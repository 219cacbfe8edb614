"""Losses that need boxes alone: projections and colors of neighbors (BoxInst, Tian et al., arXiv 2012.02310)."""

import torch
import torch.nn.functional as F
from torch import Tensor

DILATION = 2
"""Pixels between a pixel and its eight neighbors."""


def neighbors(maps: Tensor, dilation: int = DILATION) -> Tensor:
    """The eight neighbors of every pixel, row by row without the center: ``[N, C, h, w]`` to ``[N, C, 8, h, w]``.

    Neighbors outside the map are 0.
    """
    n, channels, height, width = maps.shape
    around = F.unfold(maps, 3, dilation=dilation, padding=dilation).view(n, channels, 9, height, width)
    return torch.cat([around[:, :, :4], around[:, :, 5:]], dim=2)


def lab_colors(images: Tensor) -> Tensor:
    """CIE Lab (D65) of sRGB images ``[I, 3, h, w]`` in [0, 1]; L in [0, 100]."""
    linear = torch.where(images > 0.04045, ((images.clamp_min(0) + 0.055) / 1.055) ** 2.4, images / 12.92)
    to_xyz = linear.new_tensor(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    )
    white = linear.new_tensor([0.95047, 1.0, 1.08883]).view(3, 1, 1)
    xyz = torch.einsum("xc,nchw->nxhw", to_xyz, linear) / white
    f = torch.where(xyz > 0.008856, xyz.clamp_min(1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def color_similarity(lab: Tensor, valid: Tensor | None = None) -> Tensor:
    """How alike each pixel and its neighbors are, ``exp(-|lab_i - lab_j| / 2)``.

    Args:
        lab: ``[I, 3, h, w]``.
        valid: ``[I, 1, h, w]``, 1 where the pixels belong to the photo; all of them by default.

    Returns:
        ``[I, 8, h, w]`` in [0, 1]; 0 for neighbors outside the photo.
    """
    valid = torch.ones_like(lab[:, :1]) if valid is None else valid.to(lab.dtype)
    distance = (lab[:, :, None] - neighbors(lab)).norm(dim=1)
    return torch.exp(-distance / 2) * neighbors(valid)[:, 0]


def projection_loss(logits: Tensor, boxes: Tensor) -> Tensor:
    """Dice loss between the projections of masks and of boxes on both axes.

    Args:
        logits: ``[N, h, w]``.
        boxes: ``[N, h, w]``, 1 inside the box.

    Returns:
        Scalar, the mean over N of the sum of both axes.
    """
    probability, boxes = logits.float().sigmoid(), boxes.float()
    return sum((_dice(probability.amax(axis), boxes.amax(axis)) for axis in (1, 2)), logits.new_zeros(())).mean()


def pairwise_disagreement(logits: Tensor) -> Tensor:
    """``-log`` of the probability that a pixel and a neighbor are alike: ``[N, h, w]`` to ``[N, 8, h, w]``."""
    inside, outside = F.logsigmoid(logits.float())[:, None], F.logsigmoid(-logits.float())[:, None]
    # In the log domain: both products underflow where the network is certain.
    return -torch.logaddexp(inside + neighbors(inside)[:, 0], outside + neighbors(outside)[:, 0])


def pairwise_loss(logits: Tensor, boxes: Tensor, similarity: Tensor, threshold: float = 0.3) -> Tensor:
    """Neighbors of like color inside the box belong together.

    Args:
        logits: ``[N, h, w]``.
        boxes: ``[N, h, w]``, 1 inside the box.
        similarity: ``[N, 8, h, w]``, see `color_similarity`.
        threshold: Least similarity of like colors.

    Returns:
        Scalar, the mean over all such pairs of the batch.
    """
    weights = (similarity >= threshold).float() * boxes.float()[:, None]
    return (weights * pairwise_disagreement(logits)).sum() / weights.sum().clamp_min(1)


def _dice(a: Tensor, b: Tensor) -> Tensor:
    return 1 - 2 * (a * b).sum(1) / (a.square().sum(1) + b.square().sum(1) + 1e-5)
