"""A model that finds colors by name: what it must answer can be said without running it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from maskris.data.preprocess import Preprocess
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.inference.predictor import Predictor
from maskris.models.base import RISModel
from maskris.models.encoders.sources import build_tokenizer

COLORS = ("red", "green", "blue")
WORDS = [*COLORS, "the", "one", "thing", "left", "of"]


class ColorModel(RISModel):
    """Marks the pixels where the named colors are bright; counts what it is asked to do."""

    def __init__(self, size=(24, 32), channels=2, resize="stretch"):
        super().__init__()
        self.preprocess = Preprocess(*size, resize=resize)
        self.tokenizer = ExpressionTokenizer(build_tokenizer(list(WORDS)), 10)
        self.channels = channels
        self.scale = nn.Parameter(torch.tensor(8.0))
        self.dropout = nn.Dropout(0.9)  # wrecks every result unless evaluation mode is on
        self.encoded = 0
        self.portions = []

    def encode_image(self, images):
        self.encoded += len(images)
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (self.preprocess.mean, self.preprocess.std))
        return {"pixels": self.dropout(images * std + mean)}

    def segment(self, features, input_ids, attention_mask, image_index):
        self.portions.append(len(input_ids))
        ids = [self.tokenizer.tokenizer.convert_tokens_to_ids(color) for color in COLORS]
        named = torch.stack([(input_ids == i).any(1) for i in ids], 1)  # [N, 3]
        brightness = torch.einsum("nc,nchw->nhw", named.float(), features["pixels"][image_index])
        logit = self.scale * (brightness - 0.5)
        return torch.stack([-logit / 2, logit / 2] if self.channels == 2 else [logit], 1)

    def parameter_groups(self, lr, weight_decay):
        return [{"name": "all", "params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]


def paint(height, width, **rectangles):
    """A black photo with rectangles ``color=(top, left, bottom, right)``."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    for color, (top, left, bottom, right) in rectangles.items():
        pixels[top:bottom, left:right, COLORS.index(color)] = 255
    return pixels


@pytest.fixture(scope="session")
def color_model():
    return ColorModel


@pytest.fixture
def model():
    return ColorModel()


@pytest.fixture
def predictor(model):
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
