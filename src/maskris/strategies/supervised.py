"""Plain supervised training, the baseline of every comparison."""

from collections.abc import Iterator

from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.strategies.base import Strategy
from maskris.strategies.criteria.base import Criterion
from maskris.strategies.criteria.masks import MaskCriterion
from maskris.utils.rng import Random


class Supervised(Strategy):
    """Training on clean inputs by the ground truth; with CARIS this is the official CARIS training.

    Args:
        criterion: What supervises the pass; cross entropy with the masks by default.
    """

    terms = ("supervised",)

    def __init__(self, criterion: Criterion | None = None) -> None:
        self.criterion = criterion or MaskCriterion()

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the criterion's loss."""
        rng.seed_dropout(0)
        yield self.criterion.at(rng.step)(model, model(batch), batch)
