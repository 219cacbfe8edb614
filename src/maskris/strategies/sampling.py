"""Shapes of image masks (MaskRIS, table A): the order in which the patches of an image vanish.

Every function gives one number per patch; the patches of the smallest numbers stay (`removed_patches`). The share of
removed patches is therefore exact for every shape, size and ratio.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Order = Callable[[int, int, int, float, torch.Generator], Tensor]
"""From images I, rows, columns, ratio and generator to ``[I, rows * columns]``, on the generator's device."""

BLOCKS = 64
"""Blocks drawn for one image; together they cover more than any ratio asks for."""

SMALLEST_BLOCK = 0.08
"""Least share of the image in one block, and `ASPECT` its most elongated shape, as in BEiT (16 of 196 patches)."""

ASPECT = 0.3


def random_order(images: int, rows: int, columns: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Patches vanish independently of their neighbours: the masks of the paper."""
    return torch.rand(images, rows * columns, generator=generator, device=generator.device)


def grid_order(images: int, rows: int, columns: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Patches stay on a lattice, shifted at random: one of 2 x 2 at ratio 0.75, a checkerboard at 0.5.

    In between, the order is that of ordered dithering (Bayer), which fills the lattice as evenly as possible.
    """
    side = 1 << max(rows - 1, columns - 1).bit_length()
    pattern = _bayer(side, generator.device)
    shift = torch.randint(side, (2, images, 1, 1), generator=generator, device=generator.device)
    y = (torch.arange(rows, device=generator.device).view(1, -1, 1) + shift[0]) % side  # [I, rows, 1]
    x = (torch.arange(columns, device=generator.device).view(1, 1, -1) + shift[1]) % side  # [I, 1, columns]
    return pattern[y, x].flatten(1).float()


def block_order(images: int, rows: int, columns: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Rectangles at random places vanish one after the other, the last one in part (as in BEiT)."""
    draws = torch.rand(4, images, BLOCKS, generator=generator, device=generator.device)
    # No block is larger than all that is to vanish.
    area = rows * columns * (SMALLEST_BLOCK + draws[0] * max(0.0, ratio - SMALLEST_BLOCK))
    aspect = torch.exp((2 * draws[1] - 1) * -math.log(ASPECT))
    height = (area * aspect).sqrt().round().clamp(1, rows)  # [I, BLOCKS]
    width = (area / aspect).sqrt().round().clamp(1, columns)
    top, left = (draws[2] * (rows - height + 1)).floor(), (draws[3] * (columns - width + 1)).floor()
    y = torch.arange(rows, device=generator.device)
    x = torch.arange(columns, device=generator.device)
    inside_y = (y >= top[..., None]) & (y < (top + height)[..., None])  # [I, BLOCKS, rows]
    inside_x = (x >= left[..., None]) & (x < (left + width)[..., None])  # [I, BLOCKS, columns]
    covered = (inside_y[..., None] & inside_x[..., None, :]).flatten(2)  # [I, BLOCKS, rows * columns]
    never = torch.ones_like(covered[:, :1])
    first = torch.cat([covered, never], dim=1).byte().argmax(1)  # number of the first block over a patch
    return -first.float()


def cutout_order(images: int, rows: int, columns: int, ratio: float, generator: torch.Generator) -> Tensor:
    """One square around a random point vanishes; where the border cuts it, it grows inwards instead (CutOut)."""
    centre = torch.rand(2, images, 1, 1, generator=generator, device=generator.device)
    y = torch.arange(rows, device=generator.device).view(1, -1, 1) + 0.5 - rows * centre[0]
    x = torch.arange(columns, device=generator.device).view(1, 1, -1) + 0.5 - columns * centre[1]
    return -torch.maximum(y.abs(), x.abs()).flatten(1)


def _bayer(side: int, device: torch.device) -> Tensor:
    """Ranks 0 … side² - 1 of a square of a power of two: each quarter of them is a lattice as even as can be."""
    pattern = torch.zeros(1, 1, dtype=torch.int64, device=device)
    while len(pattern) < side:
        fine = 4 * pattern
        pattern = torch.cat([torch.cat([fine, fine + 2], dim=1), torch.cat([fine + 3, fine + 1], dim=1)])
    return pattern


ORDERS: dict[str, Order] = {
    "random": random_order,
    "grid": grid_order,
    "block": block_order,
    "cutout": cutout_order,
}
