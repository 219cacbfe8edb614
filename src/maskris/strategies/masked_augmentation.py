"""Masking as plain augmentation: MaskRIS (arXiv 2411.19067, table 3) without its distillation."""

from collections.abc import Iterator

from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.strategies.base import Strategy
from maskris.strategies.criteria.base import Criterion
from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.masking import IMAGE_MASKING, TEXT_MASKING, ImageMasking, TextMasking, mask_batch
from maskris.utils.rng import Random


class MaskedAugmentation(Strategy):
    """The masked image with the masked text is supervised by the ground truth, alone or beside the clean input.

    The draws are those of `maskris.MaskRIS` at the same seed, so that the two differ in their supervision alone.

    Args:
        image: Masking of the images; ``None`` leaves them as they are.
        text: Masking of the words; ``None`` leaves them as they are.
        clean_weight: 0 trains on masked inputs only, in one pass; above 0 a clean pass of this weight comes first, and
            the masked one weighs the rest.
        criterion: What supervises both passes; cross entropy with the masks by default.

    Raises:
        ValueError: If `clean_weight` is outside [0, 1).
    """

    def __init__(
        self,
        image: ImageMasking | None = IMAGE_MASKING,
        text: TextMasking | None = TEXT_MASKING,
        clean_weight: float = 0.0,
        criterion: Criterion | None = None,
    ) -> None:
        if not 0 <= clean_weight < 1:
            raise ValueError(
                f"clean_weight must lie in [0, 1), not {clean_weight}; clean inputs alone are maskris.Supervised"
            )
        self.image, self.text, self.clean_weight = image, text, clean_weight
        self.criterion = criterion or MaskCriterion()
        self.terms = ("clean", "masked") if clean_weight else ("masked",)

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the weighted clean loss, if it has a weight, then the weighted loss of the masked input."""
        masked = mask_batch(batch, model.tokenizer, self.image, self.text, rng)
        if self.clean_weight:
            rng.seed_dropout(0)
            yield self.clean_weight * self.criterion.at(rng.step)(model, model(batch), batch)
        rng.seed_dropout(1)
        yield (1 - self.clean_weight) * self.criterion.at(rng.step)(model, model(masked), batch)
