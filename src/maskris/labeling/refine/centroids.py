"""Instances from a field of displacements, each pointing to the middle of its object (IRNet, Ahn et al., CVPR 2019)."""

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STEPS, STILL = 300, 2.5
"""Steps along the field, and the length in pixels below which it counts as having arrived, as published."""


def follow(field: Tensor, steps: int = STEPS) -> Tensor:
    """Where each pixel ends that goes along a field, which is read bilinearly on the way.

    Args:
        field: ``[2, h, w]``, rows and columns to go, in pixels.
        steps: How often.

    Returns:
        ``[2, h, w]`` int64, the row and the column nearest to the end; inside of the map.
    """
    height, width = field.shape[1:]
    last = field.new_tensor([height - 1, width - 1]).view(2, 1, 1)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([rows, columns]).to(field)
    for _ in range(steps):
        # grid_sample takes x before y, in [-1, 1] from the middle of the first pixel to that of the last.
        grid = (2 * place / last.clamp(min=1) - 1).flip(0).permute(1, 2, 0)[None]
        moved = F.grid_sample(field[None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0]
        place = torch.minimum((place + moved).clamp(min=0), last)
    return place.round().long()


def instances(field: Tensor, steps: int = STEPS, still: float = STILL) -> Tensor:
    """Pixels that end in one region in which the field is short; ``[K, h, w]`` bool, disjoint, all pixels together.

    Regions are connected by rows and columns. Pixels that end where the field is long are one instance of their own.

    Raises:
        ImportError: If scikit-image is missing.
    """
    try:
        from skimage import measure
    except ModuleNotFoundError as error:
        raise ImportError("Instances need scikit-image: pip install 'maskris[weak]'") from error
    short = (field.square().sum(0).sqrt() < still).cpu().numpy()
    regions = torch.from_numpy(cast(Any, measure).label(short, connectivity=1, background=0).astype(np.int64))
    row, column = follow(field, steps).cpu()
    own = regions[row, column]  # [h, w]
    return torch.stack([own == number for number in own.unique()]).to(field.device)
