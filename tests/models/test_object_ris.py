"""ObjectRIS: proposals of one object are merged, and the words choose among objects."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models.small import WORDS

from maskris.batch import Batch
from maskris.models.loading import load_model
from maskris.models.object_ris import GRID, ObjectRIS, Objects
from maskris.strategies.criteria.masks import MaskCriterion

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
    masks = 0.998 * features.masks[batch.image_index].flatten(2) + 0.001  # [N, K, h * w]
    assert found.shape == (4, 32 * 48)
    nearest = (masks - found[:, None]).abs().amax(2).amin(1)
    assert nearest.max() < 1e-5
    assert (mixture <= masks.amax(1) + 1e-5).all()
    assert (mixture - found).abs().max() > 1e-3, "the untrained network is sure of nothing"


def test_the_answer_has_the_highest_expected_iou(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two proposals of one object share its probability; together they outweigh a third one that is likelier than each.
    model = small(objects=3)
    masks = torch.zeros(1, 3, 32, 48)
    masks[0, 0, :4] = masks[0, 1, :4, 1:] = masks[0, 2, 10:] = 1
    features = Objects(torch.zeros(1, 3, 32), masks, torch.zeros(1, GRID**2, 32))
    ids = torch.tensor([[1]])
    for probabilities, best in (([0.3, 0.29, 0.41, 1e-9], 0), ([0.2, 0.1, 0.7, 1e-9], 2)):
        scores = torch.tensor(probabilities).log()[None]
        monkeypatch.setattr(model, "_score", lambda *given, scores=scores: scores)
        with torch.no_grad():
            found = model.segment(features, ids, torch.ones_like(ids), torch.tensor([0]))[0, 0]
        assert torch.equal(found > 0, masks[0, best] > 0)


def test_any_number_of_referents() -> None:
    model = small(referents="any")
    batch = batch_of(model)
    with torch.no_grad():
        features = model.encode_image(model.preprocess.normalize(batch.images))
        found = {}
        for above in (5.0, -5.0):  # of every object over nothing
            scores = torch.full((4, 6), above)
            scores[:, -1] = 0
            model._score = lambda *given, scores=scores: scores  # type: ignore[method-assign]
            found[above] = model.eval()(batch).sigmoid().flatten(1)
        likely = model.train()(batch).sigmoid().flatten(1)
    union = 1 - (1 - features.masks[batch.image_index].flatten(2)).prod(1)
    torch.testing.assert_close(found[5.0], 0.998 * union + 0.001, atol=1e-5, rtol=0)
    assert (found[-5.0] < 0.002).all()
    assert (likely < 0.1).all()


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
    model = small(image_layers=2)
    first, second = model.cell_layers
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
        ({"fusion_layers": 0}, "at least 1"),
        ({"referents": "two"}, '"one" or "any"'),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(**changes)
