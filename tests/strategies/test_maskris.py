"""MaskRIS against the official training step: losses, gradients and the weights after three steps."""

import copy
from dataclasses import replace

import pytest
import torch
from golden import by_official_name, reference, tiny_caris, without_dropout

from maskris.batch import Batch
from maskris.models.caris.model import CARIS
from maskris.strategies.criteria.base import Criterion
from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.masking import ImageMasking, TextMasking, fill_patches, removed_patches
from maskris.strategies.maskris import MaskRIS
from maskris.strategies.supervised import Supervised
from maskris.training.config import TrainingConfig
from maskris.training.optimizer import make_optimizer, set_learning_rate
from maskris.utils.rng import Random

# The gradient of a key projection's bias is zero but for rounding (it cancels in the softmax).
ZERO_GRADIENT = 1e-6


class Replayed(MaskRIS):
    """MaskRIS with the official draws instead of its own."""

    def __init__(self, noise, input_ids, **options):
        super().__init__(**options)
        self.noise, self.input_ids = iter(noise), input_ids

    def distort(self, model, batch, rng):
        removed = removed_patches(next(self.noise), self.image.ratio)
        return replace(batch, images=fill_patches(batch.images, removed, 32), input_ids=self.input_ids)


@pytest.fixture
def case(shared):
    return reference(shared, "tiny_case1.safetensors")


@pytest.fixture
def scalars(shared):
    return reference(shared, "tiny_case1.json")


@pytest.fixture
def batch(case):
    return Batch(
        images=case["image"],
        input_ids=case["input_ids"],
        attention_mask=case["attention_mask"],
        image_index=torch.arange(2),
        masks=case["target_mask"].bool(),
    )


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("single_forward", [False, True])
def test_losses_and_all_gradient_norms_are_the_official_ones(shared, case, scalars, batch, single_forward):
    model = without_dropout(tiny_caris(shared))
    strategy = Replayed([case["image_mask_noise"]], case["input_ids_masked"], single_forward=single_forward)
    losses = []
    for loss in strategy.losses(model, batch, Random(0)):
        loss.backward()
        losses.append(loss.item())
    expected = [0.5 * scalars["loss_original"], 0.5 * scalars["loss_masked_distill"]]
    assert losses == pytest.approx([sum(expected)] if single_forward else expected, abs=1e-5)

    norms = {name: norm for name, norm in scalars["grad_norm_accumulated_before_clip"].items() if norm is not None}
    ours = by_official_name(gradients(model), model, list(norms))
    assert len(ours) == 477
    for name, tensors in ours.items():
        norm = torch.cat([t.flatten() for t in tensors]).norm().item()
        assert norm == pytest.approx(norms[name], rel=2e-3, abs=ZERO_GRADIENT), name
    total = torch.nn.utils.get_total_norm(list(gradients(model).values())).item()
    assert total == pytest.approx(scalars["grad_total_norm_before_clip"], rel=1e-5)


def test_first_pass_alone_has_the_official_gradients(shared, scalars, batch):
    model = without_dropout(tiny_caris(shared))
    (loss,) = Supervised().losses(model, batch, Random(0))
    (0.5 * loss).backward()
    assert loss.item() == pytest.approx(scalars["loss_original"], abs=1e-5)
    norms = scalars["grad_norm_after_first_backward"]
    for name, tensors in by_official_name(gradients(model), model, list(norms)).items():
        norm = torch.cat([t.flatten() for t in tensors]).norm().item()
        assert norm == pytest.approx(norms[name], rel=2e-3, abs=ZERO_GRADIENT), name


