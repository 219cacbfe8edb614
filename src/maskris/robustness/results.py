"""`Robustness`: one model under the conditions of a suite; `RobustnessComparison`: several of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

import numpy as np

from maskris.evaluation.bootstrap import Interval, SeedScores, percentile_interval, ratio, resample, unit_sums, units_of
from maskris.evaluation.metrics import Floats
from maskris.evaluation.result import Evaluation
from maskris.robustness.suite import CLEAN, DIAGNOSTIC_FAMILIES, FAMILIES, Condition
from maskris.utils.files import read_json

CARD = "robustness.json"
"""File of a folder that says whose results it holds."""

Metric = Literal["oIoU", "mIoU"]
METRICS: tuple[Metric, ...] = get_args(Metric)

Subject = Condition | str
"""A condition, a family (the mean of its conditions), or `MEAN`."""

MEAN = "mean"
"""The mean over the families but the `DIAGNOSTIC_FAMILIES`."""

_SAME = ("data", "protocol", "seed")


@dataclass(frozen=True)
class Robustness:
    """One model under the conditions of a suite, as `run_robustness` wrote it.

    Attributes:
        card: ``name``, and what decides whether two results are the same: hashes of ``weights`` and ``data``,
            ``seed``, ``protocol``, ``precision``, version.
        folder: Where the files are.
        conditions: Those measured, the clean pictures first.
        skipped: Why conditions could not be measured.
    """

    card: Mapping[str, Any]
    folder: Path
    conditions: tuple[Condition, ...]
    skipped: Mapping[Condition, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path) -> "Robustness":
        """All that a folder holds, also the results of several suites.

        Raises:
            FileNotFoundError: If it is no folder of results.
        """
        folder = Path(folder)
        if not (folder / CARD).is_file() or not (folder / f"{CLEAN.key}.parquet").is_file():
            raise FileNotFoundError(f"{folder} holds no results of robustness: there is no {CARD} or no clean.parquet")
        files = sorted(folder.glob("*.parquet"))
        found = [Condition(**Evaluation.load(file).settings["condition"]) for file in files]
        order = {family: i for i, family in enumerate((CLEAN.family, *FAMILIES))}
        found.sort(key=lambda c: (order.get(c.family, len(order)), c.name, c.severity or 0))
        return cls(read_json(folder / CARD), folder, tuple(found))

    @property
    def name(self) -> str:
        """Of the model or method."""
        return str(self.card["name"])

    def file(self, condition: Condition) -> Path:
        """Where the rows of a condition lie."""
        return self.folder / f"{condition.key}.parquet"

    def evaluation(self, condition: Condition = CLEAN) -> Evaluation:
        """The rows of a condition; read anew each time, because all of them together may be large."""
        return Evaluation.load(self.file(condition))

    def changed(self, condition: Condition) -> float | None:
        """Share of the expressions whose words the condition changes; ``None`` where it changes pictures."""
        return self._numbers[2].get(condition)

    @property
    def sums(self) -> Floats:
        """Numerators and denominators of the metrics, summed over each image: ``[C, 2, 2, images]``.

        The axes are conditions, `METRICS`, numerator and denominator, and images.
        """
        return self._numbers[0]

    @property
    def expressions(self) -> int:
        """Number of expressions."""
        return self._numbers[1]

    @cached_property
    def _numbers(self) -> tuple[Floats, int, dict[Condition, float]]:
        """Sums, number of expressions, shares that were changed; one file after the other."""
        clean = self.evaluation()
        units, sums, changed = units_of(clean), [], {}
        for condition in self.conditions:
            evaluation = self.evaluation(condition)
            sums.append(unit_sums(evaluation, METRICS, units).T)
            if "read" in evaluation.rows.column_names and len(evaluation):
                same = evaluation.rows["read"].to_numpy() == evaluation.rows["expression"].to_numpy()
                changed[condition] = 1 - float(np.mean(same))
        return np.stack(sums).reshape(len(sums), len(METRICS), 2, -1), len(clean), changed

    def compare(self, *others: "Robustness") -> "RobustnessComparison":
        """This model beside others; those of one name are seeds of one method."""
        return RobustnessComparison((self, *others))

    def summary(self) -> dict[str, Any]:
        """Metrics and what is retained of them by family and condition, as JSON types; fractions."""
        return self.compare().summary()


@dataclass(frozen=True)
class Score(SeedScores):
    """A number of one method; a fraction, NaN where nothing defines it.

    Attributes:
        interval: 95 % interval of the mean, a bootstrap over images.
    """

    interval: Interval

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON types."""
        values = [None if math.isnan(value) else value for value in self.values]
        return {"mean": self.interval.value, "values": values, "interval": [self.interval.low, self.interval.high]}


