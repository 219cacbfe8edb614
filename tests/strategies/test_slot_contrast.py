"""Training by sentences alone: what a step computes, what its passes share, and a run that needs no masks."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from models.small_sag import TEXT, VISION, WORDS, small_sag
from PIL import Image
from safetensors.torch import load_file
from strategies.toys import toy, toy_batch

from maskris.batch import Batch
from maskris.data.table import ReferringTable
from maskris.experiments.recipe import read_recipe
from maskris.experiments.run import train
from maskris.models.pairs import SlotBatch
from maskris.strategies.masking import ImageMasking, TextMasking
from maskris.strategies.slot_contrast import SlotContrast
from maskris.utils.rng import Random

MASKED = {"image": ImageMasking(0.75, 16), "text": TextMasking(0.5)}


def batch(seed=0, count=4):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (count, 6), generator=generator)
    ids[:, 0], ids[:, 5] = 2, 3
    images = torch.randn(count, 3, 64, 64, generator=generator)
    return Batch(images, ids, torch.ones_like(ids), torch.arange(count))


def still(**changes):
    """Without dropout, in training mode."""
    torch.manual_seed(0)
    return small_sag(dropout=0.0, drop_path=0.0, text={**TEXT, "hidden_dropout_prob": 0.0,
                     "attention_probs_dropout_prob": 0.0}, **changes).train()  # fmt: skip


class Watched:
    """Passes everything on, and keeps what the model is given."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, given):
        self.seen.append(given)
        return self.model(given)

    def __getattr__(self, name):
        return getattr(self.model, name)


def test_the_clean_pass_is_the_published_loss():
    model, some, strategy = still(), batch(), SlotContrast(reconstruction=0.5, warmup_steps=0)
    (loss,) = strategy.losses(model, some, Random(1))
    noise = strategy.draw(model, some, Random(1)).noise
    found = model.compare(some, noise)
    error = F.mse_loss(model.decoder(*_slots(model, some, noise)), model.vision(some.images).detach())
    expected = F.cross_entropy(found.similarity, torch.arange(4)) + 0.5 * error
    torch.testing.assert_close(loss, expected)
    assert strategy.terms == ("clean",)
    assert not strategy.needs_masks


def _slots(model, some, noise):
    return model.encode_image(some.images, noise).slots, 4, 4


def test_both_passes_share_the_noise_and_only_the_second_is_masked():
    some, strategy = batch(), SlotContrast(**MASKED, warmup_steps=0)
    model = Watched(still())
    clean, distorted = strategy.losses(model, some, Random(1))
    first, second = model.seen
    assert isinstance(second, SlotBatch)
    assert first.noise.equal(second.noise)
    assert first.images.equal(some.images)
    assert 0.7 < (second.images == 0).float().mean() < 0.8
    assert not second.input_ids.equal(some.input_ids)
    (whole,) = SlotContrast(warmup_steps=0).losses(model, some, Random(1))
    torch.testing.assert_close(clean, 0.5 * whole)
    teacher, student = (model.model.compare(each, each.noise).map for each in (first, second))
    expected = 0.5 * F.binary_cross_entropy(student.clamp(1e-3, 1 - 1e-3), teacher)
    torch.testing.assert_close(distorted, expected)
    again = [loss.item() for loss in strategy.losses(model, some, Random(1))]
    assert again == [clean.item(), distorted.item()]
    assert [loss.item() for loss in strategy.losses(model, some, Random(2))] != again


def test_nothing_flows_into_the_teacher_and_every_weight_has_a_gradient():
    """Distributed training waits for the gradient of every weight in the last pass."""
    strategy = SlotContrast(**MASKED, warmup_steps=0)
    model = still()
    clean, distorted = strategy.losses(model, batch(), Random(1))
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    weights = dict(model.named_parameters())
    of_second = torch.autograd.grad(distorted, [weights[name] for name in names], allow_unused=True)
    assert [name for name, gradient in zip(names, of_second, strict=True) if gradient is None] == []
    moved = {name for name, gradient in zip(names, of_second, strict=True) if gradient.abs().sum() > 0}
    assert not any(name.startswith("decoder") for name in moved)  # maps need no drawing
    assert {"image_proj.weight", "gather.attention.to_q.weight"} <= moved
    assert all(bool(gradient.isfinite().all()) for gradient in of_second)
    clean.backward()
    assert all(weights[name].grad is not None for name in names)


