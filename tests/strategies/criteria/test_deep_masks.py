"""Several outputs, one loss: what is summed, and who learns from whom."""

import pytest
import torch
import torch.nn.functional as F
from strategies.toys import toy, toy_batch

from maskris.batch import Batch
from maskris.strategies.criteria.deep_masks import DeepMaskCriterion
from maskris.strategies.ema_teacher import EMATeacher
from maskris.strategies.maskris import MaskRIS
from maskris.utils.rng import Random


def test_the_sum_of_the_outputs_losses() -> None:
    model, batch, logits = toy(channels=4), toy_batch(), torch.randn(4, 4, 8, 8)
    assert batch.masks is not None
    large = F.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)
    heads = [F.binary_cross_entropy_with_logits(large[:, k], batch.masks.float()) for k in range(4)]
    torch.testing.assert_close(DeepMaskCriterion()(model, logits, batch), torch.stack(heads).sum())


def test_each_output_learns_from_its_own_twin() -> None:
    model, teacher = toy(), torch.randn(2, 4, 8, 8)
    logits = torch.randn(2, 4, 8, 8, requires_grad=True)
    heads = [F.binary_cross_entropy_with_logits(logits[:, k], teacher[:, k].sigmoid()) for k in range(4)]
    taught = DeepMaskCriterion().soft(model, logits, teacher)
    torch.testing.assert_close(taught, torch.stack(heads).sum())
    torch.testing.assert_close(DeepMaskCriterion("first").soft(model, logits, teacher), heads[0])
    (gradient,) = torch.autograd.grad(DeepMaskCriterion("first").soft(model, logits, teacher), logits)
    assert gradient[:, 0].abs().min() > 0
    assert not gradient[:, 1:].any()


def test_no_gradient_flows_to_the_teacher() -> None:
    teacher = torch.randn(2, 4, 8, 8, requires_grad=True)
    logits = torch.randn(2, 4, 8, 8, requires_grad=True)
    DeepMaskCriterion().soft(toy(), logits, teacher).backward()
    assert teacher.grad is None
    assert logits.grad is not None


@pytest.mark.parametrize("distill", ["all", "first"])
def test_a_teacher_in_evaluation_mode_teaches_all_by_its_one_output(distill: str) -> None:
    model, logits, teacher = toy(), torch.randn(2, 4, 16, 16), torch.randn(2, 1, 4, 4)
    large = F.interpolate(teacher, size=(16, 16), mode="bilinear", align_corners=False).sigmoid()
    heads = logits if distill == "all" else logits[:, :1]
    expected = F.binary_cross_entropy_with_logits(heads, large.expand_as(heads)) * heads.shape[1]
    torch.testing.assert_close(DeepMaskCriterion(distill).soft(model, logits, teacher), expected)  # type: ignore[arg-type]


def test_a_perfect_twin_has_the_least_loss() -> None:
    model, teacher = toy(), torch.randn(2, 4, 8, 8)
    same = DeepMaskCriterion().soft(model, teacher.clone(), teacher)
    assert all(same < DeepMaskCriterion().soft(model, teacher + shift, teacher) for shift in (-0.5, 0.5))


def test_half_precision_is_summed_in_single() -> None:
    logits = torch.randn(4, 4, 8, 8).half()
    assert DeepMaskCriterion().soft(toy(), logits, logits).dtype == torch.float32


@pytest.mark.parametrize("strategy", [MaskRIS, EMATeacher])
def test_methods_take_it(strategy: type[MaskRIS]) -> None:
    model, batch = toy(channels=4), toy_batch()
    method = strategy(criterion=DeepMaskCriterion(), image=None)
    method.prepare(model, batch)
    losses = []
    for loss in method.losses(model, batch, Random(0, 0, 0)):
        loss.backward()
        losses.append(loss.item())
    assert len(losses) == 2
    assert all(loss > 0.5 for loss in losses), "four binary cross entropies, each ln 2 at first, half each"


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="distill must be 'all' or 'first', not 'last'"):
        DeepMaskCriterion("last")  # type: ignore[arg-type]
    batch = toy_batch()
    without = Batch(batch.images, batch.input_ids, batch.attention_mask, batch.image_index)
    with pytest.raises(ValueError, match="no masks to learn from"):
        DeepMaskCriterion()(toy(channels=4), torch.randn(4, 4, 8, 8), without)
