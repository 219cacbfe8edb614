"""`BoxCriterion`: tight boxes supervise, no outline is known."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel, foreground_logit
from maskris.strategies.box_losses import color_similarity, lab_colors, pairwise_loss, projection_loss
from maskris.strategies.criteria.base import Criterion


@dataclass(frozen=True)
class BoxCriterion(Criterion):
    """Projections on the sides of boxes and colors of neighbors (BoxInst, Tian et al., arXiv 2012.02310).

    Of the batch's masks nothing but their tight boxes is looked at.

    Attributes:
        projection: Weight of the projections.
        pairwise: Weight of the neighbors, once the ramp is over.
        ramp: Steps in which the weight of the neighbors grows linearly from 0; 0 for the full weight at once.
        threshold: Least similarity of neighbors whose colors count as alike.
        stride: Finer logits are averaged to one in so many pixels of the input, as BoxInst's are: on single pixels a
            checkerboard has the projections of a filled box, and neighbors two pixels away agree on it.

    Raises:
        ValueError: If a weight or the ramp is negative, the threshold outside (0, 1], or the stride not positive.
    """

    projection: float = 1.0
    pairwise: float = 1.0
    ramp: int = 10_000
    threshold: float = 0.3
    stride: int = 4

    def __post_init__(self) -> None:
        """Check the values (they come from recipes)."""
        if min(self.projection, self.pairwise, self.ramp) < 0:
            raise ValueError(
                f"projection, pairwise and ramp can't be negative: {self.projection}, {self.pairwise}, {self.ramp}"
            )
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, not {self.stride}")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], not {self.threshold}")

    def at(self, step: int) -> "BoxCriterion":
        """The criterion with the weight that the neighbors have in this step."""
        return replace(self, pairwise=self.pairwise * min(step / self.ramp, 1.0), ramp=0) if self.ramp else self

    def __call__(self, model: RISModel, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of logits ``[N, C, h, w]`` against the tight boxes of masks ``[N, H, W]``, at the logits' stride.

        Raises:
            ValueError: If the batch has no masks to take boxes from.
        """
        if batch.masks is None:
            raise ValueError("This batch has no masks to take boxes from: the data set was opened without them")
        height, width = (max(1, side // self.stride) for side in batch.masks.shape[1:])
        size = (min(logits.shape[2], height), min(logits.shape[3], width))
        scores = F.adaptive_avg_pool2d(foreground_logit(logits), size)
        boxes = F.adaptive_max_pool2d(tight_boxes(batch.masks), size)
        loss = self.projection * projection_loss(scores, boxes)
        if self.pairwise:
            mean, std = (
                batch.images.new_tensor(v).view(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std)
            )
            colors = F.adaptive_avg_pool2d((batch.images * std + mean).float().clamp(0, 1), size)
            similarity = color_similarity(lab_colors(colors))[batch.image_index]
            loss = loss + self.pairwise * pairwise_loss(scores, boxes, similarity, self.threshold)
        return loss

    def soft(self, model: RISModel, logits: Tensor, teacher: Tensor) -> Tensor:
        """Binary cross entropy with the teacher's probabilities, at the logits' own stride."""
        target = foreground_logit(teacher.detach()).float().sigmoid()
        return F.binary_cross_entropy_with_logits(foreground_logit(logits).float(), target)


def tight_boxes(masks: Tensor) -> Tensor:
    """The smallest boxes around masks ``[N, H, W]``, as masks of float32; empty ones stay empty."""
    masks = (masks > 0).float()
    rows, columns = masks.amax(2), masks.amax(1)
    return _between(rows)[:, :, None] * _between(columns)[:, None, :]


def _between(line: Tensor) -> Tensor:
    """1 from the first to the last 1 of each row of ``[N, L]``."""
    after, before = line.cummax(1).values, line.flip(1).cummax(1).values.flip(1)
    return torch.minimum(after, before)
