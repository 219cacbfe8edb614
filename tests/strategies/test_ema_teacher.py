"""The average of the weights against its closed form, and who learns from it."""

import pytest
import torch
from strategies.toys import toy, toy_batch
from torch import nn

from maskris.strategies.criteria.masks import MaskCriterion
from maskris.strategies.ema_teacher import EMATeacher
from maskris.strategies.losses import soft_cross_entropy, soft_prediction
from maskris.strategies.masking import ImageMasking
from maskris.strategies.maskris import MaskRIS
from maskris.utils.rng import Random

IMAGE = ImageMasking(0.5, 8)


def walk(strategy, model, steps, start=0):
    """Give the weights new values step after step; returns all values of one of them."""
    values = []
    for step in range(start, steps):
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        strategy.after_step(model, step)
        values.append(model.head.weight.detach().clone())
    return values


@pytest.mark.parametrize(("decay", "steps"), [(0.9, 7), (0.9, 40), (0.5, 6), (0.0, 3)])
def test_the_average_is_the_closed_form(decay, steps):
    strategy, model = EMATeacher(decay), toy()
    values = walk(strategy, model, steps)
    shares = []  # of the weights after each step
    for step in range(steps):
        keep = min(decay, step / (step + 1))
        shares = [share * keep for share in shares] + [1 - keep]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * value for share, value in zip(shares, values, strict=True))
    torch.testing.assert_close(strategy.state_dict()["head.weight"], expected, atol=1e-6, rtol=1e-5)


def test_the_average_begins_as_the_plain_mean():
    strategy = EMATeacher(0.999)
    values = walk(strategy, toy(), 10)
    mean = torch.stack(values).mean(0)
    torch.testing.assert_close(strategy.state_dict()["head.weight"], mean, atol=1e-6, rtol=1e-5)


def test_buffers_are_copied():
    strategy, model = EMATeacher(0.9), toy()
    model.drop = nn.BatchNorm2d(6)
    for step in range(3):
        with torch.no_grad():
            model(toy_batch())
        strategy.after_step(model, step)
    state = strategy.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert torch.equal(state["drop.running_mean"], model.drop.running_mean)
    assert state["drop.num_batches_tracked"] == 3
    assert state["drop.running_mean"] is not model.drop.running_mean


def test_nothing_is_allocated_anew_and_the_student_is_left_alone():
    strategy, model = EMATeacher(0.9), toy()
    walk(strategy, model, 1)
    places = {name: value.data_ptr() for name, value in strategy.state_dict().items()}
    assert not set(places.values()) & {value.data_ptr() for value in model.state_dict().values()}
    walk(strategy, model, 3, start=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    list(strategy.losses(model, toy_batch(), Random(0)))
    assert {name: value.data_ptr() for name, value in strategy.state_dict().items()} == places
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("single_forward", [False, True])
def test_the_masked_input_learns_from_the_average(single_forward):
    strategy, model, batch = EMATeacher(0.9, image=IMAGE, single_forward=single_forward), toy(dropout=0.4), toy_batch()
    walk(strategy, model, 4)
    model.drop.p = 0.0  # for the student; the teacher does without in any case
    losses = [loss.item() for loss in strategy.losses(model, batch, Random(2))]
    teacher = toy().eval()
    teacher.load_state_dict(strategy.state_dict())
    masked = strategy.distort(model, batch, Random(2))
    with torch.no_grad():
        clean = MaskCriterion()(model, model(batch), batch).item()
        learned = soft_cross_entropy(model(masked), soft_prediction(teacher(batch))).item()
        own = soft_cross_entropy(model(masked), soft_prediction(model(batch))).item()
    expected = [0.5 * clean, 0.5 * learned]
    assert losses == pytest.approx([sum(expected)] if single_forward else expected, rel=1e-5)
    assert abs(learned - own) > 0.01


def test_before_the_first_step_the_teacher_is_the_model_itself():
    model = toy(dropout=0.4)
    ours = [loss.item() for loss in EMATeacher(image=IMAGE).losses(model, toy_batch(), Random(2))]
    twin = MaskRIS(IMAGE, teacher_without_dropout=True)
    assert ours == pytest.approx([loss.item() for loss in twin.losses(model, toy_batch(), Random(2))], rel=1e-6)


def test_the_teacher_runs_without_dropout():
    model, seen = toy(dropout=0.4), []
    model.drop.register_forward_hook(lambda module, *call: seen.append((module.training, torch.is_grad_enabled())))
    list(EMATeacher(image=IMAGE).losses(model, toy_batch(), Random(2)))
    assert seen == [(False, False), (True, True), (True, True)]


def test_the_state_goes_on_where_it_was():
    whole, first, second, model = EMATeacher(0.9), EMATeacher(0.9), EMATeacher(0.9), toy()
    walk(whole, model, 8)
    walk(first, model, 5)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    walk(second, model, 8, start=5)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in second.state_dict().items())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\)"):
        EMATeacher(decay)
