"""Conventional augmentations of photo, masks and expressions together, for training.

MaskRIS trains without any, since ordinary ones harm the meaning of phrases; recipes name them under ``data.augment``
(see docs/data.md). They follow the model's resizing: their sizes are in pixels of its input, their cost does not depend
on the photo's size, and resized photos can be cached. Masks move with the photo by nearest neighbors, so that they hold
no new values. Draws are a function of (seed, epoch, item, place in the list) alone.
"""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from maskris.utils.rng import Key, seed_of
from maskris.utils.text import swap_sides

Range = tuple[float, float]

GRAY = (124, 116, 104)
"""The mean of ImageNet, color of areas that an augmentation leaves empty: zero once it is normalized."""


@dataclass(frozen=True)
class Sample:
    """One photo with expressions about it, the input and output of an augmentation.

    Attributes:
        image: ``[3, H, W]`` uint8.
        masks: ``[n, H, W]`` bool, or float in [0, 1] where outlines are soft.
        expressions: ``n`` sentences.
    """

    image: Tensor
    masks: Tensor
    expressions: tuple[str, ...]


class Augmentation(ABC):
    """Random change of a `Sample`; the tensors it is given may be cached and must not be written to.

    Public attributes belong to the identity of a run: a run can't be continued with others.

    Args:
        p: How often it is applied at all.

    Raises:
        ValueError: If `p` is no probability.
    """

    def __init__(self, p: float = 1.0) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p must lie in [0, 1], not {p}")
        self.p = p

    def __call__(self, sample: Sample, rng: random.Random) -> Sample:
        """The sample, changed with probability `p`."""
        return self.apply(sample, rng) if rng.random() < self.p else sample

    @abstractmethod
    def apply(self, sample: Sample, rng: random.Random) -> Sample:
        """The changed sample; all randomness comes from `rng`."""


def apply_augmentations(sample: Sample, augmentations: Sequence[Augmentation], *key: Key) -> Sample:
    """Apply augmentations one after the other.

    Args:
        sample: One photo; all its expressions share the draws.
        augmentations: In their order.
        key: The draws are a function of it. Each augmentation has draws of its own: one more changes no other's.
    """
    sample = replace(sample, image=tv_tensors.Image(sample.image), masks=tv_tensors.Mask(sample.masks))
    for place, augmentation in enumerate(augmentations):
        sample = augmentation(sample, random.Random(seed_of(*key, place)))
    return replace(sample, image=sample.image.as_subclass(Tensor), masks=sample.masks.as_subclass(Tensor))


class HorizontalFlip(Augmentation):
    """Mirror image of photo and masks, and of left and right in the words.

    Args:
        p: How often.
        swap_words: Exchange left and right in the expressions, see `maskris.utils.text.swap_sides`. Without it, "the
            man on the left" is trained on the man on the right.
    """

    def __init__(self, p: float = 0.5, swap_words: bool = True) -> None:
        super().__init__(p)
        self.swap_words = swap_words

    def apply(self, sample: Sample, rng: random.Random) -> Sample:
        """Mirror photo and masks, and the words with `swap_words`."""
        flip = v2.functional.horizontal_flip
        expressions = tuple(map(swap_sides, sample.expressions)) if self.swap_words else sample.expressions
        return Sample(flip(sample.image), flip(sample.masks), expressions)


class RandomResizedCrop(Augmentation):
    """Enlarged part of the photo that contains every referent in whole.

    The rest may be lost ("the man next to the dog" without a dog), and positions change meaning.

    Args:
        p: How often.
        scale: Smallest and largest share of the photo's area; more where a referent needs it.
        ratio: Narrowest and widest shape, as width by height in units of the photo's own.

    Raises:
        ValueError: If a range is empty or not positive, or a share is above 1.
    """

    def __init__(self, p: float = 1.0, scale: Range = (0.5, 1.0), ratio: Range = (0.75, 4 / 3)) -> None:
        super().__init__(p)
        self.scale, self.ratio = _checked(self, "scale", scale, 1.0), _checked(self, "ratio", ratio)

    def apply(self, sample: Sample, rng: random.Random) -> Sample:
        """Cut photo and masks, and bring them back to their size."""
        height, width = sample.image.shape[-2:]
        share = rng.uniform(*self.scale)
        shape = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        covered = sample.masks.as_subclass(Tensor).bool().any(0)
        top, h = _window(rng, height * math.sqrt(share / shape), covered.any(1))
        left, w = _window(rng, width * math.sqrt(share * shape), covered.any(0))

        crop = partial(v2.functional.resized_crop, top=top, left=left, height=h, width=w, size=[height, width])
        return replace(sample, image=crop(sample.image), masks=crop(sample.masks))


