"""`Strategy`: a training method, independent of model, data set and training loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.utils.rng import Random


class Strategy(ABC):
    """A training method.

    Attributes:
        terms: The names of the losses that one step yields, in their order, for the log.
        needs_masks: Whether it learns from masks; if not, training data needs none.
    """

    terms: tuple[str, ...] = ("loss",)
    needs_masks: bool = True

    @property
    def passes(self) -> int:
        """How many losses one step yields."""
        return len(self.terms)

    def prepare(self, model: RISModel, batch: Batch) -> None:  # noqa: B027 (most strategies have nothing to prepare)
        """Look at the first batch of a run, before the first step and again when a run is resumed.

        What is decided here belongs into `state_dict`, so that a resumed run goes on as it began.

        Args:
            model: The network itself, in training mode.
            batch: Normalized images, tokens and masks on the model's device.
        """

    @abstractmethod
    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the losses of one step; their sum is what the step minimizes.

        The trainer backpropagates each loss before the next is computed, so that the graph of one pass is freed before
        the next pass begins.

        Args:
            model: The model in training mode.
            batch: Normalized images, tokens and masks on the model's device.
            rng: Randomness of this step on this rank; draw from ``rng.generator("what for", device=...)``.

        Yields:
            Weighted scalar losses, as many as `terms` has names.
        """

    def after_step(self, model: RISModel, step: int) -> None:  # noqa: B027 (most strategies have nothing to do)
        """Update the strategy's own state after an update of the weights.

        The state must be a function of what this method and `losses` were given: then it is the same in all processes
        and in a resumed run. Batch statistics are those of the first process.

        Args:
            model: The network itself, with its new weights; its ``state_dict()`` has the plain names.
            step: Number of the step, from 0. There is no call for a step that fp16's gradient scaler skipped.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint needs for a resumed run to equal an uninterrupted one."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned, on the device of the model.

        Raises:
            ValueError: If it is not the state of such a strategy.
        """
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, but was given {', '.join(sorted(state)[:3])}, …")
