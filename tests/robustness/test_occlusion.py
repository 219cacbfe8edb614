"""What is covered is exactly what was asked for, and depends on nothing but seed and ids."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskris.robustness.occlusion import ContextOcclusion, PatchOcclusion, ReferentOcclusion

MEAN = [124, 116, 104]  # ImageNet's


def changed(batch, other):
    """Pixels that differ, for each expression: ``[N, H, W]``."""
    before, after = batch.images[batch.image_index], other.images[other.image_index]
    return (before != after).any(1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 17),
    st.floats(0, 1),
    st.integers(0, 9),
    st.integers(0, 2**62),
)
def test_any_size_covers_the_right_number_of_whole_patches(height, width, patch, ratio, seed, image_id):
    occlusion = PatchOcclusion(ratio, patch, seed)
    mask = occlusion.masks([image_id], height, width)[0]
    assert mask.shape == (height, width)
    patches = [piece for rows in mask.split(patch, 0) for piece in rows.split(patch, 1)]
    assert all(piece.all() or not piece.any() for piece in patches)
    assert sum(bool(piece.any()) for piece in patches) == round(ratio * len(patches))


def test_patches_depend_on_seed_and_image_alone():
    masks = PatchOcclusion(0.5, 8, seed=3).masks([7, 8], 24, 32)
    assert not torch.equal(masks[0], masks[1])
    assert torch.equal(masks[1], PatchOcclusion(0.5, 8, seed=3).masks([8], 24, 32)[0])
    assert not torch.equal(masks[0], PatchOcclusion(0.5, 8, seed=4).masks([7], 24, 32)[0])
    # The draw is part of published numbers: it must be the same on every machine and for ever.
    assert PatchOcclusion(0.25, 8, 0).masks([1], 32, 32)[0, ::8, ::8].flatten().nonzero().flatten().tolist() == [
        4, 7, 10, 15,
    ]  # fmt: skip


def test_more_occlusion_covers_more_of_the_same(load):
    few, many = (PatchOcclusion(ratio, 4).masks([5], 32, 32) for ratio in (0.25, 0.5))
    assert (many | few).equal(many)
    assert many.sum() == 2 * few.sum() == 512
    batch, origin = load()
    for kind in (ReferentOcclusion, ContextOcclusion):
        some, more = (changed(batch, kind(share)(batch, origin)) for share in (0.25, 0.75))
        assert (more | some).equal(more)


def test_patches_are_covered_with_the_mean_color(load):
    batch, origin = load(0, 2)
    batch = replace(batch, images=torch.full_like(batch.images, 200))
    occlusion = PatchOcclusion(0.5, 4)
    covered = occlusion.masks(origin.image_ids, 24, 32)
    out = occlusion(batch, origin).images
    assert out.dtype == torch.uint8
    assert out.permute(0, 2, 3, 1)[covered].unique(dim=0).tolist() == [MEAN]
    assert (out.permute(0, 2, 3, 1)[~covered] == 200).all()
    assert (batch.images == 200).all()  # the input is left as it is
    normalized = occlusion(replace(batch, images=torch.ones(2, 3, 24, 32, dtype=torch.float64)), origin).images
    assert normalized.dtype == torch.float64
    assert torch.equal(normalized, (~covered).double().unsqueeze(1).expand(2, 3, 24, 32))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_no_patch_and_every_patch(load, ratio):
    batch, origin = load()
    out = PatchOcclusion(ratio)(replace(batch, images=torch.ones(5, 3, 24, 32)), origin)
    assert (out.images == 1 - ratio).all()


@pytest.mark.parametrize("kind", [ReferentOcclusion, ContextOcclusion])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_is_exact_and_the_rest_untouched(load, kind, share):
    batch, origin = load()
    occlusion = kind(share, seed=2)
    out = occlusion(batch, origin)
    assert torch.equal(out.input_ids, batch.input_ids)
    assert torch.equal(out.masks, batch.masks)
    for n, difference in enumerate(changed(batch, out)):
        inside = batch.masks[n] if kind is ReferentOcclusion else ~batch.masks[n]
        assert not difference[~inside].any()
        planned = torch.from_numpy(
            occlusion._covered(batch.masks[n].numpy(), origin.image_ids[batch.image_index[n]], origin.ref_ids[n])
        )
        assert int(planned.sum()) == round(share * int(inside.sum()))
        assert not difference[~planned].any()
        assert out.images[out.image_index[n]].permute(1, 2, 0)[planned].unique(dim=0).tolist() == [MEAN] * bool(share)


def test_referents_share_no_picture_but_their_expressions_do(load):
    batch, origin = load()
    out = ReferentOcclusion(1.0)(batch, origin)
    assert len(out.images) == len(set(origin.ref_ids)) < len(batch)
    for n, ref_id in enumerate(origin.ref_ids):
        same = [other == ref_id for other in origin.ref_ids]
        assert (out.image_index == out.image_index[n]).tolist() == same


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), seed=st.integers(0, 5), data=st.data())
@pytest.mark.parametrize("kind", [PatchOcclusion, ReferentOcclusion, ContextOcclusion])
def test_the_grouping_of_batches_is_irrelevant(load, kind, share, seed, data):
    images = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True))
    whole, some = load(), load(*images)
    pictures = {}
    for batch, origin in (whole, some):
        out = kind(share, seed=seed)(batch, origin)
        for n, key in enumerate(zip(origin.ref_ids, origin.numbers, strict=True)):
            picture = out.images[out.image_index[n]]
            assert torch.equal(picture, pictures.setdefault(key, picture))


def test_a_referent_is_covered_from_one_side():
    """What is covered and what isn't can be told apart by a straight line."""
    referent = np.zeros((20, 20), dtype=bool)
    referent[4:16, 3:17] = True
    for ref_id in range(8):
        covered = ReferentOcclusion(0.4)._covered(referent, 1, ref_id)
        gone, left = (np.argwhere(part) for part in (covered, referent & ~covered))
        angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
        directions = np.stack([np.sin(angles), np.cos(angles)])
        assert ((gone @ directions).max(0) <= (left @ directions).min(0) + 0.6).any()


def test_nothing_happens_to_an_expression_without_referent(load):
    batch, origin = load(0)
    batch = replace(batch, masks=torch.zeros_like(batch.masks))
    out = ReferentOcclusion(1.0)(batch, origin)
    assert not changed(batch, out).any()
    assert changed(batch, ContextOcclusion(1.0)(batch, origin)).flatten(1).float().mean() > 0.95


def test_wrong_values_are_refused(load):
    with pytest.raises(ValueError, match="between 0 and 1, not 25"):
        PatchOcclusion(25)
    with pytest.raises(ValueError, match="positive"):
        PatchOcclusion(patch_size=0)
    with pytest.raises(ValueError, match="referent that is covered lies between"):
        ReferentOcclusion(-0.1)
    with pytest.raises(ValueError, match="positive"):
        ContextOcclusion(patch_size=0)
    batch, origin = load(0)
    with pytest.raises(ValueError, match="no masks"):
        ReferentOcclusion()(replace(batch, masks=None), origin)
