"""Expressions that don't fit: of the photo's other referents, else of others, and a function of the key alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data.test_dataset import VOCABULARY, rows_of
from PIL import Image
from transformers import BertTokenizer

from maskris.data.augment import HorizontalFlip
from maskris.data.dataset import ReferringDataset
from maskris.data.preprocess import Preprocess
from maskris.data.table import ReferringTable
from maskris.data.tokenizer import ExpressionTokenizer


def dataset(folder: Path, counts: list[list[int]] | None = None, **options: object) -> ReferringDataset:
    rows = rows_of(folder / "photos", *([counts] if counts else []))
    table = ReferringTable.from_rows(rows, folder / "photos")
    tokenizer = ExpressionTokenizer(BertTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)}), 8)
    settings = {"training": True, "negatives": 3} | options
    return ReferringDataset(table, Preprocess(20, 30), tokenizer, **settings)  # type: ignore[arg-type]


def test_they_come_from_the_other_referents_of_the_photo(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    texts = [set(data.table.expressions(row)) for row in range(len(data))]
    drawn: Counter[str] = Counter()
    for epoch in range(60):
        (negatives,) = data[epoch, 3].negatives  # one of four referents of its photo, rows 3 to 6
        assert len(negatives) == 3
        assert set(negatives) <= texts[4] | texts[5] | texts[6]
        drawn.update(negatives)
    assert set(drawn) == texts[4] | texts[5] | texts[6], "all of them in time"
    assert max(drawn.values()) < 3 * min(drawn.values()), "each alike"


def test_a_photo_with_one_referent_gets_those_of_any(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    own, every = set(data.table.expressions(2)), {t for row in range(len(data)) for t in data.table.expressions(row)}
    drawn = {text for epoch in range(120) for text in data[epoch, 2].negatives[0]}
    assert drawn <= every
    assert len(drawn) > 0.9 * len(every)
    for epoch in range(120):
        item = data[epoch, 2]
        assert item.expressions[0] not in item.negatives[0]
    assert drawn & own, "another sentence of the referent itself can be among them, as published"


def test_they_are_a_function_of_seed_epoch_and_item(tmp_path: Path) -> None:
    data, again = dataset(tmp_path), dataset(tmp_path, cache_images=True)
    keys = [(epoch, item) for epoch in range(3) for item in range(len(data))]
    first = [data[key].negatives for key in keys]
    assert [again[key].negatives for key in reversed(keys)] == first[::-1]
    assert [dataset(tmp_path, seed=1)[key].negatives for key in keys] != first
    assert len(set(first)) > len(first) / 2
    without = dataset(tmp_path, negatives=0)
    assert [without[key].expressions for key in keys] == [data[key].expressions for key in keys]


@pytest.mark.parametrize("per_image", [1, 3])
def test_a_batch_holds_their_ids(tmp_path: Path, per_image: int) -> None:
    data = dataset(tmp_path, referents_per_image=per_image)
    items = [data[0, 0], data[0, 2]]
    batch = data.collate(items)
    assert batch.negatives is not None
    assert batch.negatives.shape[:2] == (2 * per_image, 3)
    flat = [text for item in items for texts in item.negatives for text in texts]
    expected = data.tokenizer(flat).input_ids
    assert batch.negatives.flatten(0, 1).tolist() == expected.tolist()
    moved = batch.to("cpu").negatives
    assert moved is not None
    assert moved.shape == batch.negatives.shape
    assert dataset(tmp_path, negatives=0).collate([dataset(tmp_path, negatives=0)[0, 0]]).negatives is None


def test_masks_are_not_needed(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "mask_source": "none", "height": 20, "width": 30, "expressions": [f"the man {i}"]}
        for i in range(3)
    ]
    table = ReferringTable.from_rows(rows, tmp_path)
    tokenizer = ExpressionTokenizer(BertTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)}), 8)
    data = ReferringDataset(table, Preprocess(20, 30), tokenizer, training=True, negatives=2, masks=False)
    batch = data.collate([data[0, 0], data[0, 1]])
    assert batch.masks is None
    assert batch.negatives is not None


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="negatives = 3 needs training"):
        dataset(tmp_path, training=False)
    with pytest.raises(ValueError, match="no augmentations"):
        dataset(tmp_path, augment=[HorizontalFlip()])
    with pytest.raises(ValueError, match="negatives = -1"):
        dataset(tmp_path, negatives=-1)
    alone = dataset(tmp_path, counts=[[1]])
    with pytest.raises(ValueError, match="there is nothing to contrast"):
        alone[0, 0]
