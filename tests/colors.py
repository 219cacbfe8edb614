"""A model of a user's own that finds colors by their names: what it must answer can be said without running it."""

import torch
from torch import nn

from maskris.models.base import RISModel
from maskris.models.encoders.sources import build_tokenizer

COLORS = ("red", "green", "blue")


class ColorWords(RISModel):
    """Marks the pixels whose named channels exceed the others; the more, the surer it is.

    A pixel with named channels at `v` and the others at 0 has the probability ``sigmoid(16 (v - 0.5))``.
    """

    def __init__(self, tokenizer=None, max_tokens=8, preprocess=None):
        super().__init__()
        words = build_tokenizer(tokenizer or [*COLORS, "the", "and", "square"])
        self.set_inputs(preprocess or {"height": 64, "width": 64}, words, max_tokens)
        self.scale = nn.Parameter(torch.tensor(16.0))
        self.encoded, self.asked = 0, 0  # how often each half of the network ran
        self.set_config()

    def encode_image(self, images):
        self.encoded += 1
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (self.preprocess.mean, self.preprocess.std))
        return images * std + mean

    def segment(self, features, input_ids, attention_mask, image_index):
        self.asked += 1
        ids = [self.tokenizer.tokenizer.convert_tokens_to_ids(color) for color in COLORS]
        named = torch.stack([(input_ids == i).any(1) for i in ids], 1)[:, :, None, None]  # [N, 3, 1, 1]
        pixels = features[image_index]
        inside = pixels.masked_fill(~named, 0).amax(1) - pixels.masked_fill(named, 0).amax(1)
        return self.scale * (inside - 0.5)[:, None]

    def parameter_groups(self, lr, weight_decay):
        return [{"name": "all", "params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]
