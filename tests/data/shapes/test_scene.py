"""Scenes are the same on every machine and at every size, and masks, pixels and attributes agree."""

import ast
import hashlib
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from data.shapes_scenes import scene_of, scenes_of
from hypothesis import given, settings
from hypothesis import strategies as st

from maskris.data.shapes import scene as shapes_scene
from maskris.data.shapes.language import ALIKE
from maskris.data.shapes.scene import (
    COLORS,
    MIN_VISIBLE,
    SHAPES,
    TEXTURES,
    UNITS,
    Scene,
    Thing,
    held_out_color,
    is_held_out,
    make_scene,
    masks_of,
    render,
)
from maskris.data.shapes.writer import ALIKE_OBJECTS, OBJECTS

SIZES = (32, 64, 97, 256)


@pytest.fixture(scope="module")
def scenes():
    """A hundred of each family, of all sizes."""
    ours = [make_scene(7, split, number, objects) for split, objects in OBJECTS.items() for number in range(18)]
    return ours + scenes_of("shapesc", 5, tuple(OBJECTS))


def alone(thing, size):
    return masks_of(Scene((thing,), (0,)), size)[0]


# Recorded once: if they change, the data set is another one, and numbers reported on it can't be compared.
THING = Thing(shape="circle", color="red", texture="plain", x=486, y=495, radius=203)
DIGESTS = {
    "train": "0668604d1b0186e294c5907318a3bf79f26bb5f444a9df61227de537ace8620c",
    "val": "f800190dfe4326b5fe3bd86db61c88b817b4c0e4a4b84624c1ecb9616bf939d7",
    "testA": "a436f9d6b28a9082d03bfc46451afc6d34f8832b17f68a62b05313388386e53c",
    "testB": "6feee477a54f2517fd78dfa8501a2322e0afcf58cdb0ab574c132a2293ffb431",
    "combinations": "459589851f73743d9434058a5cacec9f3ce565adcbed73013c2887dfe5666bcc",
    "longer": "86e950a90231fd990ed00a142d5c76ec240eb45bb163fefe50ca07f304ef8d92",
    "train, alike": "c3badfe7df31c42af0d8e2e99924f1ea042e726ea45b5e171b4742ad755ee470",
    "val, alike": "81e4a47a694daf0f74fbd82ad88ddb0075aa542ffb289e702f460b3dfcdd2057",
    "testA, alike": "71382359370b741f50664b49b0f348625f97c9e545701d66b1ce3f317c4bcfb7",
    "testB, alike": "22a73a75606c5c187c48e4dcbff7b00872b1bfbfe6d43e78f460c3b3d888dc77",
    "combinations, alike": "be595810336a9a1755d66dee2f1c745b998f22be0156bbf5454cdf31a44e9ce7",
    "longer, alike": "9efa7e19fb5ae6f65d40725ba52a129f9fa4aefe1e9312853a1bb397ba5b6033",
}
MASKS = "89836a8ba19664c54e96930e3f243e0827546dd2d7518d2d09064c0c2cf44047"


def test_every_machine_draws_these_pixels():
    drawn = {split: make_scene(0, split, 0, objects) for split, objects in OBJECTS.items()}
    drawn |= {f"{split}, alike": scene_of("shapesc", split, 0, seed=0) for split in OBJECTS}
    assert drawn["val"].things[0] == THING
    digests = {split: hashlib.sha256(render(scene, 64).tobytes()).hexdigest() for split, scene in drawn.items()}
    assert digests == DIGESTS
    assert hashlib.sha256(np.packbits(masks_of(drawn["testB"], 64)).tobytes()).hexdigest() == MASKS


def test_no_float_decides_a_pixel(scenes):
    tree = ast.parse(Path(shapes_scene.__file__).read_text())
    floats = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, float)}
    assert floats == {MIN_VISIBLE}
    assert Fraction(MIN_VISIBLE) == Fraction(3, 4)  # exact, and so are its products with numbers of pixels
    operations = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    assert not any(isinstance(node.op, ast.Div) for node in operations)
    assert {ast.unparse(node.right) for node in operations if isinstance(node.op, ast.Pow)} == {"2"}
    names = {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in ast.walk(tree)}
    assert not names & {"float", "float32", "float64", "mean", "sqrt", "hypot", "linspace", "random", "math"}
    for scene in scenes[::10]:
        assert render(scene, 64).dtype == np.uint8
        assert shapes_scene._background(scene, 64).dtype == np.int64
        assert {shapes_scene._paint(thing, 64).dtype for thing in scene.things} == {np.dtype(np.int64)}


