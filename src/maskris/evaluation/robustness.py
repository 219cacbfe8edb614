"""Perturbations of the input under which a model can be evaluated; the paper's is random patch occlusion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskris.data.preprocess import IMAGENET_MEAN
from maskris.rng import numpy_generator


@dataclass(frozen=True)
class PatchOcclusion:
    """Cover random square patches of each image with the mean colour, as the masked branch of MaskRIS sees images.

    Which patches are covered depends on `seed` and the image's id alone, neither on the batch nor on the process.

    Attributes:
        ratio: Share of the patches to cover; of `L` patches ``round(ratio * L)`` are (Python's rounding: half to even).
        patch_size: Side of a patch in pixels of the model's input. Where a side of the image is no multiple of it,
            the patches at the right and the bottom are cut.
        seed: Another seed covers other patches.
        mean: The model's mean colour on a scale of [0, 1], which uint8 images are covered with. Float images count as
            normalised, and are covered with 0.

    Raises:
        ValueError: If `ratio` is outside [0, 1] or `patch_size` not positive.
    """

    ratio: float = 0.25
    patch_size: int = 8
    seed: int = 0
    mean: tuple[float, float, float] = IMAGENET_MEAN

    def __post_init__(self) -> None:
        """Check the values (they may come from a command line)."""
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"The share of occluded patches lies between 0 and 1, not {self.ratio}")
        if self.patch_size < 1:
            raise ValueError(f"patch_size must be positive, not {self.patch_size}")

    def __call__(self, images: Tensor, image_ids: Sequence[int]) -> Tensor:
        """Occlude a batch.

        Args:
            images: ``[I, 3, H, W]`` uint8, or float if normalised; left as they are.
            image_ids: `I` ids.

        Returns:
            New images of the same shape, type and device.

        Raises:
            ValueError: If there is not one id for each image.
        """
        if len(image_ids) != len(images):
            raise ValueError(f"{len(images)} images need as many ids, not {len(image_ids)}")
        height, width = images.shape[-2:]
        covered = self.masks(image_ids, height, width).unsqueeze(1).to(images.device)  # [I, 1, H, W]
        if images.is_floating_point():
            return images.masked_fill(covered, 0)
        colour = (torch.tensor(self.mean) * 255).round().to(images.dtype).view(3, 1, 1).to(images.device)
        return torch.where(covered, colour, images)

    def masks(self, image_ids: Sequence[int], height: int, width: int) -> Tensor:
        """The covered pixels ``[I, height, width]`` as bool."""
        rows, columns = -(-height // self.patch_size), -(-width // self.patch_size)
        patches = torch.zeros(len(image_ids), rows * columns, dtype=torch.bool)
        for i, image_id in enumerate(image_ids):
            # Raw bits, because only those never change between NumPy versions.
            bits = numpy_generator(self.seed, "patch occlusion", int(image_id)).bit_generator
            order = np.argsort(bits.random_raw(rows * columns), kind="stable")
            patches[i, torch.from_numpy(order[: round(self.ratio * rows * columns)])] = True
        grid = patches.view(-1, rows, columns)
        pixels = grid.repeat_interleave(self.patch_size, 1).repeat_interleave(self.patch_size, 2)
        return pixels[:, :height, :width]
