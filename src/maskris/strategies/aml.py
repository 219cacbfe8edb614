"""AML, alignment-aware masked learning (arXiv 2602.22740): patches unrelated to the expression are masked in part."""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel, evaluation_mode
from maskris.strategies.base import Strategy
from maskris.strategies.criteria.base import Criterion
from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.masking import fill_patches, patch_grid
from maskris.utils.rng import Random, generator


class AML(Strategy):
    """The clean image, then the image without a part of its poorly aligned patches, both against the ground truth.

    A patch is as well aligned as its best word: the cosines of its feature with those of the words of the expression,
    by a softmax over the words, then the maximum. Of the patches below the threshold a random part is zeroed. An image
    is masked once for all expressions about it: a patch counts as poorly aligned if it is so for every one of them.

    The features come from a pass of their own in evaluation mode, without gradient.

    Args:
        ratio: Share of an image's poorly aligned patches to remove, rounded down to whole patches.
        threshold: Alignment below which a patch is poorly aligned.
        patch_size: Side of a patch in pixels.
        temperature: Of the softmax over cosines; the smaller, the more one word stands out. With two words no
            alignment is below 0.5, with a single one none below 1.
        clean_weight: Weight of the clean term; the masked term weighs ``1 - clean_weight``.
        projection: Width to which patches and words of different widths are projected by fixed Gaussian matrices
            (Johnson-Lindenstrauss); equal widths are compared as they are.
        seed: Of these matrices.
        criterion: What supervises both passes; cross entropy with the masks by default.

    Raises:
        ValueError: If an argument is out of range.
    """

    terms = ("clean", "masked")

    def __init__(
        self,
        ratio: float = 0.25,
        threshold: float = 0.4,
        patch_size: int = 32,
        temperature: float = 0.1,
        clean_weight: float = 0.5,
        projection: int = 256,
        seed: int = 0,
        criterion: Criterion | None = None,
    ) -> None:
        for name, value in (("ratio", ratio), ("threshold", threshold), ("clean_weight", clean_weight)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], not {value}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        if patch_size < 1 or projection < 1:
            raise ValueError(f"patch_size and projection must be at least 1, not {patch_size} and {projection}")
        self.ratio, self.threshold, self.patch_size = ratio, threshold, patch_size
        self.temperature, self.clean_weight = temperature, clean_weight
        self.projection, self.seed = projection, seed
        self.criterion = criterion or MaskCriterion()

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the weighted clean loss, then the weighted loss of the masked image.

        Raises:
            NotImplementedError: If the model has no `token_features`.
        """
        masked = self.mask(model, batch, rng)
        rng.seed_dropout(0)
        yield self.clean_weight * self.criterion.at(rng.step)(model, model(batch), batch)
        rng.seed_dropout(1)
        yield (1 - self.clean_weight) * self.criterion.at(rng.step)(model, model(masked), batch)

    def mask(self, model: RISModel, batch: Batch, rng: Random) -> Batch:
        """The batch with a random part of its poorly aligned patches at zero."""
        poor = self.alignment(model, batch) < self.threshold  # [I, rows * columns]
        device = batch.images.device
        noise = torch.rand(poor.shape, generator=rng.generator("image mask", device=device), device=device)
        removed = choose(noise, poor, self.ratio)
        return replace(batch, images=fill_patches(batch.images, removed, self.patch_size))

    def alignment(self, model: RISModel, batch: Batch) -> Tensor:
        """Alignment of every image's patches with the best of all words about it: ``[I, rows * columns]``, 0 to 1.

        It is 0 in an image without expressions.
        """
        with torch.no_grad(), evaluation_mode(model):
            visual, words = model.token_features(batch)  # [N, h, w, Dv], [N, L, Dw]
        # Padding and special tokens are no words; they count only where there is nothing else (an unknown word).
        special = torch.tensor(sorted(model.tokenizer.special_ids), device=words.device)
        present = batch.attention_mask.bool()
        proper = present & ~torch.isin(batch.input_ids, special)
        proper = torch.where(proper.any(1, keepdim=True), proper, present)  # [N, L]
        visual, words = self.project(visual.float(), words.float())
        cosines = F.normalize(visual.flatten(1, 2), dim=-1) @ F.normalize(words, dim=-1).mT  # [N, h * w, L]
        scores = (cosines / self.temperature).masked_fill(~proper[:, None], -torch.inf).softmax(-1).amax(-1)
        height, width = batch.images.shape[-2:]
        rows, columns = patch_grid(height, width, self.patch_size)
        down = overlap(height, visual.shape[1], self.patch_size, rows).to(scores)  # [rows, h]
        across = overlap(width, visual.shape[2], self.patch_size, columns).to(scores)  # [columns, w]
        patches = (down @ scores.view(visual.shape[:3]) @ across.mT).flatten(1)  # [N, rows * columns]
        best = patches.new_zeros(len(batch.images), patches.shape[1])
        return best.scatter_reduce_(0, batch.image_index[:, None].expand_as(patches), patches, "amax")

    def project(self, visual: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Bring features ``[..., Dv]`` and ``[..., Dw]`` to one width; the same matrices in every step and process."""
        if visual.shape[-1] == words.shape[-1]:
            return visual, words
        # Drawn on the CPU, whose stream is the same whatever the device of the model.
        matrices = [
            torch.randn(part.shape[-1], self.projection, generator=generator(self.seed, "projection", name))
            for name, part in (("visual", visual), ("words", words))
        ]
        return visual @ matrices[0].to(visual), words @ matrices[1].to(words)


def choose(noise: Tensor, allowed: Tensor, ratio: float) -> Tensor:
    """The allowed patches of smallest noise, ``floor(allowed * ratio)`` of them in every image; all are ``[I, L]``."""
    counts = torch.tensor([int(n * ratio) for n in range(noise.shape[1] + 1)], device=noise.device)
    count = counts[allowed.sum(1, keepdim=True)]  # from a table, because not every device has float64
    order = noise.masked_fill(~allowed, torch.inf).argsort(dim=1, stable=True)
    return order.argsort(dim=1) < count


def overlap(size: int, cells: int, patch_size: int, patches: int) -> Tensor:
    """Share of each patch on each cell of a feature map, along an axis of `size` pixels: ``[patches, cells]`` float32.

    Rows sum to 1. The cells are of equal width and cover the axis; the last patch may be cut.
    """
    patch = torch.arange(patches)[:, None] * float(patch_size)  # where each begins
    cell = torch.arange(cells) * (size / cells)
    shared = (patch + patch_size).clamp(max=size).minimum(cell + size / cells) - patch.maximum(cell)
    shared = shared.clamp(min=0)
    return shared / shared.sum(1, keepdim=True)
