"""Proposals of objects: each is kept once, and measured."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from maskris.models.layers.objects import centers, distinct, geometry, pairwise_iou, points_to, propose


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
    size = (16, 24)
    left = (centers(*size)[:, 0] < 0).float()[None, None]
    x, y, spread_x, spread_y, area, _, _, sure = geometry(left, size)[0, 0].tolist()
    assert (x, y) == pytest.approx((-0.5, 0), abs=2e-3)
    assert (spread_x / 3, spread_y / 3) == pytest.approx((0.288, 0.577), abs=5e-3)  # of uniform distributions
    assert area == pytest.approx(5)
    assert sure == pytest.approx(1)
    assert geometry(left * 0.5, size)[0, 0, -1].item() == pytest.approx(0.5, abs=1e-3)
    assert geometry(torch.zeros(1, 1, 16 * 24), size).isfinite().all()


def test_iou_of_pairs() -> None:
    masks = torch.zeros(1, 3, 100)
    masks[0, 0, :40] = masks[0, 1, 20:40] = 1
    iou = pairwise_iou(masks)[0]
    torch.testing.assert_close(iou[0], torch.tensor([1.0, 0.5, 0.0]), atol=1e-3, rtol=0)
    assert iou[2].tolist() == [0, 0, 0], "two empty masks share nothing"


def test_a_proposal_is_what_points_to_the_same_center() -> None:
    # The left half of the pixels points left, the right half right, as far as they may; the lower half is background.
    pixels = torch.zeros(1, 3, 4, 8)
    pixels[:, 0, :, :4], pixels[:, 0, :, 4:] = -20, 20
    pixels[:, 2, :2], pixels[:, 2, 2:] = 20, -20
    ways = torch.zeros(1, 2, 2, 2)
    ways[:, 0, :, 0], ways[:, 0, :, 1] = -20, 20
    middle, compact = points_to(ways), torch.zeros(1, 4)
    masks = propose(middle, compact, pixels).view(2, 2, 4, 8)  # of the four cells
    assert masks[:, :, 2:].max() < 1e-6, "background belongs to nothing"
    assert masks[0, 0, :2, :4].amin() > masks[0, 0, :2, 4:].amax()
    assert masks[0, 1, :2, 4:].amin() > masks[0, 1, :2, :4].amax()
    x, y = centers(4, 8).view(4, 8, 2)[0, 1].tolist()
    distance = (x + 0.5) ** 2 + (y + 0.5) ** 2  # the cell lies at (-0.5, -0.5), and both point as far to the left
    assert masks[0, 0, 0, 1].item() == pytest.approx(math.exp(-distance / 0.08), rel=1e-4)
    closer = propose(middle, compact + math.log(3), pixels).view(2, 2, 4, 8)
    assert closer[0, 0, 0, 1].item() == pytest.approx(math.exp(-3 * distance / 0.08), rel=1e-4)