def test_a_scene_is_a_function_of_seed_split_and_number():
    keys = [(seed, split, number) for seed in (0, 1) for split in ("train", "val") for number in (0, 1)]
    first, again = ([make_scene(*key) for key in keys] for _ in range(2))
    assert first == again
    assert len({scene.things for scene in first}) == len(keys)
    pictures = [render(scene, 32).tobytes() for scene in first]
    assert pictures == [render(scene, 32).tobytes() for scene in again]
    assert len(set(pictures)) == len(keys)
    grounds = {render(Scene((), scene.key), 32).tobytes() for scene in first}
    assert len(grounds) == len(keys)


@settings(max_examples=100)
@given(
    st.integers(-(2**70), 2**70),
    st.integers(0, 2**40),
    st.sampled_from(sorted(OBJECTS)),
    st.sampled_from(["shapes", *ALIKE]),
)
def test_every_scene_has_as_many_visible_objects_as_its_split_allows(seed, number, split, variant):
    scene = scene_of(variant, split, number, seed)
    fewest, most = (ALIKE_OBJECTS if variant in ALIKE else OBJECTS)[split]
    assert fewest <= len(scene.things) <= most
    assert any(map(is_held_out, scene.things)) == (split == "combinations")
    for thing, mask in zip(scene.things, masks_of(scene, 64), strict=True):
        assert thing.radius <= min(thing.x, thing.y, UNITS - thing.x, UNITS - thing.y)
        assert mask.sum() >= MIN_VISIBLE * alone(thing, 64).sum()


def test_everything_occurs_and_objects_overlap(scenes):
    things = [thing for scene in scenes for thing in scene.things]
    assert {t.shape for t in things} == set(SHAPES)
    assert {t.color for t in things} == set(COLORS)
    assert {t.texture for t in things} == set(TEXTURES)
    assert {len(s.things) for s in scenes} == set(range(2, 9))
    hidden = sum((m != alone(t, 64)).any() for s in scenes for t, m in zip(s.things, masks_of(s, 64), strict=True))
    assert hidden > 10


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_disjoint_visible_and_where_the_objects_are_painted(scenes, size):
    for scene in scenes[::4]:
        picture, visible = render(scene, size), masks_of(scene, size)
        assert picture.shape == (size, size, 3)
        assert {(mask.shape, mask.dtype) for mask in visible} == {((size, size), np.dtype(bool))}
        assert np.sum(visible, axis=0).max() == 1
        nothing = ~np.any(visible, axis=0)
        assert np.array_equal(picture[nothing], render(Scene((), scene.key), size)[nothing])
        for thing, mask in zip(scene.things, visible, strict=True):
            assert np.array_equal(picture[mask], render(Scene((thing,), (0,)), size)[mask])
            whole = alone(thing, size)
            assert not (mask & ~whole).any()
            assert mask.sum() >= (MIN_VISIBLE - 0.02) * whole.sum()  # it was measured at 64 pixels


def test_a_scene_is_the_same_at_every_size(scenes):
    overlaps = []
    for scene in scenes:
        for small, large in zip(masks_of(scene, 64), masks_of(scene, 256), strict=True):
            shrunk = large.reshape(64, 4, 64, 4).mean(axis=(1, 3)) >= 0.5
            overlaps.append((small & shrunk).sum() / (small | shrunk).sum())
    assert min(overlaps) > 0.6  # a small star has few pixels inside
    assert np.mean(overlaps) > 0.96


