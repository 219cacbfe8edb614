"""`LabelReport`: what became of the referents that were to get a mask, as plain data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

TINY, FULL = 0.001, 0.9
"""Shares of the photo below and above which a mask is more likely a mistake than an object."""

Quartiles = tuple[float, float, float]
Outcome = Literal["labeled", "nothing", "unsure"]


@dataclass(frozen=True)
class Label:
    """One referent.

    Attributes:
        row: Of the table that was labeled.
        place: Its row in the new table; ``None`` where it was left out.
        split: Its split.
        outcome: ``"labeled"``; ``"nothing"``: the rule took no pixel; ``"unsure"``: the score was too low.
        share: Of the photo that the mask covers, in [0, 1].
        score: How sure the teacher was, in [0, 1]; ``None`` if it doesn't say.
    """

    row: int
    place: int | None
    split: str
    outcome: Outcome
    share: float
    score: float | None


@dataclass(frozen=True)
class SplitLabels:
    """The referents of one split.

    Attributes:
        split: Its name.
        referents: All that were to get a mask.
        labeled: Those that got one.
        nothing: Those in whose photo nothing was found.
        unsure: Those of which the teacher was less sure than was asked for.
        tiny: Masks below `TINY` of the photo.
        full: Masks above `FULL` of the photo.
        areas: Quartiles of the shares that masks cover; ``None`` without masks.
        scores: Quartiles of the scores of masks; ``None`` where there are none.
    """

    split: str
    referents: int
    labeled: int
    nothing: int
    unsure: int
    tiny: int
    full: int
    areas: Quartiles | None
    scores: Quartiles | None

    @property
    def coverage(self) -> float:
        """Share of the referents that got a mask."""
        return self.labeled / self.referents if self.referents else 0.0


@dataclass(frozen=True)
class LabelReport:
    """What `label_table` did.

    Attributes:
        out: The new table.
        origin: Which teacher, selection and rule made the masks: `Referent.mask_origin` of the new rows.
        labels: All referents that were to get a mask, in the order of the table.
        kept: Whether those without a mask are in the new table.
        others: Rows of other splits, which are in the new table as they were.
    """

    out: Path
    origin: str
    labels: Sequence[Label]
    kept: bool
    others: int

    @property
    def splits(self) -> list[SplitLabels]:
        """By split, in the order of the table."""
        names = dict.fromkeys(label.split for label in self.labels)
        return [_summary(name, [label for label in self.labels if label.split == name]) for name in names]


def _summary(split: str, labels: Sequence[Label]) -> SplitLabels:
    made = [label for label in labels if label.outcome == "labeled"]
    return SplitLabels(
        split,
        referents=len(labels),
        labeled=len(made),
        nothing=sum(label.outcome == "nothing" for label in labels),
        unsure=sum(label.outcome == "unsure" for label in labels),
        tiny=sum(label.share < TINY for label in made),
        full=sum(label.share > FULL for label in made),
        areas=_quartiles(label.share for label in made),
        scores=_quartiles(label.score for label in made if label.score is not None),
    )


def _quartiles(values: Iterable[float]) -> Quartiles | None:
    known = list(values)
    if not known:
        return None
    first, median, third = np.quantile(known, (0.25, 0.5, 0.75)).tolist()
    return first, median, third