def _window(rng: random.Random, length: float, covered: Tensor) -> tuple[int, int]:
    """Start and length of a window of about `length` that contains all of `covered`, a bool vector."""
    size = len(covered)
    inside = covered.nonzero().flatten()
    first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (size, -1)  # no referent: anywhere
    whole = min(size, max(1, round(length), last - first + 1))
    lowest, highest = max(0, last + 1 - whole), min(first, size - whole)
    return lowest + int(rng.random() * (highest - lowest + 1)), whole


class Rotation(Augmentation):
    """Rotation about the middle of the photo. A draw that would take a referent out of the photo is not applied.

    Args:
        p: How often.
        degrees: Largest angle, to either side.
        fill: Color of the corners, RGB in [0, 255].
    """

    def __init__(self, p: float = 1.0, degrees: float = 15.0, fill: tuple[int, int, int] = GRAY) -> None:
        super().__init__(p)
        self.degrees, self.fill = degrees, fill
        self._transform = v2.RandomRotation(
            [-degrees, degrees], v2.InterpolationMode.BILINEAR, fill={tv_tensors.Image: list(fill), tv_tensors.Mask: 0}
        )

    def apply(self, sample: Sample, rng: random.Random) -> Sample:
        """Turn photo and masks."""
        image, masks = _draw(self._transform, rng, sample.image, sample.masks)
        lost = (sample.masks.flatten(1) > 0).any(1) & ~(masks.flatten(1) > 0).any(1)
        return sample if lost.any() else replace(sample, image=image, masks=masks)


class _OfPhoto:
    """Change of the photo alone by a `_transform` of torchvision."""

    _transform: Callable[..., Any]

    def apply(self, sample: Sample, rng: random.Random) -> Sample:
        """Change the photo."""
        return replace(sample, image=_draw(self._transform, rng, sample.image))


class ColorJitter(_OfPhoto, Augmentation):
    """Change of brightness, contrast, saturation and hue, in random order. Color words may become false.

    Args:
        p: How often.
        brightness: Largest relative change.
        contrast: Largest relative change.
        saturation: Largest relative change.
        hue: Largest shift in turns of the color circle, at most 0.5.
    """

    def __init__(
        self, p: float = 1.0, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.1
    ) -> None:
        super().__init__(p)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue
        self._transform = v2.ColorJitter(brightness, contrast, saturation, hue)


class Grayscale(_OfPhoto, Augmentation):
    """Photo without colors. Color words lose their meaning.

    Args:
        p: How often.
    """

    _transform = v2.Grayscale(3)

    def __init__(self, p: float = 0.2) -> None:
        super().__init__(p)


class GaussianBlur(_OfPhoto, Augmentation):
    """Blurred photo.

    Args:
        p: How often.
        sigma: Smallest and largest standard deviation in pixels of the model's input.

    Raises:
        ValueError: If the range is empty or not positive.
    """

    def __init__(self, p: float = 0.5, sigma: Range = (0.1, 2.0)) -> None:
        super().__init__(p)
        self.sigma = _checked(self, "sigma", sigma)
        self._transform = v2.GaussianBlur(2 * math.ceil(3 * sigma[1]) + 1, list(sigma))


class CutOut(_OfPhoto, Augmentation):
    """Rectangle of one color over the photo (random erasing). The masks keep what is under it.

    Args:
        p: How often.
        scale: Smallest and largest share of the photo's area.
        ratio: Narrowest and widest shape.
        fill: Color of the rectangle, RGB in [0, 255].

    Raises:
        ValueError: If a range is empty or not positive, or a share is above 1.
    """

    def __init__(
        self, p: float = 0.5, scale: Range = (0.02, 0.2), ratio: Range = (0.3, 3.3), fill: tuple[int, int, int] = GRAY
    ) -> None:
        super().__init__(p)
        self.scale, self.ratio = _checked(self, "scale", scale, 1.0), _checked(self, "ratio", ratio)
        self.fill = fill
        self._transform = v2.RandomErasing(1.0, scale, ratio, list(fill))


def _draw(transform: Callable[..., Any], rng: random.Random, *inputs: Tensor) -> Any:
    """Run one of torchvision's transforms, which draw from PyTorch's global generator, and leave that as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.getrandbits(63))
        return transform(*inputs)


def _checked(owner: Augmentation, name: str, values: Range, most: float = math.inf) -> Range:
    if not 0 < values[0] <= values[1] <= most:
        limit = f", at most {most:g}" if math.isfinite(most) else ""
        raise ValueError(f"{type(owner).__name__}: {name} must be two positive numbers, rising{limit}, not {values}")
    return values
