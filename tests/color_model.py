"""A model that sees colors, and photos that it can read: what it must answer can be said without running it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from maskris.data.masks import encode
from maskris.data.preprocess import Preprocess
from maskris.data.table import ReferringTable
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.models.base import RISModel
from maskris.models.encoders.sources import build_tokenizer

COLORS = ("red", "green", "blue")
WORDS = [*COLORS, "the", "one", "thing", "left", "of"]


class ColorModel(RISModel):
    """Marks the pixels where the named colors are bright, at full resolution; notes what it is asked to do."""

    def __init__(self, size=(24, 32), channels=2, resize="stretch"):
        super().__init__()
        self.preprocess = Preprocess(*size, resize=resize)
        self.tokenizer = ExpressionTokenizer(build_tokenizer(list(WORDS)), 10)
        self.channels = channels
        self.scale = nn.Parameter(torch.tensor(8.0))
        self.dropout = nn.Dropout(0.9)  # wrecks every result unless evaluation mode is on
        self.encoded = 0  # images
        self.portions = []  # of expressions

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


def make_table(folder, seed=0, images=5, splits=("val",), empty_every=0):
    """Photos of different sizes with a soft rectangle per color; the annotations are a little off the drawing."""
    rng = np.random.default_rng(seed)
    rows, ref_id = [], 100
    for i in range(images):
        height, width = (int(n) for n in rng.integers(30, 70, 2))
        photo = rng.integers(0, 70, (height, width, 3)).astype(np.uint8)
        boxes = []
        for channel in range(3):
            y, x = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
            h, w = int(rng.integers(8, height // 2)), int(rng.integers(8, width // 2))
            photo[y : y + h, x : x + w, channel] = 240
            boxes.append((y, x, h, w))
        name = f"photo{i}.png"
        Image.fromarray(photo).save(folder / name)
        for channel in range(int(rng.integers(1, 4))):
            y, x, h, w = boxes[channel]
            mask = np.zeros((height, width), dtype=bool)
            empty = bool(empty_every) and ref_id % empty_every == 0
            if not empty:
                mask[y : y + h, x + 2 : x + w + 1] = True
            color = COLORS[channel]
            texts = [color, f"the {color} one", f"the {color} thing left of the one"][: int(rng.integers(1, 4))]
            rows.append(
                {
                    "dataset": "toy", "split_by": "unc", "split": splits[i % len(splits)], "image_id": 10 * i + 3,
                    "ref_id": ref_id, "ann_ids": [] if empty else [ref_id], "ann_id": -1 if empty else ref_id,
                    "category": "shape" if channel else "square", "image": name, "height": height, "width": width,
                    "expressions": texts, "kinds": ["color", "relation", "relation"][: len(texts)],
                    "mask": encode(mask), "mask_source": "annotated",
                    "box": [0.0] * 4 if empty else [x + 2, y, w - 1, h], "area": int(mask.sum()),
                    "source": "toy.json", "source_sha256": "0" * 64,
                }
            )  # fmt: skip
            ref_id += 1
    return ReferringTable.from_rows(rows, folder)


@pytest.fixture
def table(tmp_path):
    return make_table(tmp_path, splits=("val", "testA"))


@pytest.fixture
def model():
    return ColorModel()


@pytest.fixture(scope="session")
def color_model():
    return ColorModel


@pytest.fixture
def toy_table():
    return make_table