def test_several_sentences_of_one_image_are_positives_of_it():
    some = batch()
    two = Batch(some.images[:2], some.input_ids, some.attention_mask, torch.tensor([0, 1, 0, 1]))
    model, strategy = still(), SlotContrast(warmup_steps=0, reconstruction=0.0)
    (loss,) = strategy.losses(model, two, Random(0))
    found = model.compare(two, strategy.draw(model, two, Random(0)).noise)
    assert found.similarity.shape == (4, 2)
    torch.testing.assert_close(loss, F.cross_entropy(found.similarity, two.image_index))


def test_the_warm_up_multiplies_losses_and_is_resumed():
    model, strategy, some = still(), SlotContrast(warmup_steps=4), batch()
    values = []
    for step in range(6):
        (loss,) = strategy.losses(model, some, Random(0))
        values.append(loss.item())
        strategy.after_step(model, step)
    assert np.array(values) / values[-1] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1], rel=1e-5)
    resumed = SlotContrast(warmup_steps=4)
    later = SlotContrast(warmup_steps=4)
    later.after_step(model, 1)
    resumed.load_state_dict(later.state_dict())
    (loss,) = resumed.losses(model, some, Random(0))
    assert loss.item() == pytest.approx(values[2])
    with pytest.raises(ValueError, match="was given other"):
        resumed.load_state_dict({"other": torch.zeros(1)})


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="clean_weight"):
        SlotContrast(clean_weight=2.0)
    with pytest.raises(ValueError, match="must not be negative"):
        SlotContrast(warmup_steps=-1)
    with pytest.raises(TypeError, match="such as SaG, not Toy"):
        next(SlotContrast().losses(toy(), toy_batch(), Random(0)))


def test_sentences_find_their_images():
    """Two images and their sentences, which nothing but the contrast tells apart, are learned by heart."""
    model, some = still(), batch(count=2)
    strategy = SlotContrast(warmup_steps=0, reconstruction=0.0)
    with torch.no_grad():
        model.text_proj.weight.mul_(4)  # what is gathered has length 1: short sentences can't be sure
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    values = []
    for step in range(60):
        (loss,) = strategy.losses(model, some, Random(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[0] == pytest.approx(np.log(2), abs=0.05)
    assert np.mean(values[-5:]) < 0.2


def test_a_run_needs_no_masks_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """The shipped recipe, shrunk, on photos whose referents nobody marked."""
    rows = []
    for i in range(6):
        Image.fromarray(np.full((30, 40, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
        row = {"image": f"{i}.png", "expressions": [f"word{i} word{i + 6}"], "mask_source": "none", "text": "sent"}
        rows.append(row | {"height": 30, "width": 40, "ref_id": i, "image_id": i})
    table = ReferringTable.from_rows(rows, tmp_path)
    shrunk = read_recipe("sag-refcoco-maskris")
    shrunk["model"]["init_args"] |= {"vision": VISION, "text": TEXT, "tokenizer": WORDS, "width": 32, "max_tokens": 8}
    shrunk["model"]["init_args"]["preprocess"] = {"height": 64, "width": 64}
    shrunk["strategy"]["init_args"]["warmup_steps"] = 3
    shrunk["training"] |= {"steps": 4, "batch_size": 3, "precision": "fp32", "workers": 0, "decay_after": 1}
    shrunk["data"]["validation"] = None
    (tmp_path / "shrunk.yaml").write_text(yaml.safe_dump(shrunk))
    whole = train(tmp_path / "shrunk.yaml", table, tmp_path / "whole", progress=False)
    assert (whole.step, whole.interrupted) == (4, None)
    counted = SlotContrast.after_step

    def stop(self, model, step):
        counted(self, model, step)
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(SlotContrast, "after_step", stop)
        first = train(tmp_path / "shrunk.yaml", table, tmp_path / "parts", progress=False)
    assert first.interrupted == signal.SIGTERM
    assert 2 <= first.step < 4
    assert train(tmp_path / "shrunk.yaml", table, tmp_path / "parts", progress=False).step == 4
    weights, again = (load_file(tmp_path / run / "last" / "model.safetensors") for run in ("whole", "parts"))
    assert all(value.equal(again[name]) for name, value in weights.items())
    first_line = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[0])
    assert {"clean", "distorted"} <= first_line.keys() | first_line.get("losses", {}).keys()


def test_masked_batches_keep_what_they_are(tmp_path):
    noisy = SlotContrast().draw(still(), batch(), Random(0))
    assert isinstance(replace(noisy, images=noisy.images + 1), SlotBatch)
    assert noisy.to("cpu").noise.equal(noisy.noise)