def test_three_official_steps_lead_to_the_official_weights(shared, case, scalars, batch):
    model = without_dropout(tiny_caris(shared))
    settings, log = scalars["three_steps"]["args"], scalars["three_steps"]["log"]
    strategy = Replayed(case["steps3.image_mask_noise"], case["input_ids_masked"])
    config = TrainingConfig(
        steps=scalars["three_steps"]["total_iters"],
        lr=settings["lr"],
        weight_decay=settings["weight_decay"],
        warmup_steps=settings["warmup_iters"],
        warmup_ratio=settings["warmup_ratio"],
        first_step_full_rate=True,
    )
    optimizer = make_optimizer(model, config)
    for step, expected in enumerate(log):
        set_learning_rate(optimizer, step, 40, config)
        losses = []
        for loss in strategy.losses(model, batch, Random(0)):
            loss.backward()
            losses.append(2 * loss.item())
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip_value"])
        optimizer.step()
        optimizer.zero_grad()
        assert losses == pytest.approx([expected["org_loss"], expected["sub_loss"]], abs=2e-5)
        assert norm.item() == pytest.approx(expected["grad_norm"], rel=1e-4)
        assert set_learning_rate(optimizer, step + 1, 40, config) == pytest.approx(expected["lr"])

    names = [name.removeprefix("param_after_3_steps.") for name in case if name.startswith("param_after_3_steps.")]
    assert len(names) == 16
    for name, tensors in by_official_name(dict(model.named_parameters()), model, names).items():
        difference = (torch.cat(tensors) - case[f"param_after_3_steps.{name}"]).abs()
        if "sampling_offsets" in name:
            # A point that falls on the border of two pixels takes its gradient from either side, as rounding decides.
            assert (difference > 1e-6).float().mean() < 0.02
            assert difference.max() < 1.8e-4  # what the optimizer can move one weight by in the three steps
        else:
            assert difference.max() < 1e-6, name
    model.eval()
    with torch.no_grad():
        difference = (model(batch) - case["steps3.logits_low"]).abs()
    assert difference.mean() < 1e-4
    assert difference.max() < 5e-4  # what those few sampling offsets make of the logits


def test_clipped_gradients_are_the_official_ones(shared, case, batch):
    model = without_dropout(tiny_caris(shared))
    for loss in Replayed([case["image_mask_noise"]], case["input_ids_masked"]).losses(model, batch, Random(0)):
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    names = [name.removeprefix("grad_clipped.") for name in case if name.startswith("grad_clipped.")]
    assert len(names) == 16
    for name, tensors in by_official_name(gradients(model), model, names).items():
        torch.testing.assert_close(torch.cat(tensors), case[f"grad_clipped.{name}"], atol=2e-6, rtol=1e-3)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return CARIS(
        {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
        {
            "model_type": "bert",
            "vocab_size": 40,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        },
        width=32,
        layers=1,
        heads=2,
        attention_ratio=1,
        tokenizer=[f"w{i}" for i in range(35)],
        preprocess={"height": 64, "width": 64},
    )


def small_batch(expressions=4):
    generator = torch.Generator().manual_seed(3)
    return Batch(
        images=torch.randn(2, 3, 64, 64, generator=generator),
        input_ids=torch.randint(5, 40, (expressions, 6), generator=generator),
        attention_mask=torch.ones(expressions, 6, dtype=torch.int64),
        image_index=torch.arange(expressions) % 2,
        masks=torch.rand(expressions, 64, 64, generator=generator) > 0.7,
    )


def backward(model, strategy, batch):
    model.zero_grad()
    total = 0.0
    for loss in strategy.losses(model, batch, Random(7)):
        loss.backward()
        total += loss.item()
    return total, {name: grad.clone() for name, grad in gradients(model).items()}


def test_a_single_forward_pass_has_the_gradient_of_two_passes_with_shared_images(small):
    # In double precision: in single, a point on the border of two pixels may fall on either side.
    small = without_dropout(copy.deepcopy(small)).double()
    batch = small_batch()
    batch = replace(batch, images=batch.images.double())
    separate, expected = backward(small, MaskRIS(), batch)
    together, ours = backward(small, MaskRIS(single_forward=True), batch)
    assert together == pytest.approx(separate, abs=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-5)


def test_no_gradient_flows_into_the_teacher(small):
    small = without_dropout(copy.deepcopy(small))
    _, ours = backward(small, MaskRIS(clean_weight=0.0, image=ImageMasking(0.0), text=TextMasking(0.0)), small_batch())
    # The student equals its teacher, and at that point cross entropy with equal class weights has no gradient but
    # that of the class weights themselves: the target must have been a constant for that.
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    MaskCriterion().soft(small, logits, logits).backward()
    target = logits.detach().softmax(1)
    weights = target * torch.tensor([0.9, 1.1]).view(1, 2, 1, 1)
    expected = (weights.sum(1, keepdim=True) * target - weights) / (2 * 16)
    torch.testing.assert_close(logits.grad, expected, atol=1e-7, rtol=1e-4)
    assert ours  # the student itself learns


def test_draws_depend_on_seed_step_and_rank_alone(small):
    strategy, batch = MaskRIS(), small_batch()
    first = strategy.distort(small, batch, Random(0, 5, 0))
    again = strategy.distort(small, batch, Random(0, 5, 0))
    other_rank = strategy.distort(small, batch, Random(0, 5, 1))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.input_ids, again.input_ids)
    assert not torch.equal(first.images, other_rank.images)
    assert torch.equal(first.attention_mask, batch.attention_mask)
    assert first.masks is batch.masks


