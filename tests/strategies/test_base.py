"""What holds for every strategy."""

import pytest
import torch
from strategies.toys import toy, toy_batch

from maskris.strategies.aml import AML
from maskris.strategies.ema_teacher import EMATeacher
from maskris.strategies.masked_augmentation import MaskedAugmentation
from maskris.strategies.masking import ImageMasking, TextMasking
from maskris.strategies.maskris import MaskRIS
from maskris.strategies.supervised import Supervised
from maskris.utils.rng import Random

IMAGE = ImageMasking(0.5, 8)
STRATEGIES = {
    "supervised": lambda: Supervised(),
    "maskris": lambda: MaskRIS(IMAGE),
    "maskris, single forward": lambda: MaskRIS(IMAGE, single_forward=True),
    "image only": lambda: MaskRIS(IMAGE, text=None),
    "text only": lambda: MaskRIS(image=None, text=TextMasking(0.5)),
    "augmentation": lambda: MaskedAugmentation(IMAGE),
    "augmentation, two passes": lambda: MaskedAugmentation(IMAGE, clean_weight=0.5),
    "ema": lambda: EMATeacher(image=IMAGE),
    "ema, single forward": lambda: EMATeacher(image=IMAGE, single_forward=True),
    "aml": lambda: AML(patch_size=8),
}
every_strategy = pytest.mark.parametrize("make", STRATEGIES.values(), ids=STRATEGIES.keys())


def step(model, strategy, key=(0, 5, 0)):
    """The losses of one step, and all gradients behind one another."""
    model.zero_grad()
    losses = []
    for loss in strategy.losses(model, toy_batch(), Random(*key)):
        loss.backward()
        losses.append(loss.item())
    return losses, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@every_strategy
def test_a_step_yields_as_many_losses_as_it_has_terms(make):
    strategy = make()
    losses, gradient = step(toy(dropout=0.3), strategy)
    assert len(losses) == strategy.passes == len(set(strategy.terms))
    assert min(losses) > 0
    assert gradient.abs().sum() > 0


@every_strategy
def test_draws_depend_on_the_key_alone(make):
    model = toy(dropout=0.3)
    first, gradient = step(model, make())
    torch.rand(7)  # whoever else draws does not matter
    again, same_gradient = step(model, make())
    assert first == again
    assert torch.equal(gradient, same_gradient)
    other, _ = step(model, make(), (0, 5, 1))
    assert other != first


@every_strategy
def test_the_batch_and_every_modules_mode_are_left_as_they_were(make):
    model, batch = toy(dropout=0.3), toy_batch()
    model.drop.eval()
    before = [value.clone() for value in (batch.images, batch.input_ids, batch.masks)]
    list(make().losses(model, batch, Random(0)))
    assert all(map(torch.equal, before, (batch.images, batch.input_ids, batch.masks)))
    assert (model.training, model.drop.training) == (True, False)


@every_strategy
def test_one_channel_will_do(make):
    losses, _ = step(toy(channels=1), make())
    assert min(losses) > 0


def test_a_strategy_without_state_takes_none_back():
    strategy = Supervised()
    strategy.after_step(toy(), 0)
    strategy.load_state_dict(strategy.state_dict())
    with pytest.raises(ValueError, match="Supervised keeps no state, but was given a, …"):
        strategy.load_state_dict({"a": torch.zeros(1)})
