"""Losses against the official numbers and against their formulas."""

import pytest
import torch
import torch.nn.functional as F
from golden import reference

from maskris.batch import Batch
from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.losses import hard_cross_entropy, soft_cross_entropy, soft_prediction


def test_hard_loss_is_the_official_one(shared):
    tensors, scalars = reference(shared, "extras.safetensors"), reference(shared, "extras.json")
    logits = F.interpolate(tensors["loss.logits"], size=(50, 56), mode="bilinear", align_corners=True)
    ours = hard_cross_entropy(logits, tensors["loss.target"].bool())
    assert ours.item() == pytest.approx(scalars["loss.hard"], abs=1e-6)


def test_soft_loss_is_the_official_one(shared):
    tensors, scalars = reference(shared, "extras.safetensors"), reference(shared, "extras.json")
    ours = soft_cross_entropy(tensors["loss.student_logits"], soft_prediction(tensors["loss.logits"]))
    expected = scalars["loss.soft_target_is_softmax_of_loss.logits_pred_is_student"]
    assert ours.item() == pytest.approx(expected, abs=1e-6)


def test_normalized_soft_loss_of_a_certain_teacher_is_the_hard_loss():
    logits, masks = torch.randn(2, 2, 5, 7), torch.rand(2, 5, 7) > 0.5
    target = torch.stack([~masks, masks], dim=1).float()
    assert soft_cross_entropy(logits, target, normalize=True).item() == pytest.approx(
        hard_cross_entropy(logits, masks).item(), abs=1e-6
    )


def test_one_channel_equals_two_channels_with_background_zero():
    one, masks = torch.randn(2, 1, 5, 7), torch.rand(2, 5, 7) > 0.5
    two = torch.cat([torch.zeros_like(one), one], dim=1)
    assert hard_cross_entropy(one, masks).item() == pytest.approx(hard_cross_entropy(two, masks).item(), abs=1e-6)
    teacher = torch.randn(2, 1, 5, 7)
    pair = torch.cat([torch.zeros_like(teacher), teacher], dim=1)
    assert soft_cross_entropy(one, soft_prediction(teacher)).item() == pytest.approx(
        soft_cross_entropy(two, soft_prediction(pair)).item(), abs=1e-6
    )


def test_losses_stay_finite_where_the_prediction_is_certain_and_wrong():
    logits = torch.tensor([[[[200.0]], [[-200.0]]]])
    assert hard_cross_entropy(logits, torch.ones(1, 1, 1, dtype=torch.bool)).item() == pytest.approx(400)
    assert soft_cross_entropy(logits, soft_prediction(-logits)).item() == pytest.approx(440)


def test_half_precision_logits_are_summed_in_single():
    logits, masks = torch.randn(1, 2, 300, 300), torch.rand(1, 300, 300) > 0.5
    loss = hard_cross_entropy(logits.bfloat16(), masks)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(hard_cross_entropy(logits.bfloat16().float(), masks).item())


def test_soft_masks_that_are_certain_are_hard_masks():
    masks = torch.rand(2, 5, 7) > 0.5
    for logits in (torch.randn(2, 1, 5, 7), torch.randn(2, 2, 5, 7)):
        soft, hard = hard_cross_entropy(logits, masks.float()), hard_cross_entropy(logits, masks)
        assert soft.item() == pytest.approx(hard.item(), abs=1e-6)


def test_at_the_logits_resolution_the_loss_is_the_plain_mean_of_cris():
    logits, soft = torch.randn(3, 1, 6, 8), torch.rand(3, 24, 32)
    batch = Batch(
        images=torch.zeros(3, 3, 24, 32),
        input_ids=torch.zeros(3, 2, dtype=torch.long),
        attention_mask=torch.ones(3, 2, dtype=torch.long),
        image_index=torch.arange(3),
        masks=soft,
    )
    ours = MaskCriterion(1.0, 1.0, "logits")(None, logits, batch)
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], F.interpolate(soft[:, None], size=(6, 8))[:, 0])
    assert ours.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"background": 0.0}, "must be positive"), ({"resolution": "photo"}, "must be 'masks' or 'logits', not 'photo'")],
)
def test_wrong_criteria_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        MaskCriterion(**arguments)
