"""Evaluations that lie in a run folder already."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maskris.evaluation.results import Evaluation

KEPT = Path("report") / "rows.parquet"
"""Where `maskris report --data` keeps what it evaluated, within the run folder."""


@dataclass(frozen=True)
class SavedRows:
    """What `Evaluation.save` wrote into a run folder.

    Attributes:
        file: With the rows on clean input, if there is one.
        clean: The rows.
        perturbed: Those under perturbations of the input, by what was done to it.
    """

    file: Path | None = None
    clean: Evaluation | None = None
    perturbed: Mapping[str, Evaluation] = field(default_factory=dict)


def saved_rows(folder: Path) -> SavedRows:
    """Look through a run folder; of several files on clean input, that of `maskris report` or the first by name.

    Other Parquet files are none of our business.
    """
    file: Path | None = None
    clean: Evaluation | None = None
    perturbed: dict[str, Evaluation] = {}
    for one in [folder / KEPT, *sorted(folder.glob("*.parquet"))]:
        if not one.is_file():
            continue
        try:
            found = Evaluation.load(one)
        except ValueError:
            continue
        if what := found.settings.get("perturbation"):
            perturbed.setdefault(_described(what), found)
        elif clean is None:
            file, clean = one, found
    return SavedRows(file, clean, dict(sorted(perturbed.items())))


def _described(perturbation: str) -> str:
    """A perturbation in words; as it calls itself if it isn't known."""
    if match := re.match(r"PatchOcclusion\(ratio=([\d.]+), patch_size=(\d+), seed=(\d+)", perturbation):
        seed = f", seed {match[3]}" if match[3] != "0" else ""
        return f"{100 * float(match[1]):g} % hidden, patches of {match[2]} px{seed}"
    return perturbation
