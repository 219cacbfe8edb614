"""Scenes are the same on every machine and at every size, and masks, pixels and attributes agree."""

import ast
import hashlib
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskris.data.shapes import scene as shapes_scene
from maskris.data.shapes.scene import (
    COLORS,
    MIN_VISIBLE,
    SHAPES,
    TEXTURES,
    UNITS,
    Scene,
    Thing,
    make_scene,
    masks_of,
    render,
)
from maskris.data.shapes.writer import OBJECTS

SIZES = (32, 64, 97, 256)


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(7, split, number, objects) for split, objects in OBJECTS.items() for number in range(25)]


def alone(thing, size):
    return masks_of(Scene((thing,), (0,)), size)[0]


# Recorded once: if they change, the data set is another one, and numbers reported on it can't be compared.
THING = Thing(shape="circle", color="red", texture="plain", x=486, y=495, radius=203)
DIGESTS = {
    "train": "5fe44a1408a70560b1089b7429fd43b0ecc695ab3e4363e02b3468ceee7dc15c",
    "val": "f800190dfe4326b5fe3bd86db61c88b817b4c0e4a4b84624c1ecb9616bf939d7",
    "testA": "a436f9d6b28a9082d03bfc46451afc6d34f8832b17f68a62b05313388386e53c",
    "testB": "a0ff6514c51121383b3ee74743800eccb917b20140f002d524f12766babbf321",
}
MASKS = "89836a8ba19664c54e96930e3f243e0827546dd2d7518d2d09064c0c2cf44047"


def test_every_machine_draws_these_pixels():
    drawn = {split: make_scene(0, split, 0, objects) for split, objects in OBJECTS.items()}
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
@given(st.integers(-(2**70), 2**70), st.integers(0, 2**40), st.sampled_from(sorted(OBJECTS)))
def test_every_scene_has_as_many_visible_objects_as_its_split_allows(seed, number, split):
    scene = make_scene(seed, split, number, OBJECTS[split])
    assert OBJECTS[split][0] <= len(scene.things) <= OBJECTS[split][1]
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


def test_an_impossible_number_of_objects_is_refused():
    with pytest.raises(RuntimeError, match="No layout was found"):
        make_scene(0, "train", 0, (40, 40))
