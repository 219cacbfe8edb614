"""Between networks with slots and methods that train them by sentences alone: what one is given, and what it returns.

A network's forward pass takes one batch and returns one tensor, whichever process or precision it runs in.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from maskris.batch import Batch


@dataclass(frozen=True)
class SlotBatch(Batch):
    """A batch whose images come with the noise that their slots are drawn with: all its pairs are to be compared.

    Attributes:
        noise: ``[I, S, D]`` float32, standard normal.
    """

    noise: Tensor | None = None


class Comparison(NamedTuple):
    """What training compares, of `N` sentences and `I` images; `pack` makes one tensor of it, as models return one."""

    similarity: Tensor
    """``[N, I]``, of each sentence, through which no gradient flows here, and what it gathers from each image."""
    error: Tensor
    """``[N]``, mean squared error of the reconstruction of the sentence's image."""
    map: Tensor
    """``[N, h * w]`` from 0 to 1, what the sentence's slots have of its own image, between its lowest and highest."""

    def pack(self) -> Tensor:
        """``[N, I + 1 + h * w]``."""
        return torch.cat([self.similarity, self.error[:, None], self.map], dim=1)

    @classmethod
    def unpack(cls, packed: Tensor, images: int) -> "Comparison":
        """The inverse of `pack` for `images` images."""
        return cls(packed[:, :images], packed[:, images], packed[:, images + 1 :])
