import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageOps

from maskris.data.masks import box_of, decode, encode
from maskris.data.orientation import exif_orientation, turn_box, turn_mask, turn_upright

PLANES = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=6))


@given(plane=PLANES, orientation=st.integers(1, 8))
def test_masks_and_photos_turn_as_pil_turns_them_and_back(plane, orientation):
    picture = Image.fromarray(plane)
    picture.getexif()[0x112] = orientation
    assert exif_orientation(picture) == orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    upright = turn_upright(picture, orientation)
    assert np.array_equal(np.asarray(upright), expected)
    counts, *size = turn_mask(encode(plane), *plane.shape, orientation)
    assert np.array_equal(decode(counts, *size), expected)
    assert turn_mask(counts, *size, orientation, back=True) == (encode(plane), *plane.shape)


@given(plane=PLANES.filter(np.any), orientation=st.integers(1, 8))
def test_boxes_turn_with_their_masks(plane, orientation):
    upright = decode(*turn_mask(encode(plane), *plane.shape, orientation))
    assert turn_box(box_of(plane), *plane.shape, orientation) == box_of(upright)


@pytest.mark.parametrize("number", [0, 9, "6"])
def test_numbers_that_are_no_orientation(number):
    picture = Image.fromarray(np.eye(4, dtype=bool))
    picture.getexif()[0x112] = number
    assert exif_orientation(picture) == 1
    with pytest.raises(ValueError, match="from 1 to 8, not"):
        turn_mask(encode(np.eye(4)), 4, 4, number)
    with pytest.raises(ValueError, match="from 1 to 8, not"):
        turn_box((0, 0, 1, 1), 4, 4, number)
