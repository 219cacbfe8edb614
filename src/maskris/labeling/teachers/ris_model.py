"""`RISModelTeacher`: any model of this package as a teacher."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskris.labeling.teachers.base import Finding, Query, Teacher
from maskris.models.base import RISModel, evaluation_mode, foreground_logit, weights_sha256
from maskris.models.folder import called
from maskris.models.loading import load_model
from maskris.utils.process import fastest_device

_MOST_PIXELS = 1_000_000  # of a map: a phone's photo at its whole size would take 50 MB for each expression


class RISModelTeacher(Teacher):
    """A trained network of any kind: segmentation of phrases, or a localizer that learned from phrases alone.

    Of segmentation models maps are probabilities and the score is the mean probability of what is above 0.5. Of models
    with `RISModel.output` of ``"score"`` maps are the positive part of their scores, and nothing is known of how sure
    they are.

    Args:
        model: A model, or where `load_model` finds one.
        device: The fastest by default; a model that is given stays where it is.
        batch_size: Most expressions at once.
        name: What `origin` calls it; by default where it was found, without the folders above it.

    Raises:
        FileNotFoundError: If there is no model.
        ValueError: If `batch_size` is not positive, or as `load_model`.
    """

    def __init__(
        self, model: RISModel | str | Path, *, device: str | None = None, batch_size: int = 32, name: str | None = None
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if isinstance(model, RISModel):
            self.model = model if device is None else model.to(device)
            self.name = name or type(model).__name__
        else:
            self.model = load_model(model).to(device or fastest_device())
            self.name = name or called(model)
        self.batch_size = batch_size
        self.unbounded = self.model.output == "score"
        self.rule = "peak:0.5" if self.unbounded else "threshold:0.5"
        self._sha256 = weights_sha256(self.model)

    @property
    def origin(self) -> str:
        """Name and hash of the weights, such as ``"caris-refcoco-combined 0123456789ab"``."""
        return f"{self.name} {self._sha256[:12]}"

    @torch.inference_mode()
    def find(self, photos: Sequence[Image.Image], queries: Sequence[Sequence[Query]]) -> list[list[Finding]]:
        """See `Teacher.find`; photos are encoded together, expressions in portions of `batch_size`."""
        model, device = self.model, next(self.model.parameters()).device
        phrases = [query.phrase for some in queries for query in some]
        index = [i for i, some in enumerate(queries) for _ in some]
        with evaluation_mode(model):
            pixels = torch.stack([model.preprocess.image(photo) for photo in photos]).to(device)  # [I, 3, H, W]
            features = model.encode_image(model.preprocess.normalize(pixels))
            found = []
            for start in range(0, len(phrases), self.batch_size):
                portion = np.s_[start : start + self.batch_size]
                tokens = model.tokenizer(phrases[portion])
                ids, attention = tokens.input_ids.to(device), tokens.attention_mask.to(device)
                logits = model.segment(features, ids, attention, torch.tensor(index[portion], device=device))
                maps = model.upsample(foreground_logit(logits.float())[:, None], model.preprocess.size)[:, 0]
                maps = maps.relu() if self.unbounded else maps.sigmoid()  # [n, H, W]
                found += [self._finding(one, photos[i]) for one, i in zip(maps, index[portion], strict=True)]
        rest = iter(found)
        return [[next(rest) for _ in some] for some in queries]

    def _finding(self, one: Tensor, photo: Image.Image) -> Finding:
        """A map ``[H, W]`` at the model's input size; what a letterbox added around the photo is cut off."""
        if self.model.preprocess.resize != "stretch":
            scale = min(1.0, sqrt(_MOST_PIXELS / (photo.width * photo.height)))
            size = max(1, round(photo.height * scale)), max(1, round(photo.width * scale))
            # It cuts to [0, 1], which are no bounds of scores.
            top = one.max().clamp(min=1.0)
            one = self.model.preprocess.restore(one[None] / top, size)[0] * top
        values = one.cpu().numpy().copy()  # no view that would keep the whole portion
        if self.unbounded:
            return Finding(values)
        inside = values > 0.5
        # Digits after the sixth depend on the batch.
        score = round(float(values[inside].mean(dtype=np.float64)), 6) if inside.any() else 0.0
        return Finding(values, score)
