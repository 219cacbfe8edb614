"""`PhotoLabeler`: the masks of all referents of some photos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskris.data.masks import Box, area_of, encode
from maskris.data.orientation import turn_box, turn_mask
from maskris.inference.image import load_image, orientation_of
from maskris.labeling.refine.rules import Rule
from maskris.labeling.refine.superpixels import average, divide
from maskris.labeling.select import Map, ResponseMapScorer, Selection, resize, select_map
from maskris.labeling.teachers.base import Finding, Query, Teacher


class Wanted(NamedTuple):
    """A referent that is to get a mask."""

    row: int  # of the table
    expressions: Sequence[str]
    box: Box | None  # in the pixels of the photo's file, if somebody drew one


class PhotoRows(NamedTuple):
    """A photo and its referents."""

    path: Path
    height: int  # of the pixels in its file
    width: int
    referents: Sequence[Wanted]


class Made(NamedTuple):
    """The mask of a referent."""

    row: int
    mask: bytes  # compressed counts, in the pixels of the photo's file
    area: int
    score: float | None


@dataclass(frozen=True)
class PhotoLabeler:
    """The way from photos and expressions to masks.

    Attributes:
        teacher: Makes the maps.
        selection: Makes one of several.
        rule: Makes a mask of it.
        superpixels: Average the map over about so many first; 0 for none.
        judge: For the selection ``"prms"``.
    """

    teacher: Teacher
    selection: Selection
    rule: Rule
    superpixels: int = 0
    judge: ResponseMapScorer | None = None

    @property
    def origin(self) -> str:
        """Teacher, selection and rule in one line."""
        selection = f"{self.selection} by {self.judge.origin}" if self.judge else self.selection
        rule = f"{self.superpixels} superpixels, {self.rule}" if self.superpixels else str(self.rule)
        return "; ".join([self.teacher.origin, selection, rule])

    def label(self, some: Sequence[PhotoRows]) -> list[Made]:
        """The masks of all referents of some photos, which the teacher gets together.

        Raises:
            OSError: If a photo can't be read.
            ValueError: If a photo is of another size than its rows say, or the teacher breaks its contract.
        """
        photos = [load_image(one.path) for one in some]
        turns = [orientation_of(one.path) for one in some]
        queries = [_queries(one, turn) for one, turn in zip(some, turns, strict=True)]
        for one, photo, turn in zip(some, photos, turns, strict=True):
            size = (photo.width, photo.height) if turn > 4 else (photo.height, photo.width)
            if size != (one.height, one.width):
                raise ValueError(
                    f"{one.path} has {size[0]} x {size[1]} pixels (height x width), but row {one.referents[0].row} of "
                    f"the table says {one.height} x {one.width}: run `maskris prepare` again"
                )
        found = self.teacher.find(photos, queries)
        _check(found, queries, self.teacher)
        made = []
        for one, photo, turn, findings in zip(some, photos, turns, found, strict=True):
            made += self._of_photo(one, photo, turn, findings)
        return made

    def _of_photo(self, one: PhotoRows, photo: Image.Image, turn: int, findings: Sequence[Finding]) -> list[Made]:
        regions = divide(photo, self.superpixels) if self.superpixels else None
        made, start = [], 0
        for referent in one.referents:
            own = findings[start : start + len(referent.expressions)]
            start += len(own)
            relative = self.teacher.rule.startswith("peak")
            chosen, score = select_map(own, self.selection, relative=relative, judge=self._judge(photo, referent))
            values = resize(chosen, photo.height, photo.width)
            mask = self.rule.mask(values if regions is None else average(values, regions))
            counts, height, width = turn_mask(encode(mask), photo.height, photo.width, turn, back=True)
            made.append(Made(referent.row, counts, area_of(counts, height, width), score))
        return made

    def _judge(self, photo: Image.Image, referent: Wanted) -> Callable[[Sequence[Map]], npt.NDArray[np.float64]] | None:
        judge = self.judge
        return None if judge is None else lambda maps: judge.scores(photo, maps, referent.expressions)


def _queries(one: PhotoRows, turn: int) -> list[Query]:
    boxes = [
        None if referent.box is None else turn_box(referent.box, one.height, one.width, turn)
        for referent in one.referents
    ]
    pairs = zip(one.referents, boxes, strict=True)
    return [Query(phrase, box) for referent, box in pairs for phrase in referent.expressions]


def _check(found: Sequence[Sequence[Finding]], queries: Sequence[Sequence[Query]], teacher: Teacher) -> None:
    """What every teacher promises; teachers are written by anybody."""
    name = type(teacher).__name__
    if [len(some) for some in found] != [len(some) for some in queries]:
        raise ValueError(
            f"{name}.find returned {[len(some) for some in found]} findings for {[len(some) for some in queries]} "
            "queries of as many photos"
        )
    for some, asked in zip(found, queries, strict=True):
        for one, query in zip(some, asked, strict=True):
            values = one.map
            if values.ndim != 2 or not values.size or not np.isfinite(values).all() or values.min() < 0:
                raise ValueError(
                    f"{name}.find returned no map for {query.phrase!r}: it must be [h, w], finite and at least 0, not "
                    f"{list(values.shape)} from {np.min(values, initial=np.inf):g} to {np.max(values, initial=0):g}"
                )
