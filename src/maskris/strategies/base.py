"""`Strategy`: how a model learns from a batch, independent of model, data set and training loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.rng import Random


class Strategy(ABC):
    """A training method.

    Attributes:
        terms: The names of the losses that one step yields, in their order, for the log.
    """

    terms: tuple[str, ...] = ("loss",)

    @property
    def passes(self) -> int:
        """How many losses one step yields."""
        return len(self.terms)

    @abstractmethod
    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the losses of one step; their sum is what the step minimises.

        The trainer backpropagates each loss before it asks for the next, so that the graph of one pass is freed before
        the next pass begins.

        Args:
            model: The model in training mode.
            batch: Normalised images, tokens and masks on the model's device.
            rng: Randomness of this step on this rank; draw from ``rng.generator("what for", device=...)``.

        Yields:
            Weighted scalar losses, as many as `terms` has names.
        """
