"""Parts of the picture covered with the model's mean color: random patches, the referent, or all but the referent."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.evaluation.metrics import Bools
from maskris.evaluation.perturbation import Origin
from maskris.utils.rng import Key, KeyedRandom, numpy_generator


@dataclass(frozen=True)
class PatchOcclusion:
    """Cover random square patches of each image with the mean color, as the masked branch of MaskRIS sees images.

    Which patches are covered depends on `seed` and the image's id alone, neither on the batch nor on the process; a
    higher ratio covers more of the same.

    Attributes:
        ratio: Share of the patches to cover; of `L` patches ``round(ratio * L)`` are (Python's rounding: half to even).
        patch_size: Side of a patch in pixels of the model's input. Where a side of the image is no multiple of it,
            the patches at the right and the bottom are cut.
        seed: Another seed covers other patches.

    Raises:
        ValueError: If `ratio` is outside [0, 1] or `patch_size` not positive.
    """

    ratio: float = 0.25
    patch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values (they may come from a command line)."""
        _check("occluded patches", self.ratio, self.patch_size)

    def __call__(self, batch: Batch, origin: Origin) -> Batch:
        """The batch with occluded images."""
        height, width = batch.images.shape[-2:]
        covered = self.masks(origin.image_ids, height, width)  # [I, H, W]
        return replace(batch, images=cover(batch.images, covered, origin.preprocess))

    def masks(self, image_ids: Sequence[int], height: int, width: int) -> Tensor:
        """The covered pixels ``[I, height, width]`` as bool."""
        covered = torch.zeros(len(image_ids), height, width, dtype=torch.bool)
        for i, image_id in enumerate(image_ids):
            ranks = _patch_ranks(height, width, self.patch_size, self.seed, "patch occlusion", int(image_id))
            covered[i] = torch.from_numpy(ranks < round(self.ratio * (ranks.max() + 1)))
        return covered


class _OwnPictures(ABC):
    """An occlusion for which every referent of a batch gets a picture of its own, which its expressions share."""

    @abstractmethod
    def _covered(self, referent: Bools, image_id: int, ref_id: int) -> Bools:
        """The pixels ``[H, W]`` to cover, from the mask of the referent."""

    def __call__(self, batch: Batch, origin: Origin) -> Batch:
        """The batch with one image for each referent.

        Raises:
            ValueError: If the batch has no masks.
        """
        if batch.masks is None:
            raise ValueError("The batch has no masks: what is hidden depends on where the referent is")
        image_index = batch.image_index.tolist()
        places: dict[tuple[int, int], int] = {}  # (image, referent) -> its first expression
        own = [places.setdefault(key, n) for n, key in enumerate(zip(image_index, origin.ref_ids, strict=True))]
        first = list(places.values())
        referents = (batch.masks[first] > 0.5).numpy()  # [R, H, W]; a letterbox has masks with soft outlines
        planes = [
            self._covered(referent, int(origin.image_ids[image_index[n]]), int(origin.ref_ids[n]))
            for n, referent in zip(first, referents, strict=True)
        ]
        images = batch.images[batch.image_index[first]]  # [R, 3, H, W]
        images = cover(images, torch.from_numpy(np.stack(planes)), origin.preprocess)
        return replace(batch, images=images, image_index=torch.tensor([first.index(n) for n in own]))


@dataclass(frozen=True)
class ReferentOcclusion(_OwnPictures):
    """Cover a share of every referent from one side, as something would that stands in front of it.

    Every expression gets a picture in which only its own referent is covered. The side depends on `seed` and the ids of
    the image and the referent; a higher share covers more from the same side. The covered part has the referent's
    outline, and nothing else is touched.

    Attributes:
        share: Of the referent's own pixels at the model's input size; ``round(share * area)`` are covered.
        seed: Another seed covers from other sides.

    Raises:
        ValueError: If `share` is outside [0, 1].
    """

    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the share."""
        _check("the referent that is covered", self.share)

    def _covered(self, referent: Bools, image_id: int, ref_id: int) -> Bools:
        angle = math.tau * KeyedRandom(self.seed, "referent occlusion", image_id, ref_id).below(360) / 360
        # Whole numbers: their order can't depend on a machine's arithmetic.
        y, x = np.indices(referent.shape)
        depth = x * round(4096 * math.cos(angle)) + y * round(4096 * math.sin(angle))
        return _first(np.asarray(depth), referent, self.share)


@dataclass(frozen=True)
class ContextOcclusion(_OwnPictures):
    """Cover a share of all that is not the referent, in random patches that leave the referent as it is.

    Every expression gets a picture in which its own referent is whole. Which patches come first depends on `seed` and
    the ids of the image and the referent; the last of them may be covered in part.

    Attributes:
        share: Of the pixels outside the referent at the model's input size; ``round(share * area)`` are covered.
        patch_size: Side of a patch in pixels of the model's input.
        seed: Another seed covers other patches.

    Raises:
        ValueError: If `share` is outside [0, 1] or `patch_size` not positive.
    """

    share: float = 0.5
    patch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        _check("the context that is covered", self.share, self.patch_size)

    def _covered(self, referent: Bools, image_id: int, ref_id: int) -> Bools:
        ranks = _patch_ranks(*referent.shape, self.patch_size, self.seed, "context occlusion", image_id, ref_id)
        return _first(ranks, ~referent, self.share)


def cover(images: Tensor, covered: Tensor, preprocess: Preprocess) -> Tensor:
    """Paint pixels in the mean color.

    Args:
        images: ``[I, 3, H, W]`` uint8, or float if normalized (the mean is 0 then); left as they are.
        covered: ``[I, H, W]`` bool.
        preprocess: Knows the mean.

    Returns:
        New images of the same type.
    """
    if images.is_floating_point():
        return images.masked_fill(covered[:, None], 0)
    color = (torch.tensor(preprocess.mean) * 255).round().to(images.dtype).view(3, 1, 1)
    return torch.where(covered[:, None], color, images)


def _first(order: npt.NDArray[Any], among: Bools, share: float) -> Bools:
    """The share of the pixels `among` whose numbers are smallest; among equal ones those that are read first."""
    chosen = np.flatnonzero(among)
    covered = np.zeros(among.size, dtype=bool)
    covered[chosen[np.argsort(order.ravel()[chosen], kind="stable")[: round(share * len(chosen))]]] = True
    return covered.reshape(among.shape)


def _patch_ranks(height: int, width: int, size: int, *key: Key) -> npt.NDArray[np.int64]:
    """The place, from 0, of each pixel's patch in a random order: ``[height, width]``."""
    rows, columns = -(-height // size), -(-width // size)
    bits = numpy_generator(*key).bit_generator.random_raw(rows * columns)  # only raw bits never change in NumPy
    ranks = np.argsort(np.argsort(bits, kind="stable")).reshape(rows, columns)
    return ranks.repeat(size, 0).repeat(size, 1)[:height, :width]


def _check(what: str, share: float, patch_size: int = 1) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"The share of {what} lies between 0 and 1, not {share}")
    if patch_size < 1:
        raise ValueError(f"patch_size must be positive, not {patch_size}")
