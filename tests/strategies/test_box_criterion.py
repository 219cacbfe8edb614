"""Boxes as supervision."""

from dataclasses import replace

import pytest
import torch
from strategies.toys import toy, toy_batch

from maskris.strategies.criteria.boxes import BoxCriterion, tight_boxes
from maskris.strategies.supervised import Supervised
from maskris.utils.rng import Random


def test_only_the_tight_box_of_a_mask_matters() -> None:
    model, batch = toy(channels=1), toy_batch()
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[:, 5, 3], masks[:, 20, 17] = True, True
    boxes = tight_boxes(masks)
    assert boxes.sum().item() == 4 * 16 * 15
    logits, criterion = model(batch), BoxCriterion(ramp=0)
    expected = criterion(model, logits, replace(batch, masks=boxes.bool()))
    assert torch.equal(criterion(model, logits, replace(batch, masks=masks)), expected)


def test_the_ramp_is_a_function_of_the_step() -> None:
    criterion = BoxCriterion(pairwise=2.0, ramp=10)
    assert [criterion.at(step).pairwise for step in (0, 5, 10, 99)] == [0, 1, 2, 2]
    model, batch = toy(channels=1), replace(toy_batch(), masks=torch.ones(4, 32, 32, dtype=torch.bool))
    early, late = (next(Supervised(criterion).losses(model, batch, Random(0, step=step))) for step in (0, 10))
    assert late > early


def test_a_student_equal_to_its_teacher_has_no_gradient() -> None:
    logits = torch.randn(2, 1, 4, 4, requires_grad=True)
    BoxCriterion().soft(toy(channels=1), logits, logits.detach()).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("wrong", [{"ramp": -1}, {"pairwise": -0.1}, {"threshold": 0.0}])
def test_impossible_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"negative|threshold"):
        BoxCriterion(**wrong)  # type: ignore[arg-type]
