"""Features of pixels from maps of several strides."""

import torch.nn.functional as F
from torch import Tensor, nn

from maskris.models.layers.attention import sine_encoding


class PixelDecoder(nn.Module):
    """Four views meet in a pixel: what is here, what is around it, what the whole image is like, and where it lies.

    Args:
        fine: Channels of the map at the pixels' own stride.
        coarse: Channels of the maps at twice that stride and of any other; a multiple of 4.
        width: Channels of the pixels.
    """

    def __init__(self, fine: int, coarse: int, width: int) -> None:
        super().__init__()
        self.here, self.around = nn.Conv2d(fine, width, 1), nn.Conv2d(coarse, 4 * width, 1)
        self.everywhere, self.position = nn.Conv2d(coarse, width, 1), nn.Conv2d(coarse, width, 1)
        self.refine = nn.Sequential(
            nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, fine: Tensor, body: Tensor, whole: Tensor) -> Tensor:
        """Maps ``[I, fine, h, w]``, ``[I, coarse, h / 2, w / 2]`` and ``[I, coarse, …]`` to ``[I, width, h, w]``."""
        height, width = fine.shape[2:]
        place = sine_encoding(height, width, body.shape[1], fine.device).to(fine).mT.unflatten(1, (height, width))
        pixels = self.here(fine) + F.pixel_shuffle(self.around(body), 2) + self.position(place)
        pixels = pixels + F.interpolate(self.everywhere(whole), size=(height, width), mode="bilinear")
        refined: Tensor = pixels + self.refine(pixels)
        return refined
