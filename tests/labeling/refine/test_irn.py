"""IRNet's pieces against the official functions, and against what must hold of them anywhere."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from maskris.labeling.refine.affinity import affinity_matrix, lines_within, random_walk
from maskris.labeling.refine.centroids import follow, instances
from maskris.labeling.refine.pair_losses import irn_losses, pair_labels, seed_labels
from maskris.labeling.refine.synthesis import synthesize


@pytest.fixture(scope="module")
def case(shared):
    return load_file(shared / "reference" / "weak" / "pseudo_case.safetensors")


@pytest.fixture(scope="module")
def numbers(shared):
    return json.loads((shared / "reference" / "weak" / "pseudo_case.json").read_text())


@pytest.mark.parametrize("radius", [5, 10])
def test_lines_are_the_official_ones(numbers, radius):
    official = numbers[f"path_r{radius}"]
    lines = lines_within(radius)
    assert sorted(end for end, _ in lines) == sorted(map(tuple, official["destinations"]))
    assert sorted({len(passed) for _, passed in lines}) == official["path_lengths"]


@pytest.mark.parametrize(("beta", "doublings"), [(4, 3), (10, 4), (10, 8)])
def test_walks_are_the_official_ones(case, beta, doublings):
    walked = random_walk(case["rw_x"], case["rw_edge"][0], 5, beta, doublings)
    torch.testing.assert_close(walked, case[f"rw_beta{beta}_t{doublings}"][:, 0], atol=1e-5, rtol=1e-5)


def test_centroids_and_instances_are_the_official_ones(case):
    pytest.importorskip("skimage")
    assert torch.equal(follow(case["dp"]), case["centroids"].long())
    assert torch.equal(instances(case["dp"]), case["clusters"])


def test_labels_and_losses_are_the_official_ones(case, numbers):
    assert torch.equal(seed_labels(case["cam"]), case["ir_label_without_crf"])
    labels = pair_labels(case["ir_label"])
    ends = [end for end, _ in lines_within(10)]
    order = [ends.index(tuple(end)) for end in numbers["path_r10"]["destinations"]]
    for ours, name in zip(labels, ("aff_bg", "aff_fg", "aff_neg"), strict=True):
        assert torch.equal(ours[order], case[name])
    losses = irn_losses(case["irn_edge"][:, 0].sigmoid(), case["irn_dp"], labels)
    official = [numbers["irn_losses"][key] for key in ("bg_pos", "fg_pos", "neg", "dp_fg", "dp_bg")]
    assert [value.item() for value in losses] == pytest.approx(official, abs=1e-5)
    assert losses.total.item() == pytest.approx(numbers["irn_total"], abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 9), width=st.integers(1, 9), radius=st.integers(2, 6), seed=st.integers(0, 99))
def test_affinities_are_symmetric_and_a_walk_keeps_what_it_spreads(height, width, radius, seed):
    torch.manual_seed(seed)
    edges, maps = torch.rand(height, width, dtype=torch.float64), torch.rand(2, height, width, dtype=torch.float64)
    affinity = affinity_matrix(edges, radius)
    assert torch.equal(affinity, affinity.T)
    assert (affinity.diagonal() == 1).all()
    assert ((affinity >= 0) & (affinity <= 1)).all()
    # Every column sums to one: values become averages of others, which stay between the smallest and the largest.
    walked, given_maps = random_walk(maps, edges, radius, doublings=3), maps * (1 - edges)
    assert (walked <= given_maps.amax((1, 2), keepdim=True) + 1e-9).all()
    assert (walked >= given_maps.amin((1, 2), keepdim=True) - 1e-9).all()


def test_an_edge_divides():
    edges = torch.zeros(6, 9)
    edges[:, 4] = 1
    maps = torch.zeros(1, 6, 9)
    maps[0, 2, 1] = 1
    walked = random_walk(maps, edges)[0]
    assert (walked[:, :4] > 0).all()
    assert (walked[:, 4:] == 0).all()


def test_a_field_without_motion_leaves_every_pixel_where_it_is():
    place = follow(torch.zeros(2, 4, 5))
    assert torch.equal(place[0], torch.arange(4)[:, None].expand(4, 5))
    assert torch.equal(place[1], torch.arange(5).expand(4, 5))


def test_a_radius_without_neighbors_is_refused():
    with pytest.raises(ValueError, match="radius must be at least 2, not 1"):
        lines_within(1)


def test_the_whole_synthesis_is_the_official_one(case):
    pytest.importorskip("skimage")
    made = synthesize(case["cam"], case["rw_edge"][0], case["dp"])
    assert torch.equal(made.masks, case["det_mask"])
    torch.testing.assert_close(made.scores, case["det_score"], atol=1e-5, rtol=1e-5)
    target = torch.nn.functional.interpolate(made.mask[None, None].float(), (64, 64), mode="nearest-exact")[0, 0]
    assert torch.equal(target > 0, case["stage2_target_64"] > 0)


def test_nothing_found_is_no_mask():
    pytest.importorskip("skimage")
    made = synthesize(torch.zeros(8, 12), torch.zeros(2, 3), torch.zeros(2, 2, 3))
    assert made.masks.shape == (0, 8, 12)
    assert not made.mask.any()
    with pytest.raises(ValueError, match="needs edges and displacements of 2 x 3 at stride 4"):
        synthesize(torch.zeros(8, 12), torch.zeros(2, 2), torch.zeros(2, 2, 2))
