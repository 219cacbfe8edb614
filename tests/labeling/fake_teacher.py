"""A teacher that finds by their colors what phrases name, and notes what it was asked."""

import numpy as np
from color_model import COLORS

from maskris.labeling.teachers.base import Finding, Teacher


class ColorTeacher(Teacher):
    rule = "threshold:0.5"

    def __init__(self, scores=True, size=None, stop_after=None):
        self.scores, self.size, self.stop_after = scores, size, stop_after
        self.photos = []  # that it has seen
        self.queries = []

    @property
    def origin(self):
        return "colors 0123456789ab"

    def find(self, photos, queries):
        found = []
        for photo, some in zip(photos, queries, strict=True):
            if self.stop_after is not None and len(self.photos) >= self.stop_after:
                raise KeyboardInterrupt
            assert photo.mode == "RGB"
            self.photos.append(photo)
            self.queries.append(list(some))
            pixels = np.asarray(photo if self.size is None else photo.resize(self.size), dtype=np.float32) / 255
            found.append([self._finding(pixels, query.phrase) for query in some])
        return found

    def _finding(self, pixels, phrase):
        named = [i for i, color in enumerate(COLORS) if color in phrase]
        values = pixels[:, :, named].max(2) if named else np.zeros(pixels.shape[:2], dtype=np.float32)
        score = (float(values[values > 0.5].mean()) if (values > 0.5).any() else 0.0) if self.scores else None
        return Finding(values, score)
