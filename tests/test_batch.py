"""A batch whose parts don't fit together can't be made."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from maskris.batch import Batch


def batch(**changes):
    parts = {
        "images": torch.zeros(2, 3, 8, 6, dtype=torch.uint8),
        "input_ids": torch.ones(3, 5, dtype=torch.int64),
        "attention_mask": torch.ones(3, 5, dtype=torch.int64),
        "image_index": torch.tensor([0, 0, 1]),
        "masks": torch.zeros(3, 8, 6, dtype=torch.bool),
        "expression_id": torch.zeros(3, 2, dtype=torch.int64),
    }
    return Batch(**{**parts, **changes})


def test_its_length_is_the_number_of_expressions():
    assert len(batch()) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(3, 8, 6)}, r"images must be \[I, 3, H, W\], not \[3, 8, 6\]"),
        ({"attention_mask": torch.ones(3, 4)}, r"attention_mask \[3, 4\].*input_ids \[3, 5\]"),
        ({"image_index": torch.zeros(2, dtype=torch.int64)}, r"image_index must be \[3\]"),
        ({"masks": torch.zeros(2, 8, 6)}, r"masks must be \[3, H, W\]"),
        ({"masks": torch.zeros(3, 1, 8, 6)}, r"masks must be \[3, H, W\]"),
        ({"expression_id": torch.zeros(3, dtype=torch.int64)}, r"expression_id must be \[3, 2\].*not \[3\]"),
        ({"expression_id": torch.zeros(2, 2, dtype=torch.int64)}, r"expression_id must be \[3, 2\]"),
        ({"image_index": torch.tensor([0, 2, 1])}, r"names image 2, but there are 2 images"),
        ({"image_index": torch.tensor([0, -1, 1])}, r"names image -1"),
    ],
)
def test_contradicting_shapes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        batch(**changes)


def test_a_batch_without_expressions_is_possible():
    empty = batch(
        input_ids=torch.ones(0, 5),
        attention_mask=torch.ones(0, 5),
        image_index=torch.zeros(0, dtype=torch.int64),
        masks=None,
        expression_id=None,
    )
    assert len(empty) == 0


def test_it_is_frozen():
    with pytest.raises(FrozenInstanceError):
        batch().images = torch.zeros(1)


def test_it_moves_as_a_whole():
    moved = batch().to("meta")
    assert {moved.images.device, moved.input_ids.device, moved.masks.device, moved.expression_id.device} == {
        torch.device("meta")
    }
    assert moved.images.dtype == torch.uint8


def test_absent_parts_stay_absent():
    moved = replace(batch(), masks=None, expression_id=None).to("cpu")
    assert moved.masks is None
    assert moved.expression_id is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_it_can_be_pinned():
    pinned = batch().pin_memory()
    assert pinned.images.is_pinned()
    assert pinned.expression_id.is_pinned()
