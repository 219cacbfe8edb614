import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco
from safetensors.numpy import load_file

from maskris.data import masks

planes = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=24))


@given(planes)
def test_run_lengths_keep_every_pixel(mask):
    counts = masks.encode(mask)
    assert np.array_equal(masks.decode(counts, *mask.shape), mask)
    assert masks.area_of(counts, *mask.shape) == mask.sum()
    assert masks.box_of_counts(counts, *mask.shape) == masks.box_of(mask)


@given(planes)
def test_compressed_and_uncompressed_counts_mean_the_same(mask):
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], pixels, [not pixels[-1]]])))
    runs = np.diff(np.concatenate([[0], edges])).tolist()
    compressed = masks.encode(mask)
    assert masks.from_counts(runs, *mask.shape) == compressed
    assert masks.from_counts(compressed, *mask.shape) == compressed
    assert masks.from_counts(compressed.decode(), *mask.shape) == compressed


@given(st.lists(st.integers(0, 3), min_size=1).filter(any))
def test_empty_runs_mean_nothing(runs):
    """pycocotools takes them, but its boxes and unions of such masks are wrong."""
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)[None]  # one row, so that columns follow each other
    assert masks.from_counts(runs, *pixels.shape) == masks.encode(pixels)


@given(planes, st.data())
def test_pixels_that_two_masks_share(first, data):
    second = data.draw(arrays(bool, first.shape))
    assert masks.shared_area(masks.encode(first), masks.encode(second), *first.shape) == (first & second).sum()


@given(st.binary(max_size=40) | st.text(max_size=40) | st.lists(st.integers(-5, 2**40), max_size=9))
def test_damaged_counts_are_refused_and_never_crash(counts):
    try:
        compressed = masks.from_counts(counts, 5, 7)
    except ValueError:
        return
    assert masks.decode(compressed, 5, 7).shape == (5, 7)


def polygons():
    return st.lists(
        st.lists(st.floats(-3, 30), min_size=6, max_size=16).map(lambda p: p[: len(p) // 2 * 2]), min_size=1
    )


@given(polygons())
def test_polygons_equal_the_union_of_pycocotools_bit_for_bit(parts):
    expected = coco.decode(coco.merge(coco.frPyObjects(parts, 20, 27)))
    assert np.array_equal(masks.decode(masks.from_segmentation(parts, 20, 27), 20, 27), expected)


def test_polygons_equal_the_golden_masks(shared):
    facts = json.loads((shared / "reference/maskris/extras.json").read_text())
    golden = load_file(shared / "reference/maskris/extras.safetensors")
    for number, parts in enumerate(facts["polygons"]):
        mask = masks.decode(masks.from_polygons(parts, *facts["polygon_size_hw"]), *facts["polygon_size_hw"])
        assert np.array_equal(mask, golden[f"polygon{number}.mask"] != 0)
        assert mask.sum() == facts[f"polygon{number}.area"]


def test_several_run_lengths_are_united():
    left, right = np.zeros((2, 4, 5), bool)
    left[:, :2] = right[1, :] = True
    rles = [{"size": [4, 5], "counts": masks.encode(mask)} for mask in (left, right)]
    assert np.array_equal(masks.decode(masks.from_segmentation(rles, 4, 5), 4, 5), left | right)
    assert masks.area_of(masks.union([], 4, 5), 4, 5) == 0
    assert masks.box_of(left) == (0, 0, 2, 4)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "is empty"),
        ([[]], "3 points"),
        ([[1, 2, 3, 4]], "3 points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "not finite"),
        ([[1, 2, 3, 4, 5, 1e12]], "absurdly large"),
        ([[1, 2, 3, 4, 5, "6"]], "list of numbers"),
        ("abc", "list of polygons or an RLE"),
        (None, "list of polygons or an RLE"),
        ({"counts": [20]}, "size and counts"),
        ({"size": [5, 4], "counts": [20]}, r"the image has \[4, 5\]"),
        ({"size": [4, 5], "counts": [19]}, "cover 19 pixels"),
        ({"size": [4, 5], "counts": 19}, "a list or a string"),
        ({"size": [4, 5], "counts": "0"}, "cover 0 pixels"),
        ({"size": [4, 5], "counts": "P"}, "cut off"),
    ],
)
def test_bad_segmentations_say_what_is_wrong(segmentation, message):
    with pytest.raises(ValueError, match=message):
        masks.from_segmentation(segmentation, 4, 5)


def test_polygons_that_are_not_those_of_the_image():
    assert masks.misplaced([[0, 0, 12, 0, 10, 7]], 5, 10) == "", "COCO's own overstep the border by rounding"
    assert masks.misplaced([[0, 0, 10, 0, 10, 5], [1, -1.5, 13, 2, 3, 3]], 5, 10).startswith("a polygon reaches 3.0 px")
    assert "no shares of the sides" in masks.misplaced([[0.1, 0.1, 0.9, 0.1, 0.5, 1]], 5, 10)
    assert masks.misplaced([0, 0, 1, 0, 1, 1], 1, 10) == "", "one pixel is all that there is"
    assert masks.misplaced({"size": [5, 10], "counts": [50]}, 5, 10) == ""