def test_dropout_is_repeatable_and_differs_between_the_passes(small):
    small.train()
    seen = []
    handle = small.text.register_forward_hook(lambda _m, _i, output: seen.append(output.detach().clone()))
    strategy = MaskRIS(image=ImageMasking(0.0), text=TextMasking(0.0))
    for _ in range(2):
        list(strategy.losses(small, small_batch(), Random(1)))
    handle.remove()
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])


def test_a_teacher_without_dropout_leaves_every_modules_mode(small):
    small.train()
    small.text.eval()
    modes = [module.training for module in small.modules()]
    list(MaskRIS(teacher_without_dropout=True).losses(small, small_batch(), Random(1)))
    assert [module.training for module in small.modules()] == modes


def test_a_single_forward_pass_refuses_batch_statistics(small, monkeypatch):
    monkeypatch.setattr(type(small), "has_batch_statistics", True)
    with pytest.raises(ValueError, match="single_forward = False"):
        list(MaskRIS(single_forward=True).losses(small, small_batch(), Random(1)))


def test_criterion_is_whatever_is_handed_in(small):
    calls = []

    class Mean(Criterion):
        def __call__(self, model, logits, batch):
            calls.append(("clean", logits.shape))
            return logits.mean()

        def soft(self, model, logits, teacher):
            calls.append(("distorted", teacher.requires_grad))
            return (logits - teacher).mean()

    clean, distorted = MaskRIS(criterion=Mean(), clean_weight=0.25).losses(small, small_batch(), Random(1))
    assert calls == [("clean", torch.Size([4, 2, 16, 16])), ("distorted", False)]
    assert clean.requires_grad
    assert distorted.requires_grad
    (both,) = MaskRIS(criterion=Mean(), clean_weight=0.25, single_forward=True).losses(small, small_batch(), Random(1))
    assert calls[2:] == [("distorted", False), ("clean", torch.Size([4, 2, 16, 16]))]
    assert both.requires_grad


def test_missing_masks_are_an_error(small):
    with pytest.raises(ValueError, match="no masks"):
        list(Supervised(MaskCriterion()).losses(small, replace(small_batch(), masks=None), Random(1)))


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_weight_outside_its_range_is_refused(weight):
    with pytest.raises(ValueError, match="clean_weight"):
        MaskRIS(clean_weight=weight)


@pytest.mark.parametrize("nothing", [(None, None), (ImageMasking(0.0), TextMasking(0.0))])
def test_masking_of_one_kind_leaves_the_other_input_as_it_is(small, nothing):
    batch = small_batch()
    only_text = MaskRIS(image=nothing[0], text=TextMasking(0.5)).distort(small, batch, Random(0))
    assert only_text.images is batch.images  # not even a copy
    assert not torch.equal(only_text.input_ids, batch.input_ids)
    only_image = MaskRIS(image=ImageMasking(0.5, 8), text=nothing[1]).distort(small, batch, Random(0))
    assert only_image.input_ids is batch.input_ids
    both = MaskRIS(image=ImageMasking(0.5, 8), text=TextMasking(0.5)).distort(small, batch, Random(0))
    assert torch.equal(only_image.images, both.images)  # the draws of one don't depend on the other
    assert torch.equal(only_text.input_ids, both.input_ids)


def test_the_criterion_decides_about_the_distorted_term_too(small):
    small = without_dropout(copy.deepcopy(small))
    image = ImageMasking(0.5, 8)
    clean, distorted = (x.item() for x in MaskRIS(image).losses(small, small_batch(), Random(1)))
    plain = MaskRIS(image, criterion=MaskCriterion(soft_weights=(1.0, 1.0)))
    same, ours = (x.item() for x in plain.losses(small, small_batch(), Random(1)))
    masked = plain.distort(small, small_batch(), Random(1))
    target = small(small_batch()).softmax(1)
    expected = -(target * small(masked).log_softmax(1)).sum(1).mean().item()
    assert same == clean
    assert ours == pytest.approx(0.5 * expected, rel=1e-5)
    assert ours != pytest.approx(distorted, rel=1e-4)
    whole = MaskRIS(image, criterion=MaskCriterion(1.0, 1.0))
    torch.testing.assert_close(list(whole.losses(small, small_batch(), Random(1)))[1].item(), ours)
