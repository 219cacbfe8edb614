import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskris.evaluation.robustness import PatchOcclusion


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


def test_depends_on_seed_and_image_alone():
    images = torch.randint(0, 256, (3, 3, 24, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    occlude = PatchOcclusion(0.5, 8, seed=3)
    together = occlude(images, [7, 8, 9])
    for i, image_id in enumerate([7, 8, 9]):
        assert torch.equal(occlude(images[i : i + 1], [image_id])[0], together[i])
    masks = occlude.masks([7, 8], 24, 32)
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], PatchOcclusion(0.5, 8, seed=4).masks([7], 24, 32)[0])
    # The draw is part of published numbers: it must be the same on every machine and for ever.
    assert PatchOcclusion(0.25, 8, 0).masks([1], 32, 32)[0, ::8, ::8].flatten().nonzero().flatten().tolist() == [
        4, 7, 10, 15,
    ]  # fmt: skip


def test_more_occlusion_covers_more_of_the_same():
    few, many = (PatchOcclusion(ratio, 4).masks([5], 32, 32) for ratio in (0.25, 0.5))
    assert (many | few).equal(many)
    assert many.sum() == 2 * few.sum() == 512


def test_covers_with_the_mean_colour():
    images = torch.full((2, 3, 16, 16), 200, dtype=torch.uint8)
    occlusion = PatchOcclusion(0.5, 4)
    covered = occlusion.masks([1, 2], 16, 16)
    out = occlusion(images, [1, 2])
    assert out.dtype == torch.uint8
    assert out.permute(0, 2, 3, 1)[covered].unique(dim=0).tolist() == [[124, 116, 104]]  # ImageNet's mean
    assert (out.permute(0, 2, 3, 1)[~covered] == 200).all()
    assert (images == 200).all()  # the input is left as it is
    normalised = occlusion(torch.ones(2, 3, 16, 16, dtype=torch.float64), [1, 2])
    assert normalised.dtype == torch.float64
    assert torch.equal(normalised, (~covered).double().unsqueeze(1).expand(2, 3, 16, 16))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_nothing_and_everything(ratio):
    out = PatchOcclusion(ratio)(torch.ones(1, 3, 20, 12), [0])
    assert (out == 1 - ratio).all()


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        PatchOcclusion(25)
    with pytest.raises(ValueError, match="positive"):
        PatchOcclusion(patch_size=0)
    with pytest.raises(ValueError, match="2 images need as many ids, not 1"):
        PatchOcclusion()(torch.ones(2, 3, 8, 8), [1])
