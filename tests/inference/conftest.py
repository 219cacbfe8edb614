"""Painted photos for the model that finds colors by name."""

import numpy as np
import pytest
from color_model import COLORS, color_model, model  # noqa: F401 (fixtures)
from PIL import Image

from maskris.inference.predictor import Predictor


def paint(height, width, **rectangles):
    """A black photo with rectangles ``color=(top, left, bottom, right)``."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for color, (top, left, bottom, right) in rectangles.items():
        pixels[top:bottom, left:right, COLORS.index(color)] = 255
    return pixels


@pytest.fixture
def predictor(model):  # noqa: F811 (the fixture)
    return Predictor(model)


@pytest.fixture(scope="session")
def painted():
    return paint


@pytest.fixture
def photo(tmp_path):
    """A photo on disk, 48 x 64, red at the left and blue at the right."""
    path = tmp_path / "scene.png"
    Image.fromarray(paint(48, 64, red=(8, 4, 40, 28), blue=(8, 36, 40, 60))).save(path)
    return path
