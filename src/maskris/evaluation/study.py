"""`StudyResults`: variants trained with several seeds, beside each other and beside what the paper says."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from maskris.evaluation.bootstrap import Interval, paired_over_seeds
from maskris.evaluation.report import markdown_table
from maskris.evaluation.results import Evaluation
from maskris.evaluation.seeds import OverSeeds, difference_text

if TYPE_CHECKING:
    from rich.table import Table

METRICS = ("mIoU", "oIoU")
CLEAN = 0.0


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
class Cell(OverSeeds):
    """One variant under one condition.

    Attributes:
        difference: To the baseline, with its 95 % interval over images; ``None`` for the baseline itself, or where
            they have no seed in common.
    """

    difference: Interval | None

    def difference_text(self) -> str:
        """Difference to the baseline and its interval, in points; empty where there is none."""
        return "" if self.difference is None else difference_text(self.difference, missing="")


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
        difference = None
        if variant != rival and common:
            pairs = [own[seed] for seed in common], [base[seed] for seed in common]
            difference = paired_over_seeds(*pairs, metric, unit="image")
        return Cell(tuple(evaluation.metrics[metric] for evaluation in own.values()), difference)

    def kind_cell(self, variant: str, hidden: float, metric: str, kind: str) -> Cell:
        """The same for the expressions of one kind, without a difference."""
        groups = [e.breakdown("kind")[kind].flat()[metric] for e in self._by_seed(variant, hidden).values()]
        return Cell(tuple(groups), None)

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
        """Whether the clean difference to the baseline has the sign that the paper reports."""
        difference = self.cell(variant, self.occlusion[0], metric).difference
        rival = self.rival(variant)
        if variant not in self.paper or rival not in self.paper or difference is None:
            return ""
        if difference.value is None or difference.contains(0):
            return "undecided"
        return "same" if (difference.value > 0) == (self.paper[variant] > self.paper[rival]) else "opposite"

    def rows(self, metric: str) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the main table."""
        conditions = list(self.occlusion)
        headings = ["variant", *(_condition(share) for share in conditions), f"difference, {_condition(conditions[0])}"]
        headings += [f"difference, {_condition(share)}" for share in conditions[1:]]
        headings += ["s / run"] + (["paper", "direction"] if self.paper else [])
        rows = []
        for variant in self.variants:
            cells = [self.cell(variant, share, metric) for share in conditions]
            seconds = [run.done["training_seconds"] for run in self.runs if run.variant == variant and run.done]
            row = [variant, *(cell.text() for cell in cells), *(cell.difference_text() for cell in cells)]
            row.append(f"{fmean(seconds):.0f}" if seconds else "")
            if self.paper:
                row += [f"{self.paper[variant]:g}" if variant in self.paper else "", self.direction(variant, metric)]
            rows.append(row)
        return headings, rows

    def compute_rows(self, metric: str) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the comparison at equal compute; no cells if the study has none."""
        conditions = list(self.occlusion)
        rows = []
        for variant, rival in self.same_compute.items():
            if {variant, rival} <= set(self.variants):
                cells = [self.cell(variant, share, metric, rival) for share in conditions]
                rows.append([variant, rival, *(cell.difference_text() for cell in cells)])
        return ["variant", "against", *(f"difference, {_condition(share)}" for share in conditions)], rows

    def tables(self, metric: str) -> "list[Table]":
        """The tables for the terminal."""
        from rich import box
        from rich.table import Table

        parts = {f"{self.title}: {metric}": self.rows(metric), "At equal compute": self.compute_rows(metric)}
        tables = []
        for title, (headings, rows) in parts.items():
            table = Table(*headings, box=box.SIMPLE_HEAD, title=title, title_justify="left")
            for row in rows:
                table.add_row(*row)
            if rows:
                tables.append(table)
        return tables

    def to_markdown(self, metric: str, plot: str | None = None) -> str:
        """The study as a section of a page."""
        seeds = sorted({run.seed for run in self.runs})
        headings, rows = self.rows(metric)
        parts = [f"## {self.title}", self.about.strip()]
        rival = "their twins" if self.against else f"*{self.baseline}*"
        parts.append(
            f"{metric} in per cent, mean ± standard deviation over seeds {', '.join(map(str, seeds))}; differences to "
            f"{rival} in points with the 95 % interval of a paired bootstrap over images."
        )
        parts.append(markdown_table(headings, rows))
        headings, rows = self.compute_rows(metric)
        if rows:
            parts += ["At equal compute:", markdown_table(headings, rows)]
        if self.source:
            parts.append(f"Paper: {self.source.get('table', '')}, {self.source.get('metric', 'oIoU')}.")
        if kinds := self.kinds():
            by_kind = [
                [variant, *(self.kind_cell(variant, self.occlusion[0], metric, kind).text() for kind in kinds)]
                for variant in self.variants
            ]
            parts += ["By kind of expression, nothing hidden:", markdown_table(["variant", *kinds], by_kind)]
        if plot:
            parts.append(f"![{self.title}]({plot})")
        return "\n\n".join(part for part in parts if part) + "\n"


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
        for done in sorted((folder / "runs" / place).glob("seed-*/done.json")):
            rows = {share: Evaluation.load(rows_file(done.parent, share)) for share in occlusion}
            runs.append(Run(name, int(done.parent.name.removeprefix("seed-")), rows, json.loads(done.read_text())))
    if not runs:
        raise ValueError(f"{folder / 'runs'} holds no complete run yet")
    if baseline not in {run.variant for run in runs}:
        raise ValueError(f"The baseline {baseline!r} has no complete run in {folder / 'runs'} yet")
    return StudyResults(title, about, baseline, tuple(occlusion), runs, paper, source, against, same_compute)


def rows_file(folder: Path, occlusion: float) -> Path:
    """Where the rows of a run's evaluation lie."""
    return folder / f"occlusion-{round(100 * occlusion):02d}.parquet"


def write_report(results: StudyResults, folder: Path, metric: str) -> list[Path]:
    """Write ``study.md``, ``results.csv`` and, where matplotlib is installed, ``study.png``; their paths."""
    table = folder / "results.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", "seed", "hidden", "kind", "N", "oIoU", "mIoU", "Pr@0.5", "steps", "seconds"])
        for run in results.runs:
            for hidden, evaluation in run.evaluations.items():
                kinds = {kind: scores.flat() for kind, scores in evaluation.breakdown("kind").items()}
                for kind, m in {"all": evaluation.metrics, **(kinds if results.kinds() else {})}.items():
                    numbers = [m.get(key, "") for key in ("N", "oIoU", "mIoU", "Pr@0.5")]
                    seconds = run.done.get("training_seconds", "")
                    writer.writerow([run.variant, run.seed, hidden, kind, *numbers, run.done.get("steps", ""), seconds])
    written = [table]
    plot = None
    try:
        from maskris.evaluation.plots import plot_study

        written.append(plot_study(results, metric, folder / "study.png"))
        plot = "study.png"
    except ImportError:
        pass
    page = folder / "study.md"
    page.write_text(results.to_markdown(metric, plot), encoding="utf-8")
    return [page, *written]


def _condition(share: float) -> str:
    return f"{share:.0%} hidden" if share else "clean"
