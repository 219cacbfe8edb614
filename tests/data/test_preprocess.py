"""Images and masks as the official code prepares them, and predictions back on the photo."""

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from maskris.data.preprocess import IMAGENET_MEAN, Preprocess, to_rgb

sizes = st.integers(1, 70)
kinds = st.sampled_from(["stretch", "letterbox"])


@pytest.mark.parametrize("case", [0, 1])
def test_images_and_masks_equal_the_official_ones(shared, case):
    golden = load_file(shared / "reference/maskris/extras.safetensors")
    image, mask = golden[f"transform{case}.image_uint8"].numpy(), golden[f"transform{case}.mask_uint8"].numpy()
    expected = golden[f"transform{case}.out_image"]
    preprocess = Preprocess(*expected.shape[1:])
    torch.testing.assert_close(
        preprocess.normalize(preprocess.image(Image.fromarray(image))), expected, atol=1e-6, rtol=0
    )
    assert torch.equal(preprocess.mask(mask != 0), golden[f"transform{case}.out_mask"] != 0)


@pytest.mark.parametrize("kind", ["stretch", "letterbox"])
def test_an_image_that_fits_is_not_touched(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    resized = Preprocess(24, 40, resize=kind).image(Image.fromarray(pixels))
    assert resized.dtype == torch.uint8
    assert np.array_equal(resized.permute(1, 2, 0).numpy(), pixels)


def test_a_letterbox_keeps_the_ratio_and_pads_with_the_mean():
    preprocess = Preprocess(60, 60, resize="letterbox")
    image = preprocess.image(Image.new("RGB", (40, 20), (255, 0, 0)))
    mean = torch.tensor(IMAGENET_MEAN)
    assert (image[:, :12].float() / 255 - mean[:, None, None]).abs().max() <= 0.5 / 255
    assert torch.equal(image[:, :12], image[:, 48:].flip(1))
    assert image[:, 16:43, :57].flatten(1).T.unique(dim=0).tolist() == [[255, 0, 0]]
    assert preprocess.normalize(image)[:, :12].abs().max() < 0.01, "padding is nearly zero once normalized"
    mask = preprocess.mask(np.ones((20, 40), dtype=bool))
    assert mask[16:43, :57].min() == 1
    assert mask[:12].max() == mask[48:].max() == 0


@given(sizes, sizes, sizes, sizes)
def test_a_stretched_mask_of_ones_comes_back_as_ones(height, width, h, w):
    preprocess = Preprocess(height, width)
    mask = preprocess.mask(np.ones((h, w), dtype=bool))
    assert mask.shape == (height, width)
    assert mask.dtype == torch.bool
    assert mask.all()
    restored = preprocess.restore(mask[None].float(), (h, w))
    assert restored.shape == (1, h, w)
    torch.testing.assert_close(restored, torch.ones(1, h, w))
    assert not preprocess.mask(np.zeros((h, w), dtype=bool)).any()


@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8), st.integers(0, 3))
def test_a_mask_enlarged_by_a_whole_factor_comes_back_exactly(factor, h, w, seed):
    mask = np.random.default_rng(seed).random((h, w)) < 0.5
    preprocess = Preprocess(h * factor, w * factor)
    enlarged = preprocess.mask(mask)
    assert np.array_equal(enlarged.numpy(), mask.repeat(factor, 0).repeat(factor, 1))
    restored = preprocess.restore(enlarged[None].float(), mask.shape)[0]
    assert np.array_equal((restored > 0.5).numpy(), mask)


@given(st.tuples(sizes, sizes), st.tuples(sizes, sizes), st.booleans(), st.integers(0, 9))
def test_masks_take_the_pixels_that_pil_takes(size, target, as_coco, seed):
    mask = np.random.default_rng(seed).random(size) < 0.5
    expected = Image.fromarray(mask.astype(np.uint8)).resize(target[::-1], Image.Resampling.NEAREST)
    found = Preprocess(*target).mask(np.asfortranarray(mask) if as_coco else mask)
    assert found.is_contiguous()
    assert np.array_equal(found.numpy(), np.asarray(expected) != 0)


