"""How Swin cuts a map into windows."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Grid(NamedTuple):
    """How a map is cut into windows of `T` pixels: padded at the right and bottom, then shifted to the upper left."""

    height: int
    width: int
    window: int
    shift: int

    def split(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """``[I, h * w, C]`` to ``[I * windows, T, C]``, with `padding` ``[C]``, or zeros, outside of the map."""
        border = (0, 0, 0, -self.width % self.window, 0, -self.height % self.window)
        x = F.pad(x.unflatten(1, (self.height, self.width)), border)
        if padding is not None and any(border):
            x = x + (1 - F.pad(x.new_ones(self.height, self.width, 1), border)) * padding
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.unflatten(2, (-1, self.window)).unflatten(1, (-1, self.window))
        return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)

    def join(self, x: Tensor) -> Tensor:
        """The opposite of `split`, ``[I * windows, T, C]`` to ``[I, h * w, C]``; the padding is dropped."""
        rows, columns = -(-self.height // self.window), -(-self.width // self.window)
        x = x.unflatten(1, (self.window, self.window)).unflatten(0, (-1, rows, columns))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # [I, rows * window, columns * window, C]
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, : self.height, : self.width].flatten(1, 2)

    def mask(self, device: torch.device | None = None) -> Tensor:
        """-100 between pixels that the shift has brought together from opposite sides: ``[windows, T, T]``."""

        def region(side: int) -> Tensor:
            padded = side + -side % self.window
            i = torch.arange(padded, device=device)
            return (i >= padded - self.window).float() + (i >= padded - self.shift).float()

        regions = 3 * region(self.height)[:, None] + region(self.width)  # of the shifted map
        whole = Grid(regions.shape[0], regions.shape[1], self.window, 0)
        windows = whole.split(regions.reshape(1, -1, 1), None)[..., 0]  # [windows, T]
        return (windows[:, :, None] != windows[:, None]).float() * -100.0
