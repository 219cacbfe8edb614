"""Real-valued draws that depend on a key alone, the same in every version of NumPy and PyTorch."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from maskris.rng import Dice, Key

_STEPS = 2**53


class Draws(Dice):
    """`Dice` with continuous distributions, each by the inverse of its distribution function.

    Args:
        *key: Integers and strings.
    """

    def __init__(self, *key: Key) -> None:
        super().__init__(*key)

    def uniform(self, *shape: int) -> Tensor:
        """Float64 draws inside (0, 1), the ends excluded."""
        return torch.from_numpy((self.array(0, _STEPS, shape) + 0.5) / _STEPS)

    def normal(self, *shape: int) -> Tensor:
        """Float64 draws with mean 0 and deviation 1."""
        drawn: Tensor = torch.special.ndtri(self.uniform(*shape))
        return drawn

    def poisson(self, levels: Tensor, rate: float) -> Tensor:
        """Counts of light: one draw for each pixel.

        Args:
            levels: Brightness in 255ths, integers from 0 to 255.
            rate: Mean count at full brightness.

        Returns:
            Float64 counts of the same shape.
        """
        table = _poisson_table(rate)  # [256, K], each row ascending to 1
        # Row r is lifted by r, which makes one ascending list of all rows: one search finds every pixel.
        lifted = (table + torch.arange(256, dtype=torch.float64)[:, None]).flatten()
        places = torch.searchsorted(lifted, self.uniform(*levels.shape) + levels)
        return (places - levels * table.shape[1]).clamp(0, table.shape[1] - 1).double()


@lru_cache(maxsize=16)
def _poisson_table(rate: float) -> Tensor:
    """Distribution functions of Poisson variables with the means ``rate * level / 255``: ``[256, K]`` float64."""
    mean = rate * torch.arange(256, dtype=torch.float64)[:, None] / 255
    k = torch.arange(int(rate + 12 * np.sqrt(rate) + 20), dtype=torch.float64)
    return (torch.xlogy(k, mean) - mean - torch.lgamma(k + 1)).exp().cumsum(1).clamp(max=1)
