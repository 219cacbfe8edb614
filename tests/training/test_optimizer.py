import json

import pytest
import torch
from training_toys import toy_config, toy_model

from maskris.training import optimizer as module
from maskris.training.config import TrainingConfig
from maskris.training.optimizer import make_optimizer, set_learning_rate


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "reference/maskris/extras.json").read_text())


def learning_rate(step, total, base, warmup_steps=0, **options):
    return module.learning_rate(step, total, base, TrainingConfig(steps=total, warmup_steps=warmup_steps, **options))


def options_of(case):
    warmup = case["warmup_iters"] if case["warmup"] else 0
    names = ("warmup_ratio", "power", "min_lr")
    return {"warmup_steps": warmup, **{name: case[name] for name in names}}


@pytest.mark.parametrize("name", ["schedule.script", "schedule.nowarm", "schedule.minlr"])
def test_the_schedule_is_the_official_one(golden, name):
    case = golden[name]
    steps = case["iterations"] or range(len(case["lr"]))
    assert len(case["lr"]) == len(steps) >= 16
    for step, rates in zip(steps, case["lr"], strict=True):
        for base, rate in zip(case["base_lrs"], rates, strict=True):
            ours = learning_rate(step, case["total"], base, first_step_full_rate=True, **options_of(case))
            assert ours == pytest.approx(rate, rel=1e-12, abs=1e-20)


def test_by_default_the_first_step_is_where_the_ramp_begins(golden):
    case = golden["schedule.script"]
    assert learning_rate(0, 1000, 1e-4, **options_of(case)) == pytest.approx(1e-7)
    first, second, third = (learning_rate(step, 1000, 1e-4, **options_of(case)) for step in range(3))
    assert third - second == pytest.approx(second - first)
    for step, rates in zip(case["iterations"][1:], case["lr"][1:], strict=True):  # nothing else changes
        assert learning_rate(step, 1000, 1e-4, **options_of(case)) == pytest.approx(rates[1], rel=1e-12, abs=1e-20)


def test_the_step_schedule_drops_where_pytorch_does():
    steps_per_epoch, epochs = 7, 50
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1e-4)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[35, 45], gamma=0.1)
    for epoch in range(epochs):
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            ours = learning_rate(step, epochs * steps_per_epoch, 1e-4, schedule="step", lr_milestones=(0.7, 0.9))
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_the_cosine_goes_down_to_the_least_rate_and_the_constant_stays():
    rates = [learning_rate(step, 10, 1.0, schedule="cosine", min_lr=0.2) for step in (0, 5, 10, 12)]
    assert rates == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert {learning_rate(step, 10, 1.0, schedule="constant") for step in (0, 5, 10, 12)} == {1.0}
    assert learning_rate(1, 10, 1.0, schedule="constant", warmup_steps=2, warmup_ratio=0.0) == 0.5


def test_a_decay_that_begins_later_counts_over_the_whole_run():
    """As published for SaG: the cosine is stepped from step 5,000 on, and its period is that of all steps."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for step in range(10):
        for schedule in ("cosine", "poly"):
            ours = learning_rate(step, 10, 1.0, schedule=schedule, decay_after=3)
            undelayed = learning_rate(max(0, step - 3), 10, 1.0, schedule=schedule)
            assert ours == pytest.approx(undelayed)
            assert schedule == "poly" or ours == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step >= 3:
            theirs.step()


def test_adam_takes_its_decay_into_the_gradient():
    config = toy_config(optimizer="adam", weight_decay=0.5, lr=0.1, steps=10)
    model = toy_model()
    optimizer = make_optimizer(model, config)
    assert isinstance(optimizer, torch.optim.Adam)
    assert not isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.param_groups[1]["weight_decay"] == 0.5


def test_every_group_keeps_its_base():
    config = toy_config(min_lr=1e-5, steps=10)
    optimizer = make_optimizer(toy_model(), config)
    for step in (0, 9, 3):  # in any order: nothing is remembered
        assert set_learning_rate(optimizer, step, 10, config) == optimizer.param_groups[1]["lr"]
    assert optimizer.param_groups[0]["lr"] == pytest.approx((0.001 - 1e-5) * 0.7**0.9 + 1e-5)
    assert optimizer.param_groups[1]["lr"] == pytest.approx((0.01 - 1e-5) * 0.7**0.9 + 1e-5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.01]
    assert all(group["betas"] == (0.9, 0.999) and group["eps"] == 1e-8 for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_betas_come_from_the_configuration(name):
    optimizer = make_optimizer(toy_model(), toy_config(optimizer=name, betas=[0.8, 0.98]))
    assert all(group["betas"] == (0.8, 0.98) for group in optimizer.param_groups)


@pytest.mark.filterwarnings("ignore:.*The epoch parameter")
def test_the_first_epoch_of_cris_runs_its_encoder_at_the_full_rate():
    """Against what PyTorch makes of the official groups, which name an initial rate only."""
    steps_per_epoch, epochs = 3, 50
    config = toy_config(
        optimizer="adam", schedule="step", lr=1e-4, warmup_steps=0, first_epoch_full_rate=True, epochs=epochs
    )
    ours = make_optimizer(toy_model(), config)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "initial_lr": rate} for rate in (1e-5, 1e-4)]
    theirs = torch.optim.Adam(groups, lr=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(theirs, milestones=[35], gamma=0.1)
    seen = []
    for epoch in range(epochs):
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            set_learning_rate(ours, step, epochs * steps_per_epoch, config, first_epoch=step < steps_per_epoch)
            rates = [group["lr"] for group in ours.param_groups]
            assert rates == pytest.approx([group["lr"] for group in theirs.param_groups], rel=1e-12)
            seen.append(tuple(rates))
        theirs.step()
        schedule.step(epoch + 1)
    assert seen[2:4] == [(1e-4, 1e-4), (pytest.approx(1e-5), 1e-4)]
    assert seen[-1] == pytest.approx((1e-6, 1e-5))


def test_without_the_switch_the_first_epoch_is_like_the_others():
    config = toy_config(warmup_steps=0, schedule="constant", lr=0.01)
    optimizer = make_optimizer(toy_model(), config)
    set_learning_rate(optimizer, 0, 8, config, first_epoch=True)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.001), 0.01]


def test_a_forgotten_parameter_is_named():
    model = toy_model()
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"leaves out extra\.weight, extra\.bias"):
        make_optimizer(model, toy_config())
