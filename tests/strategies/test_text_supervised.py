"""Learning from pairs alone: the three losses, the official steps, and what the trainer relies on."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from models.clip.test_towers import VIT
from models.small_tris import as_batch, far, golden, small_localizer, small_tris, tiny_localizer
from safetensors.torch import save_file
from torch import Tensor

from maskris.batch import Batch
from maskris.data.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from maskris.models.tris_localizer import TRISLocalizer
from maskris.models.weights.rules import rename
from maskris.models.weights.tris import TRIS_LOCALIZER_RULES
from maskris.strategies.text_supervised import (
    TextSupervised,
    calibration_loss,
    classification_loss,
    foreground_loss,
    image_logits,
    shares,
)
from maskris.training.config import TrainingConfig
from maskris.training.optimizer import make_optimizer, set_learning_rate
from maskris.utils.rng import Random

SCORER = {**VIT, "vocab_size": 60, "transformer_width": 64, "transformer_layers": 1, "context_length": 20}
STEPS = (("img", "word_ids", "neg_word_ids"), *((f"step{i}_img", f"step{i}_word_ids", f"step{i}_neg") for i in (1, 2)))


@pytest.fixture
def case(shared: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = golden(shared, "tris_case.safetensors")
    return loaded


@pytest.fixture
def official(shared: Path, tmp_path: Path) -> TextSupervised:
    save_file(golden(shared, "tris_scorer_state.safetensors"), tmp_path / "scorer.safetensors")
    return TextSupervised(scorer=str(tmp_path / "scorer.safetensors"))


def parameter(model: TRISLocalizer, name: str) -> Tensor:
    """Ours for an official name; the temperature is a buffer."""
    (ours,) = rename(name, TRIS_LOCALIZER_RULES) or []
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}[ours]


def test_three_official_steps(shared: Path, case: dict[str, Tensor], official: TextSupervised) -> None:
    """Losses of each, gradients of the first, weights after the third: optimizer, groups and schedule are ours."""
    described = golden(shared, "tris_case.json")
    log = described["train_log"]
    model = tiny_localizer(shared).train()
    model.logit_scale.requires_grad_(True)  # it has a gradient, which nobody uses
    config = TrainingConfig(
        steps=6, lr=described["lr_used"], weight_decay=0.01, warmup_steps=0, schedule="poly", power=0.9
    )
    optimizer = make_optimizer(model, config)
    for step, (images, ids, negatives) in enumerate(STEPS):
        batch = as_batch(case[images], case[ids], negatives=case[negatives])
        if step == 0:
            official.prepare(model, batch)
        set_learning_rate(optimizer, step, 6, config)
        found = official.measure(model, batch)
        expected = [log[f"train/l{i}"][step] for i in (1, 4, 5)]
        assert [value.item() for value in found] == pytest.approx(expected, abs=1e-4)
        optimizer.zero_grad()
        total = found.foreground + 5 * found.classification + 2 * found.calibration
        assert total.item() == pytest.approx(log["train/loss"][step], abs=5e-4)
        total.backward()
        if step == 0:
            compared = [name for name in case if name.startswith("grad/")]
            assert len(compared) == 10
            for name in compared:
                gradient = parameter(model, name.removeprefix("grad/")).grad
                assert gradient is not None
                assert far(gradient, case[name]) < 1e-4, name
        optimizer.step()
    compared = [name for name in case if name.startswith("after3/")]
    assert len(compared) == 10
    for name in compared:
        assert far(parameter(model, name.removeprefix("after3/")), case[name]) < 1e-4, name


@torch.no_grad()
def test_golden_logits_and_foreground(shared: Path, case: dict[str, Tensor], official: TextSupervised) -> None:
    scores = tiny_localizer(shared).train()(as_batch(case["img"], case["word_ids"]))
    assert far(image_logits(scores), case["train_cls_logits"]) < 1e-4
    assert far(shares(scores).diagonal(), case["train_cls_fg"]) < 1e-4
    size = case["focal_in"]
    assert far((1 - size) ** 3 * (0.01 + size).log(), case["focal_out"]) < 1e-4


def test_the_prior_is_against_empty_maps() -> None:
    empty, full = torch.full((1, 1, 4, 4), -20.0), torch.full((1, 1, 4, 4), 20.0)
    assert image_logits(empty).item() == pytest.approx(-40 + torch.tensor(0.01).log().item(), abs=1e-3)
    assert image_logits(full).item() == pytest.approx(40, abs=1e-3)


def test_an_expression_belongs_to_its_image() -> None:
    """Also where an image has several, or none."""
    scores = torch.full((3, 3, 2, 2), -9.0)
    scores[2, 0] = scores[0, 1] = scores[0, 2] = 9.0
    right = classification_loss(scores, torch.tensor([2, 0, 0]))
    wrong = classification_loss(scores, torch.tensor([0, 1, 2]))
    assert right < 0.01 < 1 < wrong
    labels = torch.tensor([[0.0, 1, 1], [0, 0, 0], [1, 0, 0]])
    expected = F.binary_cross_entropy_with_logits(image_logits(scores), labels)
    torch.testing.assert_close(right, expected)


def test_losses_of_known_cosines() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[0.6, 0.8], [0.6, 0.8]])
    expected = -(torch.tensor([0.6, 0.8]).log().mean())
    torch.testing.assert_close(foreground_loss(images, texts), expected)
    away = calibration_loss(images, torch.stack([-texts, texts], dim=1))
    torch.testing.assert_close(away, -(torch.tensor([1.6, 0.4, 1.8, 0.2]).log().mean()))
    assert calibration_loss(images, -texts[:, None]) < 0, "negative for negative cosines, as published"
    assert torch.isfinite(calibration_loss(images, images[:, None])), "a negative that fits is no infinite loss"


def batch_for(images: int = 2, negatives: bool = True) -> Batch:
    torch.manual_seed(0)
    ids = torch.randint(1, 50, (images, 8))
    ids[:, 5], ids[:, 6:] = 59, 0
    more = {"negatives": ids.flip(0)[:, None].repeat(1, 3, 1)} if negatives else {}
    return as_batch(torch.randn(images, 3, 64, 96), ids, **more)


def test_everything_learns_and_the_scorer_is_no_part_of_anything() -> None:
    model, batch = small_localizer().train(), batch_for()
    strategy = TextSupervised(scorer=SCORER)
    strategy.prepare(model, batch)
    (loss,) = strategy.losses(model, batch, Random(0, 0, 0))
    found = strategy.measure(model, batch)
    torch.testing.assert_close(loss, found.foreground + 5 * found.classification + 2 * found.calibration)
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert strategy.state_dict() == {}
    assert not strategy.needs_masks
    assert batch.masks is None
    assert strategy.passes == 1


def test_expressions_are_told_apart() -> None:
    model, batch = small_localizer().train(), batch_for()
    strategy = TextSupervised(scorer=SCORER, foreground=0, classification=1, calibration=0)
    strategy.prepare(model, batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        (loss,) = strategy.losses(model, batch, Random(0, 0, 0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@torch.no_grad()
def test_pixels_with_the_statistics_of_clip() -> None:
    model, batch = small_localizer(), batch_for()
    raw = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    given = model.preprocess.normalize(raw)
    wanted = Preprocess(64, 96, mean=CLIP_MEAN, std=CLIP_STD).normalize(raw)
    torch.testing.assert_close(TextSupervised(clip_statistics=True)._pixels(model.preprocess, given), wanted)
    assert torch.equal(TextSupervised()._pixels(model.preprocess, given), given), "as published"
    assert batch.negatives is not None


def test_what_cannot_be() -> None:
    model, batch = small_localizer().train(), batch_for(negatives=False)
    strategy = TextSupervised(scorer=SCORER)
    with pytest.raises(RuntimeError, match="no scorer yet"):
        next(strategy.losses(model, batch, Random(0, 0, 0)))
    strategy.prepare(model, batch)
    with pytest.raises(ValueError, match=r"no negatives.*data\.negatives \(3 as published\)"):
        next(strategy.losses(model, batch, Random(0, 0, 0)))
    without = TextSupervised(scorer=SCORER, calibration=0)
    without.prepare(model, batch)
    assert torch.isfinite(next(without.losses(model, batch, Random(0, 0, 0))))
    with pytest.raises(ValueError, match=r"scores of 2 images with 2 expressions .* not \[2, 4, 64, 96\]"):
        next(without.losses(small_tris().train(), batch, Random(0, 0, 0)))
    with pytest.raises(ValueError, match="Weights must not be negative"):
        TextSupervised(foreground=-1)
