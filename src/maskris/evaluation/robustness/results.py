"""`Robustness`: what one model's files say, and the way from there to numbers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Group

from maskris.evaluation.bootstrap import ratios
from maskris.evaluation.results import Evaluation
from maskris.evaluation.robustness.suite import CLEAN, FAMILIES, Condition

if TYPE_CHECKING:
    from maskris.evaluation.robustness.comparison import RobustnessComparison

CARD = "robustness.json"
"""What of a folder says whose results it holds."""

Metric = Literal["oIoU", "mIoU"]
METRICS: tuple[Metric, ...] = ("oIoU", "mIoU")


@dataclass(frozen=True)
class Robustness:
    """One model under the conditions of a suite, as `measure_robustness` wrote it.

    Attributes:
        card: ``name``, and what tells two results apart: hashes of ``weights`` and ``data``, ``seed``, ``protocol``,
            ``precision``, version.
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
        return cls(json.loads((folder / CARD).read_text(encoding="utf-8")), folder, tuple(found))

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
    def sums(self) -> npt.NDArray[np.float64]:
        """Numerators and denominators of the metrics, summed over each image: ``[C, 2, 2, images]``.

        The axes are conditions, `METRICS`, and numerator and denominator.
        """
        return self._numbers[0]

    @property
    def expressions(self) -> int:
        """Number of expressions."""
        return self._numbers[1]

    @cached_property
    def _numbers(self) -> tuple[npt.NDArray[np.float64], int, dict[Condition, float]]:
        """Sums, number of expressions, shares that were changed; every file is read once."""
        sums: list[list[list[npt.NDArray[np.float64]]]] = []  # [C][metrics][2], over images
        changed, images = {}, np.zeros(0, dtype=np.int64)
        for condition in self.conditions:
            evaluation = self.evaluation(condition)
            if not sums:
                images = _images(evaluation)
            pairs = ratios(evaluation)
            sums.append([[_summed(images, column) for column in pairs[metric]] for metric in METRICS])
            if "read" in evaluation.rows.column_names and len(evaluation):
                same = evaluation.rows["read"].to_numpy() == evaluation.rows["expression"].to_numpy()
                changed[condition] = 1 - float(np.mean(same))
        return np.asarray(sums), len(images), changed

    def compare(self, *others: "Robustness") -> "RobustnessComparison":
        """This model beside others; those of one name are seeds of one method."""
        from maskris.evaluation.robustness.comparison import RobustnessComparison

        return RobustnessComparison((self, *others))

    def summary(self) -> dict[str, Any]:
        """Metrics and what is retained of them by family and condition, as JSON types; fractions."""
        return self.compare().summary()

    def to_markdown(self) -> str:
        """Tables as Markdown."""
        return self.compare().to_markdown()

    def __rich__(self) -> Group:
        return self.compare().__rich__()


def _summed(images: npt.NDArray[np.int64], column: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.bincount(images, weights=column).astype(np.float64)


def _images(evaluation: Evaluation) -> npt.NDArray[np.int64]:
    """The number of each expression's image, from 0."""
    names = ("dataset", "split_by", "image_id")
    codes = [evaluation.rows[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in names]
    numbers = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1]
    return np.asarray(numbers.reshape(-1), dtype=np.int64)
