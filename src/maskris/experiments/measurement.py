"""`Measurement`: models evaluated by what claims are about; `Reproduction`: what came out, beside the claims."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from maskris.data.table import ReferringTable, open_tables
from maskris.evaluation.bootstrap import Interval, Unit, bootstrap_intervals
from maskris.evaluation.cache import evaluate_cached
from maskris.evaluation.result import Evaluation
from maskris.experiments.claims import Claim, data_name
from maskris.experiments.run import Log, silent
from maskris.experiments.verify import Finding, Verdict
from maskris.models.base import RISModel
from maskris.utils.files import write_json
from maskris.utils.process import is_first_process


class Part(NamedTuple):
    """What an evaluation is about.

    Attributes:
        data: Data set, partition and split in one string.
        protocol: Its name.
        released: The released checkpoint that was evaluated; empty for the model of a recipe.
    """

    data: str
    protocol: str
    released: str = ""

    def __str__(self) -> str:
        """Such as ``refcoco unc val (maskris)``."""
        return f"{self.released}: {self.data} ({self.protocol})".removeprefix(": ")


@dataclass(frozen=True)
class Reproduction:
    """Claims beside what was measured.

    Attributes:
        findings: One for each claim; empty if the training was interrupted.
        evaluations: What was measured.
        about: Recipe or released checkpoints, data and settings: JSON types.
        folder: With the run, the evaluated rows and ``reproduction.json``.
        interrupted: The signal that stopped the training early; ``None`` if it came to its end.
        failed: Released checkpoints that could not be had, with the reasons.
    """

    findings: tuple[Finding, ...]
    evaluations: Mapping[Part, Evaluation]
    about: Mapping[str, Any]
    folder: Path
    interrupted: int | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {
            "maskris": version("maskris"),
            **self.about,
            "failed": dict(self.failed),
            "evaluations": {
                str(part): {
                    "protocol": evaluation.protocol.to_dict(),
                    "scores": evaluation.scores.values,
                    "notes": evaluation.notes,
                }
                | {name: dict(getattr(evaluation, name)) for name in ("model", "data", "settings")}
                for part, evaluation in self.evaluations.items()
            },
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def save(self) -> None:
        """Write ``reproduction.json`` into the folder."""
        if is_first_process():
            write_json(self.folder / "reproduction.json", self.to_dict())


def part_of(claim: Claim, released: str = "") -> Part:
    """What must be evaluated for a claim; claims that differ in the metric alone share it."""
    return Part(claim.data, str(claim.protocol), released)


@dataclass(frozen=True)
class Measurement:
    """Data and settings with which every model is measured.

    Attributes:
        data: Parquet files written by `prepare_dataset`.
        splits: Those to measure; ``None`` for all.
        unit: Of the intervals, as for `bootstrap_intervals`.
        resamples: As for `bootstrap_intervals`.
        log: Gets a line for each evaluation.
        options: Of `evaluate`.
    """

    data: Sequence[str | Path]
    splits: Sequence[str] | None = None
    unit: Unit = "image"
    resamples: int = 2000
    log: Log = silent
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def table(self) -> ReferringTable:
        """The rows of all files."""
        if not self.data:
            raise ValueError("Give the data: --data FILE.parquet ..., written by `maskris prepare`")
        return open_tables([Path(file) for file in self.data])

    @cached_property
    def _rows(self) -> dict[str, dict[str, list[int]]]:
        """Numbers of rows by data set, partition and split in one string, and by the sentences."""
        rows: dict[str, dict[str, list[int]]] = {}
        columns = map(self.table.column, ("dataset", "split_by", "split", "text"))
        for row, (*name, text) in enumerate(zip(*columns, strict=True)):
            rows.setdefault(data_name(*name), {}).setdefault(text, []).append(row)
        return rows

    def check(self, claims: Sequence[Claim]) -> None:
        """Refuse splits that no claim is about, and data without any that claims are about."""
        if self.splits and (unknown := set(self.splits) - {claim.split for claim in claims}):
            there = names_of(claim.split for claim in claims)
            raise ValueError(f"There is no claim about the split {', '.join(sorted(unknown))}, but about {there}")
        wanted = [claim.data for claim in claims if self._is_chosen(claim)]
        if not set(wanted) & set(self._rows):
            there = ", ".join(self._rows) or "nothing"
            raise ValueError(f"The claims are about {names_of(wanted)}, but the data holds {there}")

    def parts(self, claims: Sequence[Claim], released: str = "") -> dict[Part, ReferringTable]:
        """The data of each claim to measure; what isn't there is left out.

        Where a split is there both with cleaned and with raw sentences, a claim gets those that it is about.
        """
        parts: dict[Part, ReferringTable] = {}
        for claim in claims:
            part, of_split = part_of(claim, released), self._rows.get(claim.data)
            if self._is_chosen(claim) and of_split and part not in parts:
                own = {text: rows for text, rows in of_split.items() if text in (claim.text, "")} or of_split
                parts[part] = self.table.take(sorted(chain(*own.values())))
        return parts

    def _is_chosen(self, claim: Claim) -> bool:
        return not self.splits or claim.split in self.splits

    def evaluate(
        self, model: RISModel, parts: Mapping[Part, ReferringTable], folder: Path, source: str
    ) -> dict[Part, Evaluation]:
        """Evaluate each part, or read what ``FOLDER/rows`` holds of the same evaluation.

        Args:
            model: Evaluated by the protocols of the parts.
            parts: Of `parts`.
            folder: Where the rows are kept.
            source: What the model was loaded from.
        """
        evaluations = {}
        for part, rows in parts.items():
            file = folder / "rows" / f"{part.data.replace(' ', '-')}-{part.protocol}.parquet"
            evaluations[part], new = evaluate_cached(model, rows, part.protocol, file, name=source, **self.options)
            if is_first_process():
                what = f"{part.released}: {part.data}".removeprefix(": ")
                self.log(f"{what}: {len(evaluations[part]):,} expressions{'' if new else ', evaluated before'}; {file}")
        return evaluations

    def findings(
        self,
        claims: Sequence[Claim],
        evaluations: Mapping[Part, Evaluation],
        judge: Callable[[Claim, Evaluation, Interval], Finding],
        refused: Mapping[Part, tuple[Verdict, str]],
        released: str = "",
    ) -> list[Finding]:
        """One for each claim: judged where its part was evaluated, refused where it must not be, else not run.

        Args:
            claims: All of them, those about other splits too.
            evaluations: Of `evaluate`.
            judge: Gets the claim, the evaluation of its part, and the interval of its metric.
            refused: Verdicts on parts that were not evaluated, with the reasons.
            released: As in `Part`.
        """
        sure = {
            part: bootstrap_intervals(one, unit=self.unit, resamples=self.resamples)
            for part, one in evaluations.items()
        }
        findings = []
        for claim in claims:
            part = part_of(claim, released)
            if part in evaluations:
                interval = sure[part].get(claim.metric, Interval(None, None, None))
                findings.append(judge(claim, evaluations[part], interval))
            elif part in refused:
                verdict, reason = refused[part]
                findings.append(Finding(claim, verdict, (reason,)))
            else:
                reason = f"the data has no {claim.data}" if self._is_chosen(claim) else "left out by --splits"
                findings.append(Finding(claim, "not run", (reason,)))
        return findings

    def to_dict(self) -> dict[str, Any]:
        """What of it belongs into a report: JSON types."""
        return {
            "data": [str(file) for file in self.data],
            "interval": {"level": 0.95, "unit": self.unit, "resamples": self.resamples, "seed": 0},
            "precision": self.options.get("precision", "fp32"),
        }


def names_of(values: Iterable[str]) -> str:
    """Each once, separated by commas."""
    return ", ".join(dict.fromkeys(values))
