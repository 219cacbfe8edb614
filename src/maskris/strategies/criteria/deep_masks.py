"""`DeepMaskCriterion`: masks supervise every output of a network with several of them."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.strategies.criteria.base import Criterion


@dataclass(frozen=True)
class DeepMaskCriterion(Criterion):
    """Sum of the binary cross entropies of all channels, each an output of its own (TRIS, Liu et al., ICCV 2023).

    Pixels count alike, at the size of the masks.

    Attributes:
        distill: Which outputs of a distorted pass learn from the clean one: ``"all"``, each from its own clean twin, or
            ``"first"``, the finest alone. Nothing is published about it.

    Raises:
        ValueError: If `distill` is something else.
    """

    distill: Literal["all", "first"] = "all"

    def __post_init__(self) -> None:
        """Check the value (it comes from recipes)."""
        if self.distill not in ("all", "first"):
            raise ValueError(f"distill must be 'all' or 'first', not {self.distill!r}")

    def __call__(self, model: RISModel, logits: Tensor, batch: Batch) -> Tensor:
        """Loss of logits ``[N, C, h, w]``, upsampled to the masks ``[N, H, W]``.

        Raises:
            ValueError: If the batch has no masks.
        """
        if batch.masks is None:
            raise ValueError("This batch has no masks to learn from: the data set was opened without them")
        logits = model.upsample(logits, (batch.masks.shape[1], batch.masks.shape[2]))
        return _sum_over_outputs(logits, batch.masks[:, None])

    def soft(self, model: RISModel, logits: Tensor, teacher: Tensor) -> Tensor:
        """Loss against the sigmoid of the teacher's logits, output by output, at the logits' own size.

        A teacher in evaluation mode has its finest output alone, ``[N, 1, h', w']``: all outputs learn from that one.
        """
        if self.distill == "first":
            logits, teacher = logits[:, :1], teacher[:, :1]
        teacher = model.upsample(teacher.detach().float(), (logits.shape[2], logits.shape[3]))
        return _sum_over_outputs(logits, teacher.sigmoid())


def _sum_over_outputs(logits: Tensor, target: Tensor) -> Tensor:
    """The sum over channels of the mean over samples and pixels; in fp32 even under autocast."""
    target = target.float().expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits.float(), target) * logits.shape[1]