SHARES = {  # of the square around the object
    "circle": math.pi / 4,
    "square": 49 / 64,
    "triangle": 7 / 16,
    "diamond": 1 / 2,
    "cross": 16 / 25,
    "ring": math.pi / 5,
    "star": 0.382,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_what_it_is_called(shape):
    mask = alone(Thing(shape, "red", "plain", 512, 512, 200), 512)
    assert mask.sum() / 200**2 == pytest.approx(SHARES[shape], rel=0.02)
    assert (mask == mask[:, ::-1]).mean() > 0.99
    assert (mask == mask[::-1]).all() == (shape not in ("triangle", "star"))
    assert mask[256, 256] == (shape != "ring")
    ys, xs = np.nonzero(mask)
    assert min(ys.min(), xs.min()) >= 255 - 100
    assert max(ys.max(), xs.max()) <= 256 + 100


def test_pixels_have_the_color_and_texture_that_words_name(scenes):
    palette, names = np.array(list(COLORS.values())), list(COLORS)
    for scene in scenes:
        picture = render(scene, 64).astype(int)
        for thing, mask in zip(scene.things, masks_of(scene, 64), strict=True):
            pixels = picture[mask]
            nearest = ((pixels[:, None] - palette) ** 2).sum(-1).argmin(1)
            own = nearest == names.index(thing.color)
            brightness = pixels.sum(1) / sum(COLORS[thing.color])
            if thing.texture == "plain":
                assert own.all()
                assert brightness.min() > 0.75
            else:
                bright = brightness > 0.65
                assert own[bright].all()
                assert 0.15 < 1 - bright.mean() < 0.7


def test_what_lies_behind_is_noisy_and_has_no_named_color(scenes):
    palette = np.array(list(COLORS.values()))
    for scene in scenes:
        ground = render(Scene((), scene.key), 64).astype(int)
        assert ground.std(axis=(0, 1)).min() > 5
        assert np.abs(ground[:, :, None] - palette).max(-1).min() > 15


def test_held_out_are_21_combinations_and_no_pair_of_attributes():
    held_out = {(shape, held_out_color(shape, texture), texture) for shape, texture in product(SHAPES, TEXTURES)}
    assert len(held_out) == 21
    for places in combinations(range(3), 2):
        rest = {tuple(look[i] for i in places) for look in product(SHAPES, COLORS, TEXTURES) if look not in held_out}
        assert len(rest) == math.prod(len((SHAPES, COLORS, TEXTURES)[i]) for i in places)
    assert ("circle", "blue", "plain") in held_out
    assert not held_out & {("circle", "red", "plain"), ("circle", "blue", "striped"), ("square", "blue", "plain")}
    assert set(Counter(color for _, color, _ in held_out).values()) == {2, 3}


@pytest.mark.parametrize("variant", ["shapes", "shapesc"])
def test_training_shows_every_color_shape_and_texture_often_and_the_rest_in_their_own_split(variant):
    seen, unseen = (
        [t for s in scenes_of(variant, 300, (split,)) for t in s.things] for split in ("train", "combinations")
    )
    for name, number in (("color", 8), ("shape", 7), ("texture", 3)):
        counts = Counter(getattr(thing, name) for thing in seen)
        assert len(counts) == number
        assert min(counts.values()) > 0.7 * len(seen) / (4 if name == "texture" else number)
    assert len({(t.shape, t.color, t.texture) for t in unseen if is_held_out(t)}) == 21
    assert 0.25 < sum(map(is_held_out, unseen)) / len(unseen) < 0.75


def test_a_scene_without_held_out_objects_is_as_if_none_were(monkeypatch):
    """The colors of others alone are changed, so that the rest of the scene stays what it was."""
    keys = [(0, split, number, OBJECTS[split]) for split in ("train", "testB") for number in range(30)]
    ours = [make_scene(*key) for key in keys]
    monkeypatch.setattr(shapes_scene, "held_out_color", lambda shape, texture: None)
    without = [make_scene(*key) for key in keys]
    assert 5 < sum(a == b for a, b in zip(ours, without, strict=True)) < len(keys)
    for one, other in zip(ours, without, strict=True):
        for a, b in zip(one.things, other.things, strict=True):
            assert a == b or (b.color == held_out_color(b.shape, b.texture) and b == replace(a, color=b.color))


def test_in_scenes_for_complex_language_objects_share_attributes():
    def shared(variant):
        scenes = scenes_of(variant, 100, ("train",))
        pairs = [pair for scene in scenes for pair in combinations(scene.things, 2)]
        alike = [sum(getattr(a, n) == getattr(b, n) for n in ("shape", "color", "texture")) >= 2 for a, b in pairs]
        return sum(alike) / len(pairs)

    assert shared("shapesc") > 0.35
    assert shared("shapes") < 0.25


def test_an_impossible_number_of_objects_is_refused():
    with pytest.raises(RuntimeError, match="No layout was found"):
        make_scene(0, "train", 0, (40, 40))
