"""Masks of objects: which proposals are the same object, and where each lies."""

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 0.6
"""How far from itself a pixel or a cell may see the center of its object; the image reaches from -1 to 1."""

SIGMA = 0.2
"""How far from an object's center its pixels may point, before a network has learned how compact objects are."""


def centers(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Centers of a grid's pixels, row by row, as x and y from -1 to 1: ``[height * width, 2]``."""
    y, x = ((torch.arange(n, device=device) + 0.5) / n * 2 - 1 for n in (height, width))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).flatten(0, 1)


def propose(middle: Tensor, compact: Tensor, pixels: Tensor) -> Tensor:
    """Masks of objects with these centers: pixels on an object that point to where its center is.

    Spatial embeddings (Neven et al., CVPR 2019), with cells of a coarse grid in place of sampled seeds.

    Args:
        middle: ``[I, K, 2]``, x and y of each center.
        compact: ``[I, K]``, the logarithm of how close pixels must point to it.
        pixels: ``[I, 3, h, w]``, unbounded: the way to the center of a pixel's object, and the logit of being on one.

    Returns:
        Probabilities, ``[I, K, h * w]``.
    """
    place = points_to(pixels[:, :2])
    distance = (middle[:, :, None] - place[:, None]).square().sum(-1)  # [I, K, h * w]
    inside = F.logsigmoid(pixels[:, 2].flatten(1))
    return (inside[:, None] - distance * (compact.exp() / (2 * SIGMA**2))[:, :, None]).exp()


def points_to(ways: Tensor) -> Tensor:
    """Where the cells of a grid point to with unbounded `ways` along x and y: ``[I, 2, h, w]`` to ``[I, h * w, 2]``."""
    return centers(ways.shape[2], ways.shape[3], ways.device) + REACH * ways.flatten(2).mT.tanh()


def pairwise_iou(masks: Tensor) -> Tensor:
    """Soft IoU of every pair of masks ``[I, K, P]`` with values in [0, 1]: ``[I, K, K]``; 0 where both are empty."""
    both = masks @ masks.mT
    area = masks.sum(2)
    return both / (area[:, :, None] + area[:, None] - both + 1e-2)


def distinct(masks: Tensor, most: int) -> Tensor:
    """Choose proposals of which no two are the same object, the clearest first.

    Each choice takes from the others as much as they overlap with it (soft non-maximum suppression).

    Args:
        masks: ``[I, C, P]``, probabilities of `P` pixels in `C` proposals about each of `I` images.
        most: How many to choose of an image.

    Returns:
        Numbers of the chosen proposals, ``[I, most]`` int64, no one twice.
    """
    iou = pairwise_iou(masks)
    value = masks.square().sum(2) / (masks.sum(2) + 1)  # how sure the pixels of a mask are, little for tiny ones
    taken = torch.zeros_like(value, dtype=torch.bool)
    rows = torch.arange(len(masks), device=masks.device)
    chosen = []
    for _ in range(most):
        best = value.masked_fill(taken, -1).argmax(1)
        chosen.append(best)
        taken = taken.scatter(1, best[:, None], True)
        value = value * (1 - iou[rows, best]).clamp(min=0).square()
    return torch.stack(chosen, dim=1)


def take(values: Tensor, kept: Tensor) -> Tensor:
    """Of the values ``[I, C, …]`` of all proposals those of the kept ones ``[I, K]``: ``[I, K, …]``."""
    return values[torch.arange(len(kept), device=kept.device)[:, None], kept]


def shares(masks: Tensor) -> Tensor:
    """What each pixel is of its mask ``[I, K, P]``: weights that add up to 1, or to less where hardly anything is."""
    return masks / (masks.sum(2, keepdim=True) + 0.1)


def geometry(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Place and size of objects, each of the numbers about 1 in size.

    Args:
        masks: ``[I, K, h * w]`` in [0, 1].
        size: h and w.

    Returns:
        ``[I, K, 8]``: x and y of the middle, spread along x and y, area, its logarithm, its root, and how sure the
        pixels are.
    """
    grid = centers(*size, masks.device)
    area = masks.mean(2, keepdim=True)
    share = shares(masks)
    middle = share @ grid
    spread = (share @ grid.square() - middle.square()).clamp(min=1e-4).sqrt()
    sure = (masks.square().mean(2, keepdim=True) + 1e-4) / (area + 1e-4)
    logarithm = (area + 1e-3).log() / 2 + 2
    return torch.cat([middle, spread * 3, area * 10, logarithm, area.sqrt() * 3, sure], dim=2)
