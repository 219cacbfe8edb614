"""`Teacher`: whatever tells where in a photo a phrase is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from maskris.data.masks import Box


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        phrase: The sentence.
        box: x, y, width and height in pixels of the upright photo, if somebody drew one.
    """

    phrase: str
    box: Box | None = None


@dataclass(frozen=True)
class Finding:
    """What a teacher says of one query.

    Attributes:
        map: ``[h, w]`` float32, at least 0 and finite, stretched over the whole upright photo at any size: higher where
            the referent is likelier. All zeros where nothing was found.
        score: In [0, 1], how sure the teacher is that it found the referent; ``None`` if it has no notion of that.
    """

    map: np.ndarray
    score: float | None = None


class Teacher(ABC):
    """A model that localizes or segments phrases, with its own preprocessing, batches and device.

    Attributes:
        rule: How its maps become masks if nothing else is asked for: ``"threshold:0.5"`` for probabilities and masks,
            ``"peak:0.5"`` (of the map's maximum) where only the order of values means something.
    """

    rule: str = "threshold:0.5"

    @property
    @abstractmethod
    def origin(self) -> str:
        """Its name and the first 12 digits of the hash of its weights, for `Referent.mask_origin`."""

    @abstractmethod
    def find(self, photos: Sequence[Image.Image], queries: Sequence[Sequence[Query]]) -> list[list[Finding]]:
        """One finding per query, in their order.

        Args:
            photos: Upright and RGB, whatever the files were; never paths, which processors read in their own ways.
            queries: At least one for each photo.
        """
