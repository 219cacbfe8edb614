"""Masks are made worse by exactly as much as was asked for, and the same way every time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskris.data.corruption import Corruption, change_to_iou, corrupt_masks
from maskris.data.table import ReferringTable


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@settings(deadline=None, max_examples=150)
@given(
    mask=arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any),
    wanted=st.floats(0.05, 1.0),
    grow=st.booleans(),
    seed=st.integers(0, 2**63),
)
def test_every_mask_reaches_its_iou_within_a_pixel(mask, wanted, grow, seed):
    worse = change_to_iou(mask, wanted, grow=grow, seed=seed)
    area, grown = int(mask.sum()), int(worse.sum())
    assert worse.any()
    if grown > area:
        assert grow
        assert (worse & mask).sum() == area, "a dilated mask holds the true one"
        assert grown == round(area / wanted)
    else:
        assert (worse & ~mask).sum() == 0, "an eroded mask lies in the true one"
        assert grown == max(1, round(area * wanted))
    assert np.array_equal(worse, change_to_iou(mask, wanted, grow=grow, seed=seed))
    assert abs(iou(mask, worse) - wanted) <= 0.5 / area + 1e-9 or grown == 1 or grown > area


def test_outlines_move_by_rings():
    mask = np.zeros((41, 41), bool)
    mask[10:31, 10:31] = True
    rows, columns = np.indices(mask.shape)
    inside = np.minimum(np.minimum(rows - 9, 31 - rows), np.minimum(columns - 9, 31 - columns))  # 1 on the outline
    smaller = change_to_iou(mask, 0.5, grow=False)
    assert inside[mask & ~smaller].max() <= inside[smaller].min(), "the outermost pixels go first"
    larger = change_to_iou(mask, 0.5, grow=True)
    distance = np.hypot(np.maximum(np.abs(rows - 20) - 10, 0), np.maximum(np.abs(columns - 20) - 10, 0))
    assert distance[larger].max() <= distance[~larger].min() + 1.5, "as far in all directions"


def test_a_mask_that_fills_its_picture_shrinks_from_the_border():
    worse = change_to_iou(np.ones((20, 30), bool), 0.4, grow=True)
    assert worse.sum() == 240
    assert worse[9:11, 12:18].all()
    assert not worse[0].any()


@pytest.fixture
def table():
    rows = []
    for i in range(60):
        for j in range(3):
            mask = np.zeros((30, 40), bool)
            mask[2 + j * 9 : 9 + j * 9, 5 + i % 9 : 20 + i % 9] = True
            rows.append({"image": f"{i}.png", "expressions": [f"object {j}"], "mask": mask, "ref_id": 3 * i + j})
    rows.append({"image": "x.png", "expressions": ["nothing"], "mask": np.zeros((30, 40), bool), "ref_id": 999})
    return ReferringTable.from_rows(rows, ".")


def test_a_corrupted_table_has_the_same_referents_and_says_what_was_done(table):
    worse = corrupt_masks(table, Corruption(0.65, seed=3))
    for name in ("image", "expressions", "ref_id", "split"):
        assert worse.column(name) == table.column(name)
    assert set(worse.column("mask_source")[:-1]) == {"pseudo"}
    assert set(worse.column("mask_origin")[:-1]) == {"true masks corrupted to IoU 0.65, 0% wrong objects, seed 3"}
    assert worse.row(180) == table.row(180), "an empty mask stays, and so does its source"
    found = [iou(table.mask(i), worse.mask(i)) for i in range(180)]
    assert found == pytest.approx([0.65] * 180, abs=0.005)
    assert [worse.row(i).area for i in range(180)] == [int(worse.mask(i).sum()) for i in range(180)]
    larger = np.mean([worse.row(i).area > table.row(i).area for i in range(180)])
    assert 0.35 < larger < 0.65, "some grow, some shrink"


def test_a_share_of_the_referents_gets_the_mask_of_another_object(table):
    worse = corrupt_masks(table, Corruption(1.0, wrong=0.3))
    wrong = [i for i in range(180) if iou(table.mask(i), worse.mask(i)) == 0]
    assert 0.2 < len(wrong) / 180 < 0.4
    for i in range(180):
        first = i - i % 3
        assert any(np.array_equal(worse.mask(i), table.mask(first + j)) for j in range(3)), "of the same picture"


def test_draws_depend_on_seed_and_referent_alone(table):
    whole = corrupt_masks(table, Corruption(0.5, 0.2, seed=1))
    part = table.take(list(range(60, 90)))
    assert corrupt_masks(part, Corruption(0.5, 0.2, seed=1)).column("mask") == whole.column("mask")[60:90]
    assert corrupt_masks(table, Corruption(0.5, 0.2, seed=2)).column("mask") != whole.column("mask")


@pytest.mark.parametrize(
    ("values", "words"), [({"iou": 0}, "above 0 and at most 1, not 0"), ({"wrong": 1.5}, r"in \[0, 1\], not 1.5")]
)
def test_values_out_of_range_are_named(values, words):
    with pytest.raises(ValueError, match=words):
        Corruption(**values)


def test_unknown_masks_cannot_be_made_worse():
    rows = [{"image": "a.png", "expressions": ["x"], "mask_source": "none", "height": 4, "width": 4}]
    with pytest.raises(ValueError, match=r"no mask to corrupt .* the first in row 0"):
        corrupt_masks(ReferringTable.from_rows(rows, "."), Corruption())
