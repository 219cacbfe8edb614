import base64
import json

import numpy as np
import pytest
from hub_world import MASK, picture_bytes, rle
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from maskris.data import masks
from maskris.data.mask_forms import is_one_polygon, segmentation_of

BITMAPS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12))
PALETTE = [0, 0, 0, 128, 0, 0] + [0] * 762


def counts_of(mask):
    flat = mask.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


FORMS = {
    "run lengths": rle,
    "uncompressed run lengths": lambda m: {"size": list(m.shape), "counts": counts_of(m)},
    "list of run lengths": lambda m: [rle(m & False), rle(m)],
    "annotation": lambda m: {"segmentation": rle(m), "area": 3, "iscrowd": 1},
    "text": lambda m: json.dumps(rle(m)),
    "annotation as text": lambda m: json.dumps({"segmentation": rle(m), "bbox": [0, 0, 1, 1]}),
    "rows of bool": lambda m: m.tolist(),
    "rows of numbers": lambda m: m.astype(int).tolist(),
    "rows of 255": lambda m: (m * 255).tolist(),
    "rows of floats": lambda m: m.astype(float).tolist(),
    "rows as text": lambda m: json.dumps(m.astype(int).tolist()),
    "array": lambda m: m,
    "array of bytes": lambda m: m.astype(np.uint8) * 7,
    "array with a channel": lambda m: m[None].astype(np.uint8),
    "array with a channel behind": lambda m: m[..., None].astype(np.int64),
    "PNG": lambda m: picture_bytes(m.astype(np.uint8) * 255),
    "PNG of ones": lambda m: picture_bytes(m.astype(np.uint8)),
    "PNG of bits": lambda m: {"bytes": picture_bytes(m), "path": None},
    "PNG in color": lambda m: picture_bytes(np.stack([m * 0, m * 9, m * 0], axis=2).astype(np.uint8)),
    "TIFF of int32": lambda m: {"bytes": picture_bytes(m.astype(np.int32) * 300, "TIFF"), "path": "a.tif"},
    "TIFF of uint16": lambda m: picture_bytes(m.astype(np.uint16) * 256, "TIFF"),
    "TIFF of floats": lambda m: picture_bytes(m.astype(np.float32), "TIFF"),
    "TIFF with a palette": lambda m: picture_bytes(m.astype(np.uint8), "TIFF", PALETTE),
    "TIFF as base64": lambda m: base64.b64encode(picture_bytes(m, "TIFF")).decode(),
    "PNG with a palette": lambda m: picture_bytes(m.astype(np.uint8), "PNG", PALETTE),
}


def decoded(value, size):
    found = segmentation_of(value, size, load=None)
    return masks.decode(masks.from_segmentation(found, *size), *size)


@given(mask=BITMAPS, form=st.sampled_from(sorted(FORMS)), known=st.booleans())
def test_every_form_is_the_same_mask(mask, form, known):
    if "array with" in form and 2 in mask.shape:
        return  # two columns and one channel may be a polygon's points as well
    found = segmentation_of(FORMS[form](mask), mask.shape if known else None, load=None)
    assert np.array_equal(masks.decode(masks.from_segmentation(found, *mask.shape), *mask.shape), mask)


@given(
    polygons=st.lists(
        st.lists(st.tuples(st.floats(0, 64), st.floats(0, 48)), min_size=3, max_size=6), min_size=1, max_size=3
    )
)
def test_every_form_of_polygons_is_the_same_mask(polygons):
    flat = [[value for point in polygon for value in point] for polygon in polygons]
    assume(any(value > 1 for part in flat for value in part))  # or it may be a bitmap as well
    expected = masks.decode(masks.from_polygons(flat, 48, 64), 48, 64)
    pairs = [[list(point) for point in polygon] for polygon in polygons]
    for form in (flat, pairs, json.dumps(flat), {"segmentation": pairs}):
        assert np.array_equal(decoded(form, (48, 64)), expected)
    if len(polygons) == 1:
        for form in (flat[0], pairs[0], json.dumps(flat[0]), np.array(flat[0])):
            assert is_one_polygon(segmentation_of(form, (48, 64), load=None))
            assert np.array_equal(decoded(form, (48, 64)), expected)


def test_a_polygon_of_black_and_white_coordinates_is_no_bitmap():
    square = [[0, 0, 255, 0, 255, 255, 0, 255]]
    for size in (None, (300, 300)):
        assert segmentation_of(square, size, load=None) == square


@pytest.mark.parametrize("top", [1, 255])
def test_a_bitmap_of_another_size_is_no_polygon(top):
    bitmap = (MASK[:20, :30].astype(int) * top).tolist()
    assert segmentation_of(bitmap, (48, 64), load=None)["size"] == [20, 30]


def test_whatever_numbers_the_rows_of_a_bitmap_hold():
    assert np.array_equal(decoded((MASK * 7).tolist(), (48, 64)), MASK)


def test_a_mask_in_color_and_another_in_the_transparency():
    red = np.stack([MASK * 200, MASK * 0, MASK * 0, MASK * 90], axis=2).astype(np.uint8)
    assert np.array_equal(decoded(picture_bytes(red), (48, 64)), MASK)
    red[..., 0] = 200
    with pytest.raises(ValueError, match="one mask in its colors and another in its transparency"):
        decoded(picture_bytes(red), (48, 64))


def test_a_jpeg_is_cut_at_half_and_says_so():
    found = segmentation_of(picture_bytes(MASK.astype(np.uint8) * 255, "JPEG"), None, load=None)
    assert found["blurred"]
    inside = masks.decode(masks.from_segmentation(found, 48, 64), 48, 64)
    assert np.array_equal(inside, MASK)


def test_pictures_are_loaded_by_their_path():
    data = {"masks/a.png": picture_bytes(MASK)}
    for form in ("masks/a.png", {"bytes": None, "path": "masks/a.png"}):
        assert segmentation_of(form, None, data.__getitem__) == {"size": [48, 64], "counts": masks.encode(MASK)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"bytes": None, "path": None}, "keys bytes, path holds neither run lengths nor a picture"),
        ('{"size": [2', "damaged JSON"),
        ([[1, 2, "x"]], "no numbers"),
        ([[1, 2, 3], [[4]]], "different depth or no numbers"),
        (np.zeros((3, 4, 5)), r"shape \[3, 4, 5\]"),
        (7, "not 7"),
    ],
)
def test_anything_else_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        segmentation_of(value, (48, 64), load=None)
    with pytest.raises(ValueError, match="can't be decoded: cannot identify"):
        segmentation_of(b"no picture", None, load=None)
    with pytest.raises(KeyError):
        segmentation_of("iVBORw0KGgo/" + "a!" * 100, None, load={}.__getitem__)
