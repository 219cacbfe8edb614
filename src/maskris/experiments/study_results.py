"""`StudyResults`: variants trained with several seeds, beside each other and beside what the paper says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskris.evaluation.bootstrap import Interval, SeedScores, paired_intervals
from maskris.evaluation.result import Evaluation

METRICS = ("mIoU", "oIoU")

DONE = "done.json"
"""In the folder of a run that has come to its end: steps, seconds and parameters."""


@dataclass(frozen=True)
class Run:
    """One variant trained with one seed.

    Attributes:
        variant: Its name.
        seed: Of the training.
        evaluations: By share of the picture that was hidden.
        done: Steps, seconds and parameters of the training.
    """

    variant: str
    seed: int
    evaluations: Mapping[float, Evaluation]
    done: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell(SeedScores):
    """One variant under one condition.

    Attributes:
        difference: To the rival, with its 95 % interval over images; ``None`` for the rival itself, or where they have
            no seed in common.
        by_seed: The difference of every seed that both have, fractions. Twins of one seed begin with the same weights
            and see the same batches.
    """

    difference: Interval | None = None
    by_seed: tuple[float, ...] = ()

    @property
    def sign(self) -> int:
        """1 or -1 where the interval over images and all seeds agree that there is a difference, otherwise 0."""
        if self.difference is None or self.difference.value is None or self.difference.contains(0):
            return 0
        signs = {(value > 0) - (value < 0) for value in self.by_seed}
        return signs.pop() if len(signs) == 1 else 0


@dataclass(frozen=True)
class StudyResults:
    """What a study found.

    Attributes:
        title: Of the study.
        about: What it asks, as Markdown.
        baseline: The variant that the others are compared with.
        occlusion: Shares of the picture that were hidden.
        runs: All that are complete.
        paper: Numbers of the paper by variant, in per cent.
        source: Which table of the paper, and which metric.
        against: Variants that are compared with another one than the baseline.
        same_compute: Variants with the one that costs as much to train, for a second comparison.
    """

    title: str
    about: str
    baseline: str
    occlusion: Sequence[float]
    runs: Sequence[Run]
    paper: Mapping[str, float]
    source: Mapping[str, str]
    against: Mapping[str, str] = field(default_factory=dict)
    same_compute: Mapping[str, str] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """All that any variant was trained with."""
        return sorted({run.seed for run in self.runs})

    @property
    def variants(self) -> list[str]:
        """Names of the variants that have a complete run."""
        return list(dict.fromkeys(run.variant for run in self.runs))

    def cell(self, variant: str, hidden: float, metric: str, rival: str | None = None) -> Cell:
        """A metric of one variant.

        Args:
            variant: Its name.
            hidden: Share of the picture that was hidden.
            metric: ``"mIoU"`` or ``"oIoU"``.
            rival: What it is compared with; by default what the study says.
        """
        rival = rival or self.rival(variant)
        own, base = (self._by_seed(name, hidden) for name in (variant, rival))
        common = [seed for seed in own if seed in base]
        values = tuple(evaluation.metrics[metric] for evaluation in own.values())
        if variant == rival or not common:
            return Cell(values)
        pairs = [own[seed] for seed in common], [base[seed] for seed in common]
        by_seed = tuple(a.metrics[metric] - b.metrics[metric] for a, b in zip(*pairs, strict=True))
        return Cell(values, paired_intervals(*pairs, [metric])[metric], by_seed)

    def kind_cell(self, variant: str, hidden: float, metric: str, kind: str) -> Cell:
        """The same for the expressions of one kind, without a difference."""
        groups = [e.breakdown("kind")[kind].flat()[metric] for e in self._by_seed(variant, hidden).values()]
        return Cell(tuple(groups))

    def _by_seed(self, variant: str, hidden: float) -> dict[int, Evaluation]:
        return {run.seed: run.evaluations[hidden] for run in self.runs if run.variant == variant}

    def rival(self, variant: str) -> str:
        """What a variant is compared with."""
        return self.against.get(variant, self.baseline)

    def kinds(self) -> list[str]:
        """Kinds of expressions, if the data tell more than one."""
        found = self.runs[0].evaluations[self.occlusion[0]].breakdown("kind") if self.runs else {}
        return list(found) if len(found) > 1 else []

    def direction(self, variant: str, metric: str) -> str:
        """Whether the clean difference has the sign that the paper reports; undecided where seeds disagree on it."""
        paper, sign = self.paper_difference(variant), self.cell(variant, self.occlusion[0], metric).sign
        if paper is None:
            return ""
        return ("same" if (sign > 0) == (paper > 0) else "opposite") if sign else "undecided"

    def paper_difference(self, variant: str) -> float | None:
        """What the paper reports as the difference to the same rival, in points; ``None`` where it has none."""
        if variant in self.paper and self.rival(variant) in self.paper and variant != self.rival(variant):
            return self.paper[variant] - self.paper[self.rival(variant)]
        return None


def load_study(
    folder: Path, *, title: str, about: str, baseline: str, occlusion: Sequence[float],
    folders: Mapping[str, str], paper: Mapping[str, float], source: Mapping[str, str], against: Mapping[str, str],
    same_compute: Mapping[str, str],
) -> StudyResults:  # fmt: skip
    """Read what the runs of a study have written.

    Args:
        folder: Of the study, with ``runs/<variant>/seed-<n>/``.
        title: See `StudyResults`.
        about: See `StudyResults`.
        baseline: See `StudyResults`.
        occlusion: Shares that were hidden.
        folders: Name of each variant's folder, by its name.
        paper: See `StudyResults`.
        source: See `StudyResults`.
        against: See `StudyResults`.
        same_compute: See `StudyResults`.

    Raises:
        ValueError: If no run is complete.
    """
    runs = []
    for name, place in folders.items():
        for run in sorted((folder / "runs" / place).glob("seed-*[0-9]"), key=_seed):
            if is_complete(run, occlusion):
                rows = {share: Evaluation.load(rows_file(run, share)) for share in occlusion}
                runs.append(Run(name, _seed(run), rows, json.loads((run / DONE).read_text(encoding="utf-8"))))
    if not runs:
        raise ValueError(f"{folder / 'runs'} holds no complete run yet")
    if baseline not in {run.variant for run in runs}:
        raise ValueError(f"The baseline {baseline!r} has no complete run in {folder / 'runs'} yet")
    return StudyResults(title, about, baseline, tuple(occlusion), runs, paper, source, against, same_compute)


def _seed(run: Path) -> int:
    return int(run.name.removeprefix("seed-"))


def is_complete(run: Path, occlusion: Sequence[float]) -> bool:
    """Whether a run has come to its end and was evaluated with every share hidden."""
    return (run / DONE).is_file() and all(rows_file(run, share).is_file() for share in occlusion)


def rows_file(folder: Path, occlusion: float) -> Path:
    """Where the rows of a run's evaluation lie."""
    return folder / f"occlusion-{round(100 * occlusion):02d}.parquet"
