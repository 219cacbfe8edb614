"""`StudyResults`: variants trained with several seeds, beside each other and beside the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskris.evaluation.bootstrap import Interval, SeedScores, paired_intervals
from maskris.evaluation.result import Evaluation
from maskris.experiments.study import Study, Variant
from maskris.utils.files import read_json

DONE = "done.json"
"""In the folder of a run that has come to its end: steps, seconds and parameters."""


@dataclass(frozen=True)
class Run:
    """One variant trained with one seed.

    Attributes:
        variant: Its name.
        seed: Of the training.
        evaluations: By share of the image that was hidden.
        done: Steps, seconds and parameters of the training.
    """

    variant: str
    seed: int
    evaluations: Mapping[float, Evaluation]
    done: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison(SeedScores):
    """One variant under one condition, compared with its reference.

    Attributes:
        difference: To the reference, with its 95 % interval over images; ``None`` for the reference itself, or where
            they have no seed in common.
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
        study: What is compared.
        runs: All that are complete.
    """

    study: Study
    runs: Sequence[Run]

    @property
    def seeds(self) -> list[int]:
        """All that any variant was trained with."""
        return sorted({run.seed for run in self.runs})

    @property
    def variants(self) -> list[str]:
        """Names of the variants that have a complete run."""
        return list(dict.fromkeys(run.variant for run in self.runs))

    def compare(self, variant: str, hidden: float, metric: str, reference: str | None = None) -> Comparison:
        """A metric of one variant.

        Args:
            variant: Its name.
            hidden: Share of the image that was hidden.
            metric: ``"mIoU"`` or ``"oIoU"``.
            reference: What it is compared with; by default as in the study.
        """
        reference = reference or self.study.reference(variant)
        own, base = (self._by_seed(name, hidden) for name in (variant, reference))
        common = [seed for seed in own if seed in base]
        values = tuple(evaluation.metrics[metric] for evaluation in own.values())
        if variant == reference or not common:
            return Comparison(values)
        pairs = [own[seed] for seed in common], [base[seed] for seed in common]
        by_seed = tuple(a.metrics[metric] - b.metrics[metric] for a, b in zip(*pairs, strict=True))
        return Comparison(values, paired_intervals(*pairs, [metric])[metric], by_seed)

    def of_kind(self, variant: str, hidden: float, metric: str, kind: str) -> SeedScores:
        """A metric of one variant over the expressions of one kind."""
        groups = [e.breakdown("kind")[kind].flat()[metric] for e in self._by_seed(variant, hidden).values()]
        return SeedScores(tuple(groups))

    def _by_seed(self, variant: str, hidden: float) -> dict[int, Evaluation]:
        return {run.seed: run.evaluations[hidden] for run in self.runs if run.variant == variant}

    def kinds(self) -> list[str]:
        """Kinds of expressions, if there are several in the data."""
        found = self.runs[0].evaluations[self.study.occlusion[0]].breakdown("kind") if self.runs else {}
        return list(found) if len(found) > 1 else []

    def direction(self, variant: str, metric: str) -> str:
        """Whether the clean difference has the sign that the paper reports; undecided where seeds disagree on it."""
        paper = self.study.paper_difference(variant)
        if paper is None:
            return ""
        sign = self.compare(variant, self.study.occlusion[0], metric).sign
        return ("same" if (sign > 0) == (paper > 0) else "opposite") if sign else "undecided"


def load_study(study: Study, folder: Path) -> StudyResults:
    """Read what the runs of a study have written.

    Args:
        study: What is compared; runs of other variants in the folder are left out.
        folder: With ``runs/<variant>/seed-<n>/``.

    Raises:
        ValueError: If no run is complete, or none of the baseline.
    """
    runs = []
    for variant in study.variants:
        found = (folder / "runs" / variant.folder).glob("seed-*[0-9]")
        for seed in sorted(int(run.name.removeprefix("seed-")) for run in found):
            run = run_folder(folder, variant, seed)
            if is_complete(run, study.occlusion):
                rows = {share: Evaluation.load(rows_file(run, share)) for share in study.occlusion}
                runs.append(Run(variant.name, seed, rows, read_json(run / DONE)))
    if not runs:
        raise ValueError(f"{folder / 'runs'} holds no complete run yet")
    if study.baseline not in {run.variant for run in runs}:
        raise ValueError(f"The baseline {study.baseline!r} has no complete run in {folder / 'runs'} yet")
    return StudyResults(study, runs)


def run_folder(folder: Path, variant: Variant, seed: int) -> Path:
    """The folder in which a variant is trained with a seed."""
    return folder / "runs" / variant.folder / f"seed-{seed}"


def is_complete(run: Path, occlusion: Sequence[float]) -> bool:
    """Whether a run has come to its end and was evaluated with every share hidden."""
    return (run / DONE).is_file() and all(rows_file(run, share).is_file() for share in occlusion)


def rows_file(run: Path, occlusion: float) -> Path:
    """The rows of a run's evaluation with a share of the image hidden."""
    return run / f"occlusion-{round(100 * occlusion):02d}.parquet"
