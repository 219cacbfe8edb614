"""Pixels stay pixels, severities hurt more and more, and draws depend on seed, name and image alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskris.data.preprocess import Preprocess
from maskris.robustness import corruptions as formulas
from maskris.robustness.corruptions import KINDS, SEVERITIES, Corruption, Scale
from maskris.utils.rng import KeyedRandom


@pytest.fixture(scope="module")
def scene():
    return picture(64)


def picture(size, number=0):
    """A smooth scene with edges and texture: ``[3, size, size]`` in 255ths."""
    draws = KeyedRandom(number, "picture")
    y, x = torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij")
    image = torch.stack([0.25 + 0.3 * x, 0.6 - 0.3 * y, 0.35 + 0.2 * x * y])
    for _ in range(6):
        color, place = draws.uniform(3, 1, 1).float(), draws.uniform(2).float()
        inside = ((x - place[0]).abs() < 0.12) & ((y - place[1]).abs() < 0.15)
        image = torch.where(inside, 0.1 + 0.8 * color, image)
    stripes = 0.06 * torch.sin(40 * (x + y))
    return ((image + stripes).clamp(0, 1) * 255).round() / 255


@pytest.mark.parametrize("size", [64, 224])
@pytest.mark.parametrize("name", KINDS)
def test_each_severity_does_more_than_the_one_before(name, size):
    damage = []
    for severity in SEVERITIES:
        pairs = [(picture(size, i), Corruption(name, severity).image(picture(size, i), i)) for i in range(3)]
        damage.append(sum(float((after - before).abs().mean()) for before, after in pairs))
    assert damage == sorted(damage)
    assert len(set(damage)) == 5
    assert damage[0] > 0


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(KINDS)),
    severity=st.sampled_from(SEVERITIES),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**40),
    level=st.sampled_from([None, 0.0, 1.0]),
)
def test_any_picture_stays_one_and_is_changed_in_the_same_way_twice(name, severity, height, width, seed, level):
    image = (KeyedRandom(seed, "any").uniform(3, height, width).float() * 255).round() / 255
    if level is not None:
        image = torch.full_like(image, level)
    corruption = Corruption(name, severity, seed)
    out = corruption.image(image.clone(), 5)
    assert out.shape == image.shape
    assert out.dtype == torch.float32
    assert 0 <= out.min() <= out.max() <= 1
    assert torch.equal((out * 255).round() / 255, out)
    assert torch.equal(corruption.image(image.clone(), 5), out)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("defocus-blur", "zoom-blur")])
def test_what_is_random_depends_on_seed_and_image(name, scene):
    if name in ("brightness", "contrast", "pixelate", "jpeg"):
        assert torch.equal(Corruption(name, 3).image(scene, 1), Corruption(name, 3, seed=9).image(scene, 2))
        return
    one = Corruption(name, 3).image(scene, 1)
    assert not torch.equal(one, Corruption(name, 3).image(scene, 2))
    assert not torch.equal(one, Corruption(name, 3, seed=9).image(scene, 1))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(list(KINDS)), data=st.data())
def test_the_grouping_of_batches_is_irrelevant(load, name, data):
    images = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True))
    whole, some = load(), load(*images)
    pictures = {}
    for batch, origin in (whole, some):
        out = Corruption(name, 2)(batch, origin)
        assert out.images.dtype == torch.uint8
        assert torch.equal(out.image_index, batch.image_index)
        for image_id, image in zip(origin.image_ids, out.images, strict=True):
            assert torch.equal(image, pictures.setdefault(image_id, image))


def test_normalized_pictures_are_corrupted_alike(load, model):
    batch, origin = load()
    corruption = Corruption("gaussian-noise", 2)
    pixels = corruption(batch, origin).images
    normalized = corruption(replace(batch, images=model.preprocess.normalize(batch.images)), origin).images
    assert torch.allclose(normalized, model.preprocess.normalize(pixels), atol=1e-6)


def test_noise_has_the_strength_that_was_published():
    """At 224 px nothing is scaled: deviations and shares are those of ImageNet-C."""
    gray = torch.full((3, 224, 224), 0.5)
    scale = Scale.of(224, 300)
    assert scale == Scale(1, 1)
    noise = formulas.gaussian_noise(gray, 0.08, scale, KeyedRandom(0)) - 0.5
    assert noise.mean().abs() < 1e-3
    assert noise.std() == pytest.approx(0.08, rel=0.02)
    counts = formulas.shot_noise(gray, 60, scale, KeyedRandom(0)) * 60
    level = 60 * 128 / 255
    assert torch.allclose(counts, counts.round(), atol=1e-9)
    assert counts.mean() == pytest.approx(level, rel=0.01)
    assert counts.var() == pytest.approx(level, rel=0.02)  # a Poisson variable's variance is its mean
    broken = formulas.impulse_noise(gray, 0.27, scale, KeyedRandom(0))
    assert (broken == 0).double().mean() == pytest.approx(0.135, abs=0.005)
    assert (broken == 1).double().mean() == pytest.approx(0.135, abs=0.005)


def test_small_pictures_are_scaled():
    small = Scale.of(56, 80)
    assert small == Scale(0.25, 0.5)
    assert Scale.of(448, 448) == Scale(2, 1)
    gray = torch.full((3, 56, 56), 0.5)
    assert (formulas.gaussian_noise(gray, 0.2, small, KeyedRandom(0))).std() == pytest.approx(0.1, rel=0.03)
    assert formulas.shot_noise(gray, 10, small, KeyedRandom(0)).var() == pytest.approx(0.5 / 40, rel=0.05)
    point = torch.zeros(3, 57, 57)
    point[:, 28, 28] = 1
    blurred = formulas.defocus_blur(point, 8, small, KeyedRandom(0))[0]  # a disk of 2 px
    y, x = (blurred > 1e-4).nonzero().unbind(1)
    assert (y.min(), y.max(), x.min(), x.max()) == (26, 30, 26, 30)
    assert blurred.sum() == pytest.approx(1, abs=1e-4)


def test_formulas_agree_with_their_definitions(scene):
    scale, draws = Scale(1, 1), KeyedRandom(0)
    hsv = [
        Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()).convert("HSV")
        for image in (scene, formulas.brightness(scene, 0.1, scale, draws))
    ]
    hue, saturation, value = (
        [torch.frombuffer(bytearray(image.getchannel(c).tobytes()), dtype=torch.uint8).int() for image in hsv]
        for c in "HSV"
    )
    assert (value[1] - (value[0] + 25.5).clamp(max=255)).abs().max() <= 1
    assert (saturation[1] - saturation[0]).abs().float().mean() < 1.5  # PIL rounds
    assert (hue[1] - hue[0]).abs().float().median() <= 1

    flat = formulas.contrast(scene, 0.3, scale, draws)
    assert torch.allclose(flat.mean((1, 2)), scene.mean((1, 2)), atol=1e-5)
    assert torch.allclose(flat.std((1, 2)), 0.3 * scene.std((1, 2)), rtol=1e-4)

    blocks = formulas.pixelate(scene, 4, scale, draws)
    assert torch.equal(blocks, blocks[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2))
    means = scene.view(3, 16, 4, 16, 4).mean((2, 4))
    assert (blocks[:, ::4, ::4] - means).abs().max() <= 1 / 255

    zoomed = formulas.zoom_blur(scene, 0.3, scale, draws)
    assert (zoomed - scene)[:, 31:33, 31:33].abs().mean() < (zoomed - scene).abs().mean()  # the middle moves least


def test_fog_is_brighter_where_the_cloud_is_and_never_outshines_the_picture(scene):
    foggy = formulas.fog(scene, 3.0, Scale(1, 1), KeyedRandom(1))
    assert foggy.max() <= scene.max() + 1e-6
    spread = (foggy - foggy.mean((1, 2), keepdim=True)).mean(0)
    original = (scene - scene.mean((1, 2), keepdim=True)).mean(0)
    correlation = (spread * original).mean() / (spread.std() * original.std(unbiased=False))
    assert correlation < 0.7


def test_uniform_normal_and_poisson_draws():
    draws = KeyedRandom(3, "d")
    uniform = draws.uniform(100_000)
    assert 0 < uniform.min() < uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.005)
    normal = draws.normal(100_000)
    assert (normal.abs() < 1.959964).double().mean() == pytest.approx(0.95, abs=0.005)
    for rate in (0.5, 7.0, 300.0):
        levels = torch.tensor([0, 51, 255]).repeat_interleave(40_000)
        counts = draws.poisson(levels, rate).view(3, -1)
        assert counts[0].max() == 0
        for row, mean in ((1, rate / 5), (2, rate)):
            assert counts[row].mean() == pytest.approx(mean, rel=0.03, abs=0.01)
            assert counts[row].var() == pytest.approx(mean, rel=0.05, abs=0.01)
            assert (counts[row] == 0).double().mean() == pytest.approx(torch.tensor(-mean).exp().item(), abs=0.01)
    # The stream is part of published numbers.
    assert [round(float(x), 12) for x in KeyedRandom(0, "x").uniform(3)] == [
        0.512520360309,
        0.836120492617,
        0.318591244517,
    ]


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="no corruption 'frost', but gaussian-noise, "):
        Corruption("frost", 1)
    with pytest.raises(ValueError, match="1, 2, 3, 4 or 5, not 6"):
        Corruption("fog", 6)


def test_a_letterbox_is_corrupted_as_a_whole(load, color_model):
    batch, origin = load(of=color_model(resize="letterbox"))
    assert origin.preprocess == Preprocess(24, 32, "letterbox")
    assert (Corruption("gaussian-noise", 5)(batch, origin).images != batch.images).float().mean() > 0.9
