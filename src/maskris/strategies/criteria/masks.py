"""`MaskCriterion`: masks supervise, annotated or made by a model."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.strategies.criteria.base import Criterion
from maskris.strategies.losses import CLASS_WEIGHTS, hard_cross_entropy, soft_cross_entropy, soft_prediction


@dataclass(frozen=True)
class MaskCriterion(Criterion):
    """Cross entropy with the masks (MaskRIS equation 1), and with a soft prediction (equation 3).

    Two channels: weighted, divided by the sum of the pixels' weights. One channel: binary, weighted the same way.

    Attributes:
        background: Weight of background pixels.
        referent: Weight of the referent's pixels.
        resolution: ``"masks"`` upsamples the logits to the masks (CARIS, LAVT); ``"logits"`` resizes the masks to the
            logits, to the nearest pixel (CRIS, ETRIS, with both weights 1).
        soft_weights: Of background and referent in the distilled term; by default the same. Far from (1, 1) the student
            learns other probabilities than its teacher's.
        normalize_soft: Divide the distilled term by the sum of its weights, as the hard loss is, instead of by the
            number of pixels, as the official code does.

    Raises:
        ValueError: If a weight is not positive, or the resolution is unknown.
    """

    background: float = CLASS_WEIGHTS[0]
    referent: float = CLASS_WEIGHTS[1]
    resolution: Literal["masks", "logits"] = "masks"
    soft_weights: tuple[float, float] | None = None
    normalize_soft: bool = False

    def __post_init__(self) -> None:
        """Check the values (they come from recipes)."""
        weights = (self.background, self.referent, *(self.soft_weights or ()))
        if min(weights) <= 0:
            raise ValueError(f"The weights of the classes must be positive, not {', '.join(map(str, weights))}")
        if self.resolution not in ("masks", "logits"):
            raise ValueError(f"resolution must be 'masks' or 'logits', not {self.resolution!r}")

    def __call__(self, model: RISModel, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of logits ``[N, C, h, w]`` against masks ``[N, H, W]``, brought to one size.

        Raises:
            ValueError: If the batch has no masks.
        """
        if batch.masks is None:
            raise ValueError("This batch has no masks to learn from: the data set was opened without them")
        masks = batch.masks
        if self.resolution == "masks":
            logits = model.upsample(logits, (masks.shape[1], masks.shape[2]))
        elif masks.shape[1:] != logits.shape[2:]:
            masks = F.interpolate(masks[:, None].to(logits.dtype), size=logits.shape[2:], mode="nearest")[:, 0]
        return hard_cross_entropy(logits, masks, (self.background, self.referent))

    def soft(self, model: RISModel, logits: Tensor, teacher: Tensor) -> Tensor:
        """Cross entropy with the teacher's soft prediction, at the logits' own stride."""
        weights = self.soft_weights or (self.background, self.referent)
        return soft_cross_entropy(logits, soft_prediction(teacher), weights, self.normalize_soft)
