"""Learning to localize from which phrase belongs to which picture, by InfoNCE (Oord et al., arXiv 1807.03748)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.strategies.base import Strategy
from maskris.utils.rng import Random


class PairContrast(Strategy):
    """A phrase must tell its picture from the others of the batch by its best places.

    No mask, box or class is read. For a model that gives the scores of all pairs in training, such as `PairLocalizer`.
    Phrases that fit several pictures of the batch, and all that say what is not *at* a place, are noise to it.

    Args:
        sharpness: Of the smooth maximum over places: larger looks at the single best place, smaller at many.

    Raises:
        ValueError: If `sharpness` is not positive.
    """

    terms = ("contrast",)
    needs_masks = False

    def __init__(self, sharpness: float = 1.0) -> None:
        if sharpness <= 0:
            raise ValueError(f"sharpness must be positive, not {sharpness}")
        self.sharpness = sharpness

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the mean of both directions: the picture of each phrase, and a phrase of each picture.

        Raises:
            ValueError: If the model gives no scores of all pairs.
        """
        rng.seed_dropout(0)
        scores = model(batch).float()  # [I, N, h, w]
        if scores.shape[:2] != (len(batch.images), len(batch)):
            raise ValueError(
                f"PairContrast needs the scores of {len(batch.images)} images with {len(batch)} expressions in "
                f"training, not {list(scores.shape)}: train a localizer such as PairLocalizer with it"
            )
        yield contrast(pooled(scores, self.sharpness), batch.image_index)


def pooled(scores: Tensor, sharpness: float) -> Tensor:
    """Smooth maximum over places ``[I, N]`` of scores ``[I, N, h, w]``."""
    places = scores.flatten(2)
    return ((sharpness * places).logsumexp(2) - torch.tensor(float(places.shape[2])).log()) / sharpness


def contrast(pairs: Tensor, image_index: Tensor) -> Tensor:
    """InfoNCE of pooled scores ``[I, N]``, where expression `n` belongs to image ``image_index[n]``."""
    of_phrase = F.cross_entropy(pairs.T, image_index)
    own = F.one_hot(image_index, len(pairs)).T.bool()  # [I, N]
    has = own.any(1)
    own_phrases = pairs.masked_fill(~own, float("-inf"))[has].logsumexp(1)
    of_image = (pairs[has].logsumexp(1) - own_phrases).mean()
    return (of_phrase + of_image) / 2
