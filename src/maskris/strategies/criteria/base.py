"""`Criterion`: what supervises the clean pass, and how a distorted pass learns from it."""

from abc import ABC, abstractmethod

from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel


class Criterion(ABC):
    """Supervision of the clean pass, and the distilled term that goes with it.

    A class and not a protocol, so that recipes can name one.
    """

    def at(self, step: int) -> "Criterion":
        """The criterion as it is in a step, counted from 0; weights that grow are functions of the step alone."""
        return self

    @abstractmethod
    def __call__(self, model: RISModel, logits: Tensor, batch: Batch) -> Tensor:
        """Scalar loss of the clean pass.

        Args:
            model: Whose logits they are.
            logits: ``[N, C, h, w]``, what the model returns in training mode.
            batch: With whatever supervises: masks, boxes, or the pairs alone.
        """

    @abstractmethod
    def soft(self, model: RISModel, logits: Tensor, teacher: Tensor) -> Tensor:
        """Scalar loss of a distorted pass against the prediction of a clean one.

        Networks with several heads, maps or boxes are distilled in their own way; no method needs to know how.

        Args:
            model: Whose logits they are.
            logits: ``[N, C, h, w]`` of the student, in training mode.
            teacher: Logits of the same shape; no gradient flows into them.
        """