@dataclass(frozen=True)
class RobustnessComparison:
    """Numbers of several models.

    Only conditions that all of them were measured under are compared. What is retained is a metric divided by that of
    the same model on the clean pictures.

    Attributes:
        runs: At least one; the method of the first is what the others are compared with.
        resamples: Of the bootstrap, which draws all models and conditions together.

    Raises:
        ValueError: If they were measured on other data, under another protocol or with other draws.
    """

    runs: Sequence[Robustness]
    resamples: int = 2000

    def __post_init__(self) -> None:
        """Check that they belong together."""
        if not self.runs:
            raise ValueError("There is nothing to compare")
        for run in self.runs[1:]:
            if different := [key for key in _SAME if run.card[key] != self.runs[0].card[key]]:
                raise ValueError(f"{run.folder} and {self.runs[0].folder} differ in {', '.join(different)}")

    @cached_property
    def methods(self) -> dict[str, list[int]]:
        """Numbers of the runs of each method."""
        names = [run.name for run in self.runs]
        return {name: [i for i, own in enumerate(names) if own == name] for name in names}

    @cached_property
    def conditions(self) -> list[Condition]:
        """What all were measured under, the clean pictures first."""
        return [c for c in self.runs[0].conditions if all(c in run.conditions for run in self.runs)]

    @property
    def families(self) -> list[str]:
        """Families of the conditions, without the clean one."""
        return list(dict.fromkeys(c.family for c in self.conditions if c != CLEAN))

    @property
    def subjects(self) -> list[Subject]:
        """The clean pictures, the families, and their mean: rows of the short table."""
        return [CLEAN, *self.families, *([MEAN] if len(self._harmful) > 1 else [])]

    @property
    def _harmful(self) -> list[str]:
        return [family for family in self.families if family not in DIAGNOSTIC_FAMILIES]

    def score(self, method: str, of: Subject, metric: Metric) -> Score:
        """A metric of a method."""
        return self._score(method, of, self._ratios[metric])

    def retained(self, method: str, of: Subject, metric: Metric) -> Score:
        """What is left of a metric, as a share of that on clean pictures."""
        ratios = self._ratios[metric]
        with np.errstate(invalid="ignore", divide="ignore"):  # nothing is left of nothing: NaN
            return self._score(method, of, ratios / ratios[..., :1])

    def difference(self, method: str, of: Subject, metric: Metric) -> Interval:
        """A method's metric - that of the first one, with its 95 % interval: both are drawn together."""
        own, first = (self._of(name, of, self._ratios[metric]).mean(1) for name in (method, next(iter(self.methods))))
        return percentile_interval(float(own[0] - first[0]), own[1:] - first[1:])

    @property
    def values(self) -> dict[Metric, Floats]:
        """Metrics of the runs under the conditions: ``[R, C]``."""
        return {metric: ratios[0] for metric, ratios in self._ratios.items()}

    @cached_property
    def _ratios(self) -> dict[Metric, Floats]:
        """Metrics as they are, and then of each resample: ``[1 + B, R, C]``."""
        places = [[run.conditions.index(c) for c in self.conditions] for run in self.runs]
        sums = np.stack([run.sums[own] for run, own in zip(self.runs, places, strict=True)])  # [R, C, metrics, 2, U]
        drawn = resample(sums.reshape(-1, sums.shape[-1]).T, self.resamples, 0).reshape(-1, *sums.shape[:-1])
        everything = np.concatenate([sums.sum(-1)[None], drawn])
        return {metric: ratio(everything[..., m, 0], everything[..., m, 1]) for m, metric in enumerate(METRICS)}

    def _of(self, method: str, of: Subject, ratios: Floats) -> Floats:
        """What a method's runs have of `ratios` under a condition or as a mean over conditions: ``[1 + B, seeds]``."""
        chosen = self._harmful if of == MEAN else [of]
        weights = np.array([[float(one in (c, c.family)) for c in self.conditions] for one in chosen])
        of_runs: Floats = ratios[:, self.methods[method]] @ (weights / weights.sum(1, keepdims=True)).mean(0)
        return of_runs

    def _score(self, method: str, of: Subject, ratios: Floats) -> Score:
        of_runs = self._of(method, of, ratios)
        own = tuple(map(float, of_runs[0]))
        return Score(own, percentile_interval(fmean(own), of_runs[1:].mean(1)))

    def summary(self) -> dict[str, Any]:
        """Metrics and what is retained by method, for families and conditions, as JSON types; fractions."""

        def numbers(method: str, of: Subject) -> dict[str, Any]:
            scores = {metric: self.score(method, of, metric) for metric in METRICS}
            kept = {f"{metric} retained": self.retained(method, of, metric) for metric in METRICS}
            return {name: score.to_dict() for name, score in (scores | kept).items()}

        return {
            method: {
                "notes": self.runs[first].evaluation().notes,
                "clean": numbers(method, CLEAN),
                "families": {str(family): numbers(method, family) for family in self.subjects[1:]},
                "conditions": {c.key: numbers(method, c) for c in self.conditions if c != CLEAN},
            }
            for method, (first, *_) in self.methods.items()
        }
