"""MaskRIS with a teacher of averaged weights (Mean Teacher, Tarvainen & Valpola, arXiv 1703.01780)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel, evaluation_mode
from maskris.strategies.criteria.base import Criterion
from maskris.strategies.masking import IMAGE_MASKING, TEXT_MASKING, ImageMasking, TextMasking
from maskris.strategies.maskris import MaskRIS


class EMATeacher(MaskRIS):
    """MaskRIS whose soft prediction comes from averaged weights, on the clean input and without dropout.

    After step k (from 0) the average becomes ``d a + (1 - d) w`` with ``d = min(decay, k / (k + 1))``: the plain mean
    of all weights so far, later an exponential average. Batch statistics and other buffers are copied.
    The average costs one more copy of the weights in memory and one more forward pass in each step. The model that is
    trained, evaluated and saved is the student.

    Args:
        decay: Share of the average that a step keeps; 0.999 averages over about 1000 steps.
        image: As those that follow, see `maskris.MaskRIS`.
        text: Masking of the words.
        clean_weight: Weight of the clean term.
        criterion: What supervises the clean pass.
        single_forward: One forward pass of the student over both halves.

    Raises:
        ValueError: If `decay` is outside [0, 1).
    """

    def __init__(
        self,
        decay: float = 0.999,
        image: ImageMasking | None = IMAGE_MASKING,
        text: TextMasking | None = TEXT_MASKING,
        clean_weight: float = 0.5,
        criterion: Criterion | None = None,
        single_forward: bool = False,
    ) -> None:
        super().__init__(image, text, clean_weight, criterion, single_forward, teacher_without_dropout=True)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), not {decay}")
        self.decay = decay
        self._average: dict[str, Tensor] = {}  # by the names of model.state_dict()

    def teach(self, model: RISModel, batch: Batch) -> Tensor:
        """Logits of the clean input by the averaged weights; before the first step, by the model's own."""
        with evaluation_mode(model):
            return model.functional_forward(self._follow(model), batch)

    @torch.no_grad()
    def after_step(self, model: RISModel, step: int) -> None:
        """Move the average towards the new weights, in place."""
        average, weights = self._follow(model), model.state_dict()
        names = [name for name, _ in model.named_parameters()]
        share = 1 - min(self.decay, step / (step + 1))
        torch._foreach_lerp_([average[name] for name in names], [weights[name] for name in names], share)
        for name in average.keys() - names:
            average[name].copy_(weights[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The average, under the names of the model's weights."""
        return self._average

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the average."""
        self._average = dict(state)

    def _follow(self, model: RISModel) -> dict[str, Tensor]:
        """The average, which begins as a copy of the weights."""
        if not self._average:
            self._average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return self._average
