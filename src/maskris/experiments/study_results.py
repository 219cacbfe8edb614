"""`StudyResults`: variants trained with several seeds, beside each other and beside what the paper says."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from maskris.evaluation.bootstrap import Interval, SeedScores, difference_text, paired_over_seeds
from maskris.evaluation.result import Evaluation
from maskris.reporting.tables import markdown_table

if TYPE_CHECKING:
    from rich.table import Table


METRICS = ("mIoU", "oIoU")

DONE = "done.json"
"""In the folder of a run that has come to its end: steps, seconds and parameters."""

_MIN_WIDTH = {"variant": 12, "against": 10, "paper": 5, "direction": 9}  # of columns in a terminal


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

    def difference_text(self) -> str:
        """Difference to the rival and its interval, in points; empty where there is none."""
        return "" if self.difference is None else difference_text(self.difference, missing="")

    def by_seed_text(self) -> str:
        """The difference of every seed, in points."""
        return ", ".join(f"{100 * value:+.1f}" for value in self.by_seed)

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
        return Cell(values, paired_over_seeds(*pairs, metric, unit="image"), by_seed)

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

    def rows(self, metric: str) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the main table."""
        rows = []
        for variant in self.variants:
            seconds = [run.done["training_seconds"] for run in self.runs if run.variant == variant and run.done]
            cells = (self.cell(variant, share, metric).text() for share in self.occlusion)
            rows.append([self._label(variant), *cells, f"{fmean(seconds):.0f}" if seconds else ""])
        return ["variant", *map(_condition, self.occlusion), "s / run"], rows

    def difference_tables(self, metric: str) -> dict[str, tuple[list[str], list[list[str]]]]:
        """Headings and cells of what is compared, by title; a table without cells is left out."""
        rivals = {variant: self.rival(variant) for variant in self.variants if variant != self.rival(variant)}
        tables = {
            "Differences": self._compared(rivals, metric, Cell.difference_text),
            "At equal compute": self._compared(self.same_compute, metric, Cell.difference_text),
            "Seed by seed": self._compared(rivals if len(self.seeds) > 1 else {}, metric, Cell.by_seed_text),
        }
        headings = ["variant", "against", *map(_condition, self.occlusion)]
        found = {title: (headings, rows) for title, rows in tables.items() if rows}
        if self.paper and "Differences" in found:
            for variant, row in zip(self._comparable(rivals), found["Differences"][1], strict=True):
                paper = self.paper_difference(variant)
                row += ["" if paper is None else f"{paper:+.2f}", self.direction(variant, metric)]
            found["Differences"] = ([*headings, "paper", "direction"], found["Differences"][1])
        return found

    def _compared(self, rivals: Mapping[str, str], metric: str, text: Callable[[Cell], str]) -> list[list[str]]:
        return [
            [
                self._label(variant, rivals[variant]),
                rivals[variant],
                *(text(self.cell(variant, share, metric, rivals[variant])) for share in self.occlusion),
            ]
            for variant in self._comparable(rivals)
        ]

    def _comparable(self, rivals: Mapping[str, str]) -> list[str]:
        """Variants that have runs and whose rival has."""
        return [variant for variant, rival in rivals.items() if {variant, rival} <= set(self.variants)]

    def _label(self, variant: str, rival: str | None = None) -> str:
        """Its name, with the seeds that are in a cell (with a rival: that both have) where that isn't all of them."""
        both = variant, rival or variant
        seeds = [s for s in self.seeds if all(s in self._by_seed(name, self.occlusion[0]) for name in both)]
        few = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else "no common seed"
        return variant if seeds == self.seeds else f"{variant} ({few})"

    def tables(self, metric: str) -> "list[Table]":
        """The tables for the terminal."""
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        tables = []
        for title, (headings, rows) in {
            f"{self.title}: {metric}": self.rows(metric),
            **self.difference_tables(metric),
        }.items():
            table = Table(box=box.SIMPLE_HEAD, title=escape(title), title_justify="left", padding=0)
            for heading in headings:
                # What is too long goes on in the next line; no cell loses its end.
                table.add_column(heading, overflow="fold", min_width=_MIN_WIDTH.get(heading))
            for row in rows:
                table.add_row(*map(escape, row))  # names are the user's: "[red]" is not for the terminal
            tables.append(table)
        return tables

    def to_markdown(self, metric: str, plot: str | None = None) -> str:
        """The study as a section of a page."""
        seeds = ", ".join(map(str, self.seeds))
        parts = [f"## {self.title}", self.about.strip()]
        parts.append(f"{metric} in per cent, mean ± standard deviation over seeds {seeds}.")
        parts.append(markdown_table(*self.rows(metric)))
        tables = {title: markdown_table(*table, texts=2) for title, table in self.difference_tables(metric).items()}
        if "Differences" in tables:
            title = "Differences in points with the 95 % interval of a paired bootstrap over images:"
            if self.source:
                title = (
                    f"{title[:-1]}; the paper's are those of {self.source.get('table', '')} "
                    f"({self.source.get('metric', 'oIoU')}). The direction is that of the clean difference, undecided "
                    "where its interval holds 0 or seeds disagree:"
                )
            parts += [title, tables["Differences"]]
        if "At equal compute" in tables:
            parts += ["At equal compute:", tables["At equal compute"]]
        if "Seed by seed" in tables:
            parts.append(_folded("Differences seed by seed", tables["Seed by seed"]))
        if kinds := self.kinds():
            clean = self.occlusion[0]
            by_kind = [
                [self._label(variant), *(self.kind_cell(variant, clean, metric, kind).text() for kind in kinds)]
                for variant in self.variants
            ]
            parts.append(_folded("By kind of expression, nothing hidden", markdown_table(["variant", *kinds], by_kind)))
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
                    numbers = [round(m[key], 6) if key in m else "" for key in ("N", "oIoU", "mIoU", "Pr@0.5")]
                    cost = run.done.get("steps", ""), round(run.done.get("training_seconds", 0), 1) or ""
                    writer.writerow([run.variant, run.seed, hidden, kind, *numbers, *cost])
    written = [table]
    plot = None
    try:
        from maskris.reporting.plots import plot_study

        written.append(plot_study(results, metric, folder / "study.png"))
        plot = "study.png"
    except ImportError:
        pass
    page = folder / "study.md"
    page.write_text(results.to_markdown(metric, plot), encoding="utf-8")
    return [page, *written]


def _folded(title: str, text: str) -> str:
    """A part of a page that is seen when its title is clicked, on GitHub as in the documentation."""
    return f"<details markdown>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def _condition(share: float) -> str:
    return f"{share:.0%} hidden" if share else "clean"