@given(st.integers(1, 5000), st.integers(1, 5000), kinds, st.integers(1, 500), st.integers(1, 500))
def test_the_least_size_is_what_the_input_shows(h, w, kind, height, width):
    least = Preprocess(height, width, kind).least_size(h, w)
    if kind == "stretch":
        assert least == (height, width)
    else:
        assert least[0] <= height
        assert least[1] <= width
        assert least[0] == height or least[1] == width, "one side is filled, the other one is padded"
        assert abs(least[0] * w - least[1] * h) <= max(h, w), "in the photo's ratio, but for rounding"


@pytest.mark.parametrize("kind", ["stretch", "letterbox"])
@pytest.mark.parametrize("photo", [(50, 30), (30, 50), (200, 90), (64, 48)])
def test_a_map_lands_where_it_was(kind, photo):
    height, width = photo
    preprocess = Preprocess(64, 48, resize=kind)
    mask = np.zeros(photo, dtype=bool)
    mask[height // 5 : height // 2, width // 3 : width - 2] = True
    restored = preprocess.restore(preprocess.mask(mask)[None].float(), photo)[0].numpy() > 0.5
    assert (restored & mask).sum() / (restored | mask).sum() > 0.85


def test_restore_wants_maps_of_the_input_size_and_takes_none():
    preprocess = Preprocess(8, 6)
    assert preprocess.restore(torch.zeros(0, 8, 6), (5, 5)).shape == (0, 5, 5)
    with pytest.raises(ValueError, match=r"\[N, 8, 6\], not \[1, 6, 8\]"):
        preprocess.restore(torch.zeros(1, 6, 8), (5, 5))
    with pytest.raises(ValueError, match="height and a width"):
        preprocess.mask(np.ones((1, 5, 5), dtype=bool))


def test_normalization_is_the_published_one_and_happens_once():
    preprocess = Preprocess(2, 2)
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    normal = preprocess.normalize(images)
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal[0, :, 0, 0], torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    torch.testing.assert_close(normal[1, :, 0, 0], torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))
    assert preprocess.normalize(normal) is normal
    assert images[1].unique().tolist() == [255], "the input must not be changed"


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    gray = np.array([[0, 257 * 7, 257 * 128, 65535]], dtype=np.uint16)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    for image in (Image.fromarray(gray), Image.open(tmp_path / "gray.png"), Image.fromarray(gray.astype(np.int32))):
        assert np.asarray(to_rgb(image))[0].tolist() == [[v] * 3 for v in (0, 7, 128, 255)]
    eight = Image.fromarray(np.array([[0, 7, 255]], dtype=np.int32))
    assert np.asarray(to_rgb(eight))[0, :, 0].tolist() == [0, 7, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("RGB", (5, 4), (255, 255, 255)).convert("L").convert(mode)
    assert Preprocess(4, 5).image(image).shape == (3, 4, 5)


def test_a_palette_with_transparency_causes_no_warning():
    image = Image.new("P", (5, 4))
    image.info["transparency"] = bytes(range(256))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_rgb(image).mode == "RGB"


@given(kinds, sizes, sizes, st.tuples(*[st.floats(0, 1)] * 3), st.tuples(*[st.floats(0.01, 1)] * 3))
def test_it_survives_json(kind, height, width, mean, std):
    preprocess = Preprocess(height, width, kind, mean, std)
    again = Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict())))
    assert again == preprocess
    assert hash(again) == hash(preprocess)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"height": 0}, "input size"),
        ({"resize": "crop"}, "'stretch' or 'letterbox'"),
        ({"mean": [0.5]}, "three values"),
        ({"std": [0.5, 0.5, 0.0]}, "positive"),
        ({"side": 448}, "has no side; it has height"),
    ],
)
def test_wrong_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        Preprocess.from_dict(values)
