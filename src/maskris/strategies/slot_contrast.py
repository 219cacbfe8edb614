"""Training of SaG by sentences alone (Kim et al., ICCV 2023), and MaskRIS on top of it."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.models.pairs import Comparison, SlotBatch
from maskris.strategies.base import Strategy
from maskris.strategies.masking import ImageMasking, TextMasking, mask_batch
from maskris.utils.rng import Random

_EDGE = 1e-3  # maps touch 0 and 1, where a cross entropy has no finite gradient


class SlotContrast(Strategy):
    """Which of the images of a batch was a sentence written about? What it gathers from each must tell (the C³ loss).

    The loss of the clean pass is the cross entropy over images of the similarity of a sentence with what it gathers,
    plus the error with which slots draw the patches again. No mask is read.

    With `image` or `text` there is a second pass over the masked batch, as in MaskRIS (arXiv 2411.19067): its map
    learns from that of the clean pass by a binary cross entropy. Both passes share the noise that slots are drawn with,
    else slots would differ and maps with them. The paper reports SaG with MaskRIS and not how; this is our reading.

    Args:
        image: Masking of the images; ``None`` leaves them as they are.
        text: Masking of the words; ``None`` leaves them as they are.
        clean_weight: Weight of the clean pass where there are two; the masked pass weighs ``1 - clean_weight``.
        reconstruction: Weight of the slots' drawings.
        warmup_steps: Step i, from 1, multiplies the losses by ``i / warmup_steps`` up to there, as published. Under
            AdamW this matters to clipping alone.

    Raises:
        ValueError: If an argument is out of range.
    """

    needs_masks = False

    def __init__(
        self,
        image: ImageMasking | None = None,
        text: TextMasking | None = None,
        clean_weight: float = 0.5,
        reconstruction: float = 1.0,
        warmup_steps: int = 5000,
    ) -> None:
        if not 0 <= clean_weight <= 1:
            raise ValueError(f"clean_weight must lie in [0, 1], not {clean_weight}")
        if min(reconstruction, warmup_steps) < 0:
            raise ValueError(
                f"reconstruction and warmup_steps must not be negative, not {reconstruction} and {warmup_steps}"
            )
        self.image, self.text, self.clean_weight = image, text, clean_weight
        self.reconstruction, self.warmup_steps = reconstruction, warmup_steps
        self._steps = 0  # that are done

    @property
    def masks(self) -> bool:
        """Whether there is a masked pass."""
        return self.image is not None or self.text is not None

    @property
    def terms(self) -> tuple[str, ...]:  # type: ignore[override]
        """One loss, or two where there is a masked pass."""
        return ("clean", "distorted") if self.masks else ("clean",)

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the weighted loss of the sentences, then the weighted distilled loss of the masked pass.

        Raises:
            TypeError: If the model has no slots.
        """
        drawn = self.draw(model, batch, rng)
        factor = min(1.0, (self._steps + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        rng.seed_dropout(0)
        found = Comparison.unpack(model(drawn), len(batch.images))
        clean = F.cross_entropy(found.similarity, batch.image_index) + self.reconstruction * found.error.mean()
        yield (self.clean_weight if self.masks else 1) * factor * clean
        if not self.masks:
            return
        teacher = found.map.detach()
        del found, clean  # and with them the graph of the clean pass
        masked = mask_batch(drawn, model.tokenizer, self.image, self.text, rng)
        rng.seed_dropout(1)
        student = Comparison.unpack(model(masked), len(batch.images)).map
        distilled = F.binary_cross_entropy_with_logits(torch.logit(student, _EDGE), teacher)
        yield (1 - self.clean_weight) * factor * distilled

    def draw(self, model: RISModel, batch: Batch, rng: Random) -> SlotBatch:
        """The batch with the noise of this step's slots."""
        fixed = getattr(model, "noise", None)  # an attribute and not the class, for the trainer wraps the model
        if not isinstance(fixed, Tensor):
            raise TypeError(f"SlotContrast trains models whose slots begin with noise, such as SaG, not {_name(model)}")
        device = batch.images.device
        generator = rng.generator("slot noise", device=device)
        noise = torch.randn(len(batch.images), *fixed.shape, generator=generator, device=device)
        return SlotBatch(**vars(batch), noise=noise)

    def after_step(self, model: RISModel, step: int) -> None:
        """Count the steps of the warm-up."""
        self._steps = step + 1

    def state_dict(self) -> dict[str, Tensor]:
        """The steps done."""
        return {"steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the steps done.

        Raises:
            ValueError: If it is not the state of such a strategy.
        """
        state = dict(state)
        if "steps" in state:
            self._steps = int(state.pop("steps"))
        super().load_state_dict(state)


def _name(model: RISModel) -> str:
    return type(cast(object, getattr(model, "_model", model))).__name__
