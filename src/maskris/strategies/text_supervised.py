"""Training from pairs of photo and expression alone, without masks (TRIS, Liu et al., ICCV 2023, first stage)."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from maskris.batch import Batch
from maskris.data.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from maskris.models.base import RISModel
from maskris.models.clip.scorer import CLIPScorer
from maskris.models.encoders.sources import Source
from maskris.strategies.base import Strategy
from maskris.utils.rng import Random

FOCUS, LEAST_SIZE = 3, 0.01
"""Exponent and offset of the prior on sizes, as published."""


class TextLosses(NamedTuple):
    """The three losses, unweighted."""

    foreground: Tensor
    """Of the masked image with its expression."""
    classification: Tensor
    """Of every image with every expression of the batch."""
    calibration: Tensor
    """Of the masked image with expressions that don't fit it."""


class TextSupervised(Strategy):
    """Localization as classification of which of the batch's expressions fits an image, judged by a frozen CLIP.

    For a model that gives the scores of all pairs in training, such as `TRISLocalizer`.

    Args:
        foreground: Weight of the loss that draws what the response map leaves of an image to its expression.
        classification: Weight of the loss that tells an image's expression from all others of the batch.
        calibration: Weight of the loss that keeps what the map leaves away from the batch's ``negatives``
            (``data.negatives``); 0 does without them.
        scorer: CLIP of the frozen scorer, see `CLIPScorer`.
        clip_statistics: Give the scorer pixels as CLIP was trained on; false, as published, gives it those of the
            model, normalized by other means and deviations.

    Raises:
        ValueError: If a weight is negative.
    """

    terms = ("text",)
    needs_masks = False

    def __init__(
        self,
        foreground: float = 1.0,
        classification: float = 5.0,
        calibration: float = 2.0,
        scorer: Source = "ViT-B/32",
        clip_statistics: bool = False,
    ) -> None:
        if min(foreground, classification, calibration) < 0:
            raise ValueError(f"Weights must not be negative, not {foreground}, {classification} and {calibration}")
        self.foreground, self.classification, self.calibration = foreground, classification, calibration
        self.scorer, self.clip_statistics = scorer, clip_statistics
        self._judge: CLIPScorer | None = None

    def prepare(self, model: RISModel, batch: Batch) -> None:
        """Build the scorer beside the model; it never changes, so it belongs to no checkpoint.

        Raises:
            FileNotFoundError: If there are no weights for it.
            ValueError: If the model's tokens are not those of the scorer.
        """
        self._judge = CLIPScorer(self.scorer, model.tokenizer).to(batch.images.device)

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the weighted sum of the three losses, which share one forward pass.

        Raises:
            RuntimeError: If `prepare` was not called.
            ValueError: As `measure`.
        """
        rng.seed_dropout(0)
        found = self.measure(model, batch)
        yield (
            self.foreground * found.foreground
            + self.classification * found.classification
            + self.calibration * found.calibration
        )

    def measure(self, model: RISModel, batch: Batch) -> TextLosses:
        """The three losses of a batch.

        Raises:
            RuntimeError: If `prepare` was not called.
            ValueError: If the model gives no scores of all pairs, or negatives are asked for and not there.
        """
        if self._judge is None:
            raise RuntimeError("There is no scorer yet: call prepare(model, batch) first, as the trainer does")
        scores = model(batch).float()  # [I, N, h, w]
        if scores.shape[:2] != (len(batch.images), len(batch)):
            raise ValueError(
                f"TextSupervised needs the scores of {len(batch.images)} images with {len(batch)} expressions in "
                f"training, not {list(scores.shape)}: train a localizer such as TRISLocalizer with it"
            )
        own = scores[batch.image_index, torch.arange(len(batch), device=scores.device)][:, None]  # [N, 1, h, w]
        maps = model.upsample(own, (batch.images.shape[2], batch.images.shape[3])).sigmoid()
        images = self._pixels(model.preprocess, batch.images)[batch.image_index]
        seen = self._judge.embed_images(images, maps)  # [N, D]
        return TextLosses(
            foreground_loss(seen, self._judge.embed_texts(batch.input_ids)),
            classification_loss(scores, batch.image_index),
            self._calibrate(self._judge, seen, batch) if self.calibration else seen.new_zeros(()),
        )

    def _calibrate(self, judge: CLIPScorer, seen: Tensor, batch: Batch) -> Tensor:
        if batch.negatives is None:
            raise ValueError(
                "This batch has no negatives, which the calibration needs: set data.negatives (3 as published), or "
                "strategy.calibration to 0"
            )
        texts = judge.embed_texts(batch.negatives.flatten(0, 1)).unflatten(0, batch.negatives.shape[:2])
        return calibration_loss(seen, texts)

    def _pixels(self, given: Preprocess, images: Tensor) -> Tensor:
        if not self.clip_statistics:
            return images
        mean, std, new_mean, new_std = (
            torch.tensor(values, device=images.device).view(3, 1, 1)
            for values in (given.mean, given.std, CLIP_MEAN, CLIP_STD)
        )
        return (images * std + mean - new_mean) / new_std


def foreground_loss(images: Tensor, texts: Tensor) -> Tensor:
    """Mean of -ln of the cosines of unit vectors ``[N, D]``, cut to [1e-4, 0.9999]; there is no gradient beyond."""
    return -(images * texts).sum(1).clamp(1e-4, 0.9999).log().mean()


def calibration_loss(images: Tensor, texts: Tensor) -> Tensor:
    """Mean of -ln(1 - cosine) of unit vectors ``[N, D]`` with ``[N, K, D]``; negative for negative cosines."""
    cosine = (texts @ images[..., None])[..., 0]  # [N, K]
    return -(1 - cosine).clamp(min=1e-4).log().mean()


def classification_loss(scores: Tensor, image_index: Tensor) -> Tensor:
    """Multi-label soft margin loss of which expressions belong to an image, from scores at all places.

    Args:
        scores: ``[I, N, h, w]``.
        image_index: ``[N]``, the image of each expression. Two expressions of one photo that is in the batch twice are
            negatives of each other's copy, as published.
    """
    belongs = F.one_hot(image_index, len(scores)).T.to(scores)  # [I, N]
    return F.multilabel_soft_margin_loss(image_logits(scores), belongs)


def image_logits(scores: Tensor) -> Tensor:
    """One logit of each image with each expression ``[I, N]`` from scores ``[I, N, h, w]``.

    Mean and maximum of the scores, and a prior on their `shares`, which is against empty maps.
    """
    share = shares(scores)
    scores = scores.flatten(2)
    return scores.mean(2) + scores.amax(2) + (1 - share) ** FOCUS * (LEAST_SIZE + share).log()


def shares(scores: Tensor) -> Tensor:
    """The part of each image that each expression takes ``[I, N]``, beside a background of score 1 at every place."""
    scores = scores.flatten(2)  # [I, N, h w]
    background = torch.ones_like(scores[:, :1])
    return torch.cat([background, scores], dim=1).softmax(1)[:, 1:].mean(2)
