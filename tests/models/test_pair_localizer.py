"""Pairs in training are the same pairs one by one in evaluation; saved and loaded the same."""

import pytest
import torch

from maskris.batch import Batch
from maskris.models.loading import load_model
from maskris.models.pair_localizer import PairLocalizer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return PairLocalizer(width=32)


def batch_of(model, images=3):
    torch.manual_seed(1)
    texts = ["red circle", "the blue star", "square on the left", "green ring", "red thing"]
    tokens = model.tokenizer(texts)
    pictures = torch.randint(0, 256, (images, 3, 64, 64), dtype=torch.uint8)
    return Batch(pictures, tokens.input_ids, tokens.attention_mask, torch.tensor([0, 2, 1, 1, 0]))


def test_training_scores_all_pairs_and_evaluation_each_phrase_in_its_image(model):
    batch = batch_of(model)
    pairs = model.train()(batch)
    own = model.eval()(batch)
    assert pairs.shape == (3, 5, 16, 16)
    assert own.shape == (5, 1, 16, 16)
    torch.testing.assert_close(own[:, 0], pairs[batch.image_index, torch.arange(5)], atol=1e-5, rtol=0)
    assert pairs.abs().max() <= model.scale + 1e-4


def test_padding_and_neighbors_change_nothing(model):
    batch = batch_of(model)
    alone = model.tokenizer(["green ring"])
    single = Batch(batch.images[1:2], alone.input_ids, alone.attention_mask, torch.tensor([0]))
    torch.testing.assert_close(model.eval()(single)[0], model(batch)[3], atol=1e-5, rtol=0)


def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.output == "score"
    assert torch.equal(loaded(batch_of(model)), model.eval()(batch_of(model)))


def test_every_parameter_learns(model):
    model.train()(batch_of(model)).square().mean().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_a_width_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="width must be a multiple of 16, not 20"):
        PairLocalizer(width=20)
