"""Shapes of image masks: exact shares for all sizes, and what makes each shape what it is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskris.strategies.masking import BLOCKS, ORDERS, ImageMasking, patch_grid, removed_patches

RATIOS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))


def removed(sampling, rows, columns, ratio, seed=0, images=1):
    order = ORDERS[sampling](images, rows, columns, ratio, torch.Generator().manual_seed(seed))
    assert order.shape == (images, rows * columns)
    return removed_patches(order, ratio).view(images, rows, columns)


@given(
    sampling=st.sampled_from(list(ORDERS)),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    patch=st.integers(1, 40),
    ratio=RATIOS,
    seed=st.integers(0, 99),
)
def test_the_share_is_exact_for_every_shape_and_size(sampling, height, width, patch, ratio, seed):
    images = torch.full((2, 3, height, width), 2.0)
    masked = ImageMasking(ratio, patch, sampling)(images, torch.Generator().manual_seed(seed))
    rows, columns = patch_grid(height, width, patch)
    kept = int(rows * columns * (1 - ratio))
    corners = masked[:, 0, ::patch, ::patch]  # one pixel of every patch, the cut ones included
    assert (corners != 0).flatten(1).sum(1).tolist() == [kept, kept]
    assert torch.equal(masked, ImageMasking(ratio, patch, sampling)(images, torch.Generator().manual_seed(seed)))
    assert images.min() == 2


@pytest.mark.parametrize("sampling", ORDERS)
def test_images_of_a_batch_are_masked_independently(sampling):
    masks = removed(sampling, 15, 14, 0.4, images=16)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 8


def test_random_masks_are_those_of_one_uniform_draw():
    expected = torch.rand(3, 20, generator=torch.Generator().manual_seed(4))
    assert torch.equal(ORDERS["random"](3, 4, 5, 0.7, torch.Generator().manual_seed(4)), expected)


@given(rows=st.integers(1, 10), columns=st.integers(1, 10), seed=st.integers(0, 99))
def test_a_grid_keeps_one_patch_of_four(rows, columns, seed):
    kept = ~removed("grid", 2 * rows, 2 * columns, 0.75, seed)[0]
    y, x = kept.nonzero().T
    assert len(y) == rows * columns
    assert len(set((y % 2).tolist())) == len(set((x % 2).tolist())) == 1


@given(rows=st.integers(1, 10), columns=st.integers(1, 10), seed=st.integers(0, 99))
def test_a_grid_of_one_half_is_a_checkerboard(rows, columns, seed):
    kept = ~removed("grid", 2 * rows, 2 * columns, 0.5, seed)[0]
    y, x = kept.nonzero().T
    assert len(set(((y + x) % 2).tolist())) == 1


@given(rows=st.integers(1, 16), columns=st.integers(1, 16), ratio=RATIOS, seed=st.integers(0, 99))
def test_cutout_is_one_square(rows, columns, ratio, seed):
    mask = removed("cutout", rows, columns, ratio, seed)[0]
    y, x = mask.nonzero().T
    if len(y) == 0:
        return
    height, width = (int(v.max() - v.min()) + 1 for v in (y, x))
    # The frame around it holds nothing else but a part of its outermost ring.
    assert height * width - len(y) < 2 * (height + width)
    inner = mask[y.min() + 1 : y.max(), x.min() + 1 : x.max()]
    assert inner.all()
    if y.min() > 0 and y.max() < rows - 1 and x.min() > 0 and x.max() < columns - 1:  # not cut by a border
        assert abs(height - width) <= 1


def test_cutout_comes_to_every_corner():
    masks = removed("cutout", 8, 8, 0.25, images=400)
    share = masks.float().mean(0)
    assert share.min() > 0.1
    assert masks[:, 0, 0].any()


@given(rows=st.integers(2, 16), columns=st.integers(2, 16), ratio=st.floats(0.1, 1), seed=st.integers(0, 99))
def test_blocks_are_rectangles(rows, columns, ratio, seed):
    order = ORDERS["block"](1, rows, columns, ratio, torch.Generator().manual_seed(seed)).view(rows, columns)
    first = (order == order.max()).nonzero()  # the first block is seen whole
    height, width = (first.amax(0) - first.amin(0) + 1).tolist()
    assert len(first) == height * width
    assert 1 <= height * width <= max(0.08, ratio) * rows * columns + height + width + 1  # sides are rounded


def test_what_is_hidden_hangs_together_in_blocks_more_than_at_random():
    def neighbors(sampling):
        masks = removed(sampling, 14, 14, 0.5, images=64)
        return (masks[:, 1:] == masks[:, :-1]).float().mean().item()

    assert neighbors("grid") == 0
    assert neighbors("random") == pytest.approx(0.5, abs=0.03)
    assert neighbors("block") > 0.8
    assert neighbors("cutout") > 0.9


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75, 0.95])
@pytest.mark.parametrize("side", [2, 14, 56])
def test_there_are_enough_blocks_for_every_ratio(side, ratio):
    order = ORDERS["block"](100, side, side, ratio, torch.Generator().manual_seed(0))
    covered = (order > -BLOCKS).sum(1)
    assert (covered >= side * side - int(side * side * (1 - ratio))).all()


def test_an_unknown_shape_is_named():
    with pytest.raises(ValueError, match="sampling must be one of random, grid, block, cutout, not 'round'"):
        ImageMasking(sampling="round")
