"""From the map of an expression to its mask and its peak, as a `Protocol` wants it."""

import torch
from torch import Tensor

from maskris.evaluation.metrics import tight_boxes
from maskris.evaluation.protocol import Protocol

NEGATIVE = -1e-5
"""A peak below this turns the sign of a map that is divided by ``peak + 1e-5``."""


def binarize(maps: Tensor, protocol: Protocol) -> Tensor:
    """Masks ``[N, h, w]`` bool of maps ``[N, h, w]``, which are probabilities or scores as `Protocol.map` says."""
    if not maps.numel():
        return torch.zeros_like(maps, dtype=torch.bool)
    share, score = protocol.threshold, protocol.map == "score"
    high = maps.amax((1, 2), keepdim=True)  # [N, 1, 1]
    if protocol.binarization == "range":
        low = maps.amin((1, 2), keepdim=True)
        return (maps - low) / (high - low + 1e-9) >= share
    if protocol.binarization == "peak":
        masks = (maps > share * high) & (high > 0)
    elif protocol.binarization == "argmax":
        masks = maps > (0 if score else 0.5)
    else:
        masks = maps > share
    return masks | (high < NEGATIVE) if protocol.all_negative == "whole" else masks


def point(maps: Tensor, targets: Tensor) -> Tensor:
    """Whether the peaks of maps lie on the true masks and in their tight boxes: TRIS' HitM (PointM) and PointIt.

    Args:
        maps: ``[N, h, w]``; of equal values the first in reading order is the peak.
        targets: ``[N, h, w]`` bool, on the same device.

    Returns:
        ``[N, 2]`` bool: on the mask, in the box. The pixels of the box's border are in it; an empty mask has no box.
    """
    height, width = maps.shape[1:]
    flat = maps.flatten(1)
    places = torch.arange(height * width, device=maps.device)
    # Not argmax, which may return any of several equal values.
    first = torch.where(flat == flat.amax(1, keepdim=True), places, height * width - 1).amin(1)  # [N]
    y, x = first // width, first % width
    on_mask = targets.flatten(1).gather(1, first[:, None])[:, 0]
    left, top, right, bottom = tight_boxes(targets).unbind(1)
    return torch.stack([on_mask, (x >= left) & (x < right) & (y >= top) & (y < bottom)], dim=1)
