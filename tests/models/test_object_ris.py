"""ObjectRIS: proposals of one object are merged, and the words choose among objects."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from models.small import WORDS

from maskris.batch import Batch
from maskris.models.loading import load_model
from maskris.models.object_ris import GRID, ObjectRIS, centers, distinct
from maskris.strategies.losses import MaskCriterion

PHRASES = ["the red circle", "left", "square of the right circle", "blue"]


def small(**changes: Any) -> ObjectRIS:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "width": 32,
        "detail": 8,
        "objects": 5,
        "heads": 2,
        "tokenizer": WORDS,
        "max_tokens": 10,
    }
    return ObjectRIS(**(arguments | {"preprocess": {"height": 32, "width": 48}} | changes)).eval()


def batch_of(model: ObjectRIS) -> Batch:
    tokens = model.tokenizer(PHRASES)
    masks = torch.zeros(len(PHRASES), *model.preprocess.size, dtype=torch.bool)
    masks[:, 10:20, 20:40] = True
    images = torch.randint(0, 256, (2, 3, *model.preprocess.size), dtype=torch.uint8)
    return Batch(images, tokens.input_ids, tokens.attention_mask, torch.tensor([0, 1, 1, 0]), masks)


def test_the_answer_is_the_mask_of_one_object_and_a_mixture_in_training() -> None:
    model = small()
    batch = batch_of(model)
    with torch.no_grad():
        features = model.encode_image(model.preprocess.normalize(batch.images))
        found = model(batch).sigmoid().flatten(1)
        mixture = model.train()(batch).sigmoid().flatten(1)
    masks = 0.998 * features.masks[batch.image_index] + 0.001  # [N, K, h * w]
    assert found.shape == (4, 16 * 24)
    nearest = (masks - found[:, None]).abs().amax(2).amin(1)
    assert nearest.max() < 1e-5
    assert (mixture <= masks.amax(1) + 1e-5).all()
    assert (mixture - found).abs().max() > 1e-3, "the untrained network is sure of nothing"


def test_the_answer_has_the_highest_expected_iou() -> None:
    # Two proposals of one object share its probability; together they outweigh a third one that is likelier than each.
    masks = torch.zeros(1, 3, 100)
    masks[0, 0, :40] = masks[0, 1, 1:40] = masks[0, 2, 60:] = 1
    chosen = torch.tensor([[0.3, 0.29, 0.41]])
    assert ObjectRIS._best(chosen, masks, torch.tensor([0])).item() in (0, 1)
    assert ObjectRIS._best(torch.tensor([[0.2, 0.1, 0.7]]), masks, torch.tensor([0])).item() == 2


def test_any_number_of_referents() -> None:
    model = small(referents="any")
    batch = batch_of(model)
    with torch.no_grad():
        features = model.encode_image(model.preprocess.normalize(batch.images))
        model.score[1].weight.zero_()
        model.score[1].bias.fill_(5.0)
        everything = model(batch).sigmoid().flatten(1)
        model.score[1].bias.fill_(-5.0)
        nothing = model(batch).sigmoid().flatten(1)
        likely = model.train()(batch).sigmoid().flatten(1)
    union = 1 - (1 - features.masks[batch.image_index]).prod(1)
    torch.testing.assert_close(everything, 0.998 * union + 0.001, atol=1e-5, rtol=0)
    assert (nothing < 0.002).all()
    assert (likely < 0.1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_every_object_is_kept_once_before_any_twice(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    owner = torch.randint(count, (2, 64), generator=generator)  # of each proposal
    owner[:, :count] = torch.arange(count)
    objects = torch.zeros(count, 60)
    for i in range(count):
        objects[i, 10 * i : 10 * i + 6] = 1
    sure = 0.6 + 0.4 * torch.rand(2, 64, 1, generator=generator)
    kept = distinct(objects[owner] * sure, count)
    assert all(sorted(owner[i, kept[i]].tolist()) == list(range(count)) for i in range(2))
    many = distinct(objects[owner] * sure, 64)
    assert all(sorted(row.tolist()) == list(range(64)) for row in many), "no proposal is kept twice"


def test_place_and_size_are_measured_on_the_mask() -> None:
    model = small()
    size = (16, 24)
    grid = centers(*size, torch.device("cpu"))
    seen = torch.zeros(1, 16 * 24, 8 + 32)
    inputs: list[torch.Tensor] = []
    model.geometry.register_forward_hook(lambda module, given, out: inputs.append(given[0]))
    left = (grid[:, 0] < 0).float()[None, None]
    model._measure(left, seen, size)
    x, y, spread_x, spread_y, area = inputs[0][0, 0, :5].tolist()
    assert (x, y) == pytest.approx((-0.5, 0), abs=2e-3)
    assert (spread_x / 3, spread_y / 3) == pytest.approx((0.288, 0.577), abs=5e-3)  # of uniform distributions
    assert area == pytest.approx(5)


def test_everything_learns_and_comes_back_from_a_folder(tmp_path: Path) -> None:
    for referents in ("one", "any"):
        model = small(referents=referents).train()
        batch = batch_of(model)
        MaskCriterion()(model, model(batch), batch).backward()
        unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert unused == []
        model.eval().save_pretrained(tmp_path / referents)
        again = load_model(tmp_path / referents)
        assert torch.equal(again(batch), model(batch))


def test_neither_padding_nor_neighbors_matter() -> None:
    model = small()
    batch = batch_of(model)
    with torch.no_grad():
        together = model(batch)
        for i, phrase in enumerate(PHRASES):
            tokens = model.tokenizer([phrase])
            images = batch.images[batch.image_index[i]][None]
            alone = model(Batch(images, tokens.input_ids, tokens.attention_mask, torch.tensor([0])))
            torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=1e-4)


def test_layers_begin_differently() -> None:
    model = small(fusion_layers=2)
    first, second = model.fusion_layers.layers
    for (name, one), two in zip(first.named_parameters(), second.parameters(), strict=True):
        if one.ndim == 2:
            assert not torch.equal(one, two), name


def test_features_of_cells_and_words() -> None:
    model = small()
    cells, words = model.token_features(batch_of(model))
    assert cells.shape == (4, GRID, GRID, 32)
    assert words.shape[0] == 4
    assert words.shape[2] == 32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preprocess": {"height": 30, "width": 48}}, "multiples of 8"),
        ({"width": 40}, "multiple of 16"),
        ({"objects": 65}, "between 1 and 64"),
        ({"referents": "two"}, '"one" or "any"'),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(**changes)
