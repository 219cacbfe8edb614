"""Image and text masking (MaskRIS section 3.2): random patches of the image and words of the sentence are removed.

Every function comes in two halves, the draw (noise from an explicit generator) and what follows from it, so that
published draws can be replayed. All of it is vectorized on the device of its input.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from maskris.batch import Batch
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.utils.rng import Random

Sampling = Literal["random", "grid", "block", "cutout"]
"""Which patches of an image are removed together; see `ORDERS`."""


@dataclass(frozen=True)
class ImageMasking:
    """Removes random patches of every image, independently per image and in all channels alike.

    Attributes:
        ratio: Share of the patches to remove (0.75 in the paper); 0 leaves the images as they are.
        patch_size: Side of a patch in pixels (32 in the paper, at 448 x 448).
        sampling: Which patches go together: ``"random"`` (the paper's), ``"grid"``, ``"block"`` or ``"cutout"``; see
            `ORDERS`.
        fill: Value of the removed pixels in the normalized image; 0 (the paper's) is the mean color, with the usual
            means and deviations -2 is nearly black and 2.2 nearly white.

    Raises:
        ValueError: If `ratio` lies outside [0, 1], `patch_size` below 1, `sampling` is unknown or `fill` infinite.
    """

    ratio: float = 0.75
    patch_size: int = 32
    sampling: Sampling = "random"
    fill: float = 0.0

    def __post_init__(self) -> None:
        """Check the values (they come from recipes)."""
        if self.sampling not in ORDERS:
            raise ValueError(f"sampling must be one of {', '.join(ORDERS)}, not {self.sampling!r}")
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"The share of masked patches must lie in [0, 1], not {self.ratio}")
        if self.patch_size < 1:
            raise ValueError(f"patch_size must be at least 1 pixel, not {self.patch_size}")
        if not math.isfinite(self.fill):
            raise ValueError(f"fill must be a finite number, not {self.fill}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Mask normalized images ``[I, C, H, W]``; `generator` lives on their device."""
        if self.ratio == 0:
            return images
        rows, columns = patch_grid(images.shape[-2], images.shape[-1], self.patch_size)
        noise = ORDERS[self.sampling](images.shape[0], rows, columns, self.ratio, generator)
        return fill_patches(images, removed_patches(noise, self.ratio), self.patch_size, self.fill)


@dataclass(frozen=True)
class TextMasking:
    """Chooses every word token with probability `ratio` and masks, replaces or leaves it (as in BERT).

    Special tokens (padding, unknown, start, end, mask) are never chosen, and the attention mask does not change.

    Attributes:
        ratio: Probability that a word token is chosen (0.15 in the paper); 0 leaves the words as they are.
        mask: Share of the chosen that become the mask token.
        random: Share of the chosen that become a token drawn from the whole vocabulary (but CLIP's start and end, see
            `ExpressionTokenizer.replacement_count`); the rest stays.

    Raises:
        ValueError: If `ratio` is outside [0, 1], or `mask` and `random` are no shares of one whole.
    """

    ratio: float = 0.15
    mask: float = 0.8
    random: float = 0.1

    def __post_init__(self) -> None:
        """Check the values (they come from recipes)."""
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"The probability of masking a word must lie in [0, 1], not {self.ratio}")
        if self.mask < 0 or self.random < 0 or self.mask + self.random > 1 + 1e-9:
            raise ValueError(f"mask and random are shares of one whole; got {self.mask} and {self.random}")

    def __call__(self, input_ids: Tensor, tokenizer: ExpressionTokenizer, generator: torch.Generator) -> Tensor:
        """Mask tokens ``[N, L]`` int64; `generator` lives on their device.

        Raises:
            ValueError: If the tokenizer has no mask token though one is needed.
        """
        if self.ratio == 0:
            return input_ids
        if self.mask > 0 and tokenizer.mask_id is None:
            raise ValueError("This tokenizer has no mask token: choose mask = 0 and random up to 1, or ratio = 0")
        shape, device = input_ids.shape, input_ids.device
        choice = torch.rand(shape, generator=generator, device=device)
        tokens = torch.randint(tokenizer.replacement_count, shape, generator=generator, device=device)
        special = torch.tensor(sorted(tokenizer.special_ids), device=device)
        return self.apply(input_ids, choice, tokens, special, tokenizer.mask_id or 0)

    def apply(self, input_ids: Tensor, choice: Tensor, tokens: Tensor, special: Tensor, mask_id: int) -> Tensor:
        """Mask tokens by given draws.

        Args:
            input_ids: ``[N, L]`` int64.
            choice: ``[N, L]`` uniform draws; below `ratio` a token is chosen, and the position below `ratio` decides
                what becomes of it.
            tokens: ``[N, L]`` random tokens.
            special: Ids that are never chosen.
            mask_id: Id of the mask token.
        """
        if self.ratio == 0:
            return input_ids.clone()
        chosen = (choice < self.ratio) & ~torch.isin(input_ids, special)
        fate = choice / self.ratio  # uniform in [0, 1) among the chosen
        changed = torch.where(fate < self.mask, mask_id, torch.where(fate < self.mask + self.random, tokens, input_ids))
        return torch.where(chosen, changed, input_ids)


def mask_batch(
    batch: Batch, tokenizer: ExpressionTokenizer, image: ImageMasking | None, text: TextMasking | None, rng: Random
) -> Batch:
    """The batch with masked images and words; drawn anew in every step, differently on every rank."""
    device = batch.images.device
    images, input_ids = batch.images, batch.input_ids
    if image is not None:
        images = image(images, rng.generator("image mask", device=device))
    if text is not None:
        input_ids = text(input_ids, tokenizer, rng.generator("text mask", device=device))
    return replace(batch, images=images, input_ids=input_ids)


def patch_grid(height: int, width: int, patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches that cover an image; those at the right and bottom edges may be cut."""
    return math.ceil(height / patch_size), math.ceil(width / patch_size)


def removed_patches(noise: Tensor, ratio: float) -> Tensor:
    """Choose the patches to remove: per image, the ``int(L * (1 - ratio))`` of smallest noise stay.

    Args:
        noise: ``[I, L]`` uniform draws.
        ratio: Share of patches to remove, 0 to 1. The number that stays is rounded down exactly as the official
            code does it, floating point included (25 patches at ratio 0.8 keep 4).

    Returns:
        ``[I, L]`` bool, true where a patch is removed.

    Raises:
        ValueError: If `ratio` is outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"The share of masked patches must lie in [0, 1], not {ratio}")
    kept = int(noise.shape[1] * (1 - ratio))
    removed = torch.ones_like(noise, dtype=torch.bool)
    # A stable sort makes the choice unique when two draws are equal.
    return removed.scatter_(1, noise.argsort(dim=1, stable=True)[:, :kept], False)


def fill_patches(images: Tensor, removed: Tensor, patch_size: int, value: float = 0.0) -> Tensor:
    """Set patches of normalized images to one value; zero is the mean color.

    Args:
        images: ``[I, C, H, W]`` float, any height and width.
        removed: ``[I, L]`` bool, patches row by row over `patch_grid`.
        patch_size: Side of a patch in pixels.
        value: Of all channels of the removed pixels.

    Returns:
        A new tensor ``[I, C, H, W]``.
    """
    height, width = images.shape[-2:]
    rows, columns = patch_grid(height, width, patch_size)
    pixels = removed.view(-1, 1, rows, columns)
    pixels = pixels.repeat_interleave(patch_size, dim=2).repeat_interleave(patch_size, dim=3)
    return images.masked_fill(pixels[:, :, :height, :width], value)


BLOCKS = 64  # drawn for one image; together they cover more than any ratio asks for
SMALLEST_BLOCK, ASPECT = 0.08, 0.3  # least share of the image and most elongated shape, as in BEiT (16 of 196 patches)


def random_order(images: int, rows: int, columns: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Patches independently of their neighbors: the masks of the paper."""
    return torch.rand(images, rows * columns, generator=generator, device=generator.device)


def grid_order(images: int, rows: int, columns: int, ratio: float, generator: torch.Generator) -> Tensor:
    """All patches but those of a lattice, shifted at random: one of 2 x 2 stays at ratio 0.75, a checkerboard at 0.5.

    In between, the order is that of ordered dithering (Bayer), which fills the lattice as evenly as possible.
    """
    side = 1 << max(rows - 1, columns - 1).bit_length()
    pattern = _bayer(side, generator.device)
    shift = torch.randint(side, (2, images, 1, 1), generator=generator, device=generator.device)
    y = (torch.arange(rows, device=generator.device).view(1, -1, 1) + shift[0]) % side  # [I, rows, 1]
    x = (torch.arange(columns, device=generator.device).view(1, 1, -1) + shift[1]) % side  # [I, 1, columns]
    return pattern[y, x].flatten(1).float()


def block_order(images: int, rows: int, columns: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Rectangles at random places, one after the other, the last one in part (as in BEiT)."""
    draws = torch.rand(4, images, BLOCKS, generator=generator, device=generator.device)
    # No block is larger than all that is to be removed.
    area = rows * columns * (SMALLEST_BLOCK + draws[0] * max(0.0, ratio - SMALLEST_BLOCK))
    aspect = torch.exp((2 * draws[1] - 1) * -math.log(ASPECT))
    height = (area * aspect).sqrt().round().clamp(1, rows)  # [I, BLOCKS]
    width = (area / aspect).sqrt().round().clamp(1, columns)
    top, left = (draws[2] * (rows - height + 1)).floor(), (draws[3] * (columns - width + 1)).floor()
    y, x = (torch.arange(size, device=generator.device) for size in (rows, columns))
    inside_y = (y >= top[..., None]) & (y < (top + height)[..., None])  # [I, BLOCKS, rows]
    inside_x = (x >= left[..., None]) & (x < (left + width)[..., None])  # [I, BLOCKS, columns]
    covered = (inside_y[..., None] & inside_x[..., None, :]).flatten(2)  # [I, BLOCKS, rows * columns]
    always = torch.ones_like(covered[:, :1])  # a last block, for patches under no other
    first = torch.cat([covered, always], dim=1).byte().argmax(1)  # number of the first block over a patch
    return -first.float()


def cutout_order(images: int, rows: int, columns: int, ratio: float, generator: torch.Generator) -> Tensor:
    """One square around a random point; where the border cuts it, it grows inwards instead (CutOut)."""
    center = torch.rand(2, images, 1, 1, generator=generator, device=generator.device)
    y = torch.arange(rows, device=generator.device).view(1, -1, 1) + 0.5 - rows * center[0]
    x = torch.arange(columns, device=generator.device).view(1, 1, -1) + 0.5 - columns * center[1]
    return -torch.maximum(y.abs(), x.abs()).flatten(1)


def _bayer(side: int, device: torch.device) -> Tensor:
    """Ranks 0 … side² - 1 of a square of a power of two: each quarter of them is a lattice as even as can be."""
    pattern = torch.zeros(1, 1, dtype=torch.int64, device=device)
    while len(pattern) < side:
        fine = 4 * pattern
        pattern = torch.cat([torch.cat([fine, fine + 2], dim=1), torch.cat([fine + 3, fine + 1], dim=1)])
    return pattern


Order = Callable[[int, int, int, float, torch.Generator], Tensor]
"""From images I, rows, columns, ratio and generator to ``[I, rows * columns]``, on the generator's device."""

ORDERS: dict[str, Order] = {"random": random_order, "grid": grid_order, "block": block_order, "cutout": cutout_order}
"""Orders in which patches stay, by the names of `Sampling`: those of the smallest values stay."""

IMAGE_MASKING, TEXT_MASKING = ImageMasking(), TextMasking()
"""The masks of the paper."""
