"""`Report`: everything that one page is made of, models with their evaluations first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from maskris.evaluation.bootstrap import Interval, Unit, bootstrap_intervals, paired_intervals
from maskris.evaluation.result import Evaluation, align
from maskris.robustness.results import RobustnessComparison
from maskris.training.run_record import RunRecord

Parts = Mapping[int, Evaluation]
"""Evaluations of the same expressions by the number of the model."""


@dataclass(frozen=True)
class Subject:
    """A model of the report.

    Attributes:
        name: Short; what tables and legends call it.
        record: Of its training.
        evaluation: One row per expression, if it was evaluated.
        rows_from: Where these rows come from.
        perturbed: Evaluations of the same expressions under perturbations of the input, by what was done to it.
    """

    name: str
    record: RunRecord
    evaluation: Evaluation | None = None
    rows_from: str = ""
    perturbed: Mapping[str, Evaluation] = field(default_factory=dict)


class Picture(NamedTuple):
    """A picture with its label and with a text for those who can't see it; of a prediction also its model and IoU."""

    label: str
    alt: str
    jpeg: bytes
    size: tuple[int, int]  # width and height in pixels
    model: int | None = None  # its number in the report
    iou: float | None = None


class Example(NamedTuple):
    """An expression with a note on where it comes from: photo, truth and predictions."""

    expression: str
    note: str
    pictures: Sequence[Picture]


class Gallery(NamedTuple):
    """Examples chosen by one criterion, which the caption names."""

    caption: str
    examples: Sequence[Example]


@dataclass(frozen=True)
class Report:
    """Models, their evaluations and pictures.

    Attributes:
        subjects: The models; the others are compared with the first one.
        galleries: Pictures of what they find.
        robustness: What `maskris robustness` measured, under the names of the models; not all need be in it.
        unit: What the intervals draw again, see `maskris.evaluation.bootstrap.bootstrap_intervals`.
        resamples: How often.

    Raises:
        ValueError: If there is no model, two have one name, the robustness is that of others, or their rows are not of
            the same expressions under one protocol.
    """

    subjects: Sequence[Subject]
    galleries: Sequence[Gallery] = ()
    robustness: RobustnessComparison | None = None
    unit: Unit = "image"
    resamples: int = 2000

    def __post_init__(self) -> None:
        """Check what the tables rely on."""
        names = self.names
        if not names:
            raise ValueError("A report needs at least one model")
        if len(set(names)) < len(names):
            raise ValueError(f"Two models of a report can't have the same name: {', '.join(names)}")
        if self.robustness and (unknown := [name for name in self.robustness.methods if name not in names]):
            raise ValueError(f"The robustness of {', '.join(unknown)} is no part of a report on {listed(names)}")
        if empty := [names[i] for i, one in self.evaluations.items() if not len(one)]:
            raise ValueError(f"The evaluation of {empty[0]} holds no expression, so there is nothing to report on")

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [subject.name for subject in self.subjects]

    @cached_property
    def evaluations(self) -> Parts:
        """By the number of the model, the rows of all in one order."""
        known = {i: one.evaluation for i, one in enumerate(self.subjects) if one.evaluation is not None}
        return dict(zip(known, align(list(known.values())), strict=True)) if known else {}

    def parts(self, by: str) -> dict[str, Parts]:
        """The evaluations by group of a breakdown, see `Evaluation.parts`."""
        found = {i: one.parts(by) for i, one in self.evaluations.items()}
        return {label: {i: parts[label] for i, parts in found.items()} for label in next(iter(found.values()))}

    def intervals(self, evaluation: Evaluation, metrics: Sequence[str] | None = None) -> dict[str, Interval]:
        """Of the metrics of one evaluation."""
        return bootstrap_intervals(evaluation, metrics, unit=self.unit, resamples=self.resamples)

    def differences(self, parts: Parts, metrics: Sequence[str] | None = None) -> Iterator[dict[str, Interval]]:
        """How all but the first evaluation differ from it."""
        ordered = list(parts.values())
        for other in ordered[1:]:
            yield paired_intervals(other, ordered[0], metrics, unit=self.unit, resamples=self.resamples)


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
