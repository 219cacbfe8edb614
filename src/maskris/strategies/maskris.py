"""MaskRIS (Lee et al., arXiv 2411.19067): masking as distortion, distilled from the clean prediction."""

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel, evaluation_mode
from maskris.strategies.base import Strategy
from maskris.strategies.criteria.base import Criterion
from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.masking import IMAGE_MASKING, TEXT_MASKING, ImageMasking, TextMasking, mask_batch
from maskris.strategies.memory import fits
from maskris.utils.rng import Random


class MaskRIS(Strategy):
    """Distortion-aware contextual learning (MaskRIS section 3.3).

    The prediction of the clean input is supervised by the ground truth, that of the masked image with the masked text
    by the soft prediction of the clean input. At inference nothing changes.

    Args:
        image: Masking of the images; ``None`` leaves them as they are.
        text: Masking of the words; ``None`` leaves them as they are.
        clean_weight: Weight of the clean term; the distorted term weighs ``1 - clean_weight``.
        criterion: What supervises the clean pass, and how the distorted pass learns from it; cross entropy with the
            masks, and with the soft prediction, by default.
        single_forward: One forward pass over both halves instead of two: the same gradient from one loss, faster on
            small inputs and on GPUs, twice the activations. Only for models without batch statistics. ``"auto"``
            chooses it where both halves of the first batch fit into memory; a resumed run keeps the choice.
        teacher_without_dropout: Let the soft prediction come from a pass of its own in evaluation mode instead of the
            clean training pass (the official code does the latter).

    Raises:
        ValueError: If `clean_weight` is outside [0, 1], or `single_forward` is something else.
    """

    def __init__(
        self,
        image: ImageMasking | None = IMAGE_MASKING,
        text: TextMasking | None = TEXT_MASKING,
        clean_weight: float = 0.5,
        criterion: Criterion | None = None,
        single_forward: bool | Literal["auto"] = False,
        teacher_without_dropout: bool = False,
    ) -> None:
        if not 0 <= clean_weight <= 1:
            raise ValueError(f"clean_weight must lie in [0, 1], not {clean_weight}")
        if single_forward not in (True, False, "auto"):
            raise ValueError(f'single_forward must be true, false or "auto", not {single_forward!r}')
        self.image, self.text, self.clean_weight = image, text, clean_weight
        self.criterion = criterion or MaskCriterion()
        self.single_forward = single_forward is True
        self.auto = self._undecided = single_forward == "auto"
        self.teacher_without_dropout = teacher_without_dropout

    @property
    def terms(self) -> tuple[str, ...]:  # type: ignore[override]
        """One loss where there is a single forward pass, else two."""
        return ("total",) if self.single_forward else ("clean", "distorted")

    def prepare(self, model: RISModel, batch: Batch) -> None:
        """Choose one or two forward passes, if that is left open."""
        if self._undecided:
            self.single_forward = not model.has_batch_statistics and fits(model, batch, passes=2)
            self._undecided = False

    def state_dict(self) -> dict[str, Tensor]:
        """The choice of one or two forward passes, where that was left open."""
        return {"single_forward": torch.tensor(self.single_forward)} if self.auto and not self._undecided else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the choice.

        Raises:
            ValueError: If it is not the state of such a strategy.
        """
        state = dict(state)
        if self.auto and "single_forward" in state:
            self.single_forward, self._undecided = bool(state.pop("single_forward")), False
        super().load_state_dict(state)

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """Yield the weighted clean loss, then the weighted distorted loss; or their sum if `single_forward`.

        Raises:
            ValueError: If `single_forward` is asked for with a model that has batch statistics.
        """
        distorted = self.distort(model, batch, rng)
        teacher = self.teach(model, batch) if self.teacher_without_dropout else None
        rng.seed_dropout(0)
        if self.single_forward:
            clean_logits, distorted_logits = self.both(model, batch, distorted)
            taught = self.criterion.soft(model, distorted_logits, clean_logits.detach() if teacher is None else teacher)
            clean = self.criterion.at(rng.step)(model, clean_logits, batch)
            yield self.clean_weight * clean + (1 - self.clean_weight) * taught
        else:
            logits = model(batch)
            yield self.clean_weight * self.criterion.at(rng.step)(model, logits, batch)
            teacher = logits.detach() if teacher is None else teacher
            del logits  # frees the graph of the clean pass before the second pass
            rng.seed_dropout(1)
            yield (1 - self.clean_weight) * self.criterion.soft(model, model(distorted), teacher)

    def distort(self, model: RISModel, batch: Batch, rng: Random) -> Batch:
        """The batch with masked images and words; drawn anew in every step, differently on every rank."""
        return mask_batch(batch, model.tokenizer, self.image, self.text, rng)

    def teach(self, model: RISModel, batch: Batch) -> Tensor:
        """Logits of the clean input without dropout and without gradient."""
        with torch.no_grad(), evaluation_mode(model):
            logits: Tensor = model(batch)
        return logits

    @staticmethod
    def both(model: RISModel, clean: Batch, distorted: Batch) -> tuple[Tensor, Tensor]:
        """Logits of both batches from one forward pass."""
        if model.has_batch_statistics:
            raise ValueError(
                f"{type(model).__name__} has batch statistics, so one pass over both inputs is another training than "
                "two passes: use single_forward = False"
            )
        both = Batch(
            images=torch.cat([clean.images, distorted.images]),
            input_ids=torch.cat([clean.input_ids, distorted.input_ids]),
            attention_mask=torch.cat([clean.attention_mask, distorted.attention_mask]),
            image_index=torch.cat([clean.image_index, distorted.image_index + len(clean.images)]),
        )
        first, second = model(both).chunk(2)
        return first, second
