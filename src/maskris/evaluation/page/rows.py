"""Evaluations that lie in a run folder already."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from maskris.evaluation.page.choose import line_up
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

    def beside(self, clean: Evaluation) -> tuple["SavedRows", dict[str, str]]:
        """The same without perturbed rows that say nothing about what `clean` was measured of.

        Args:
            clean: Rows on clean input, from this folder or new ones.

        Returns:
            What is left, and why the others are not, by what was done to their input.
        """
        why = {name: reason for name, one in self.perturbed.items() if (reason := _unlike(clean, one))}
        return replace(self, perturbed={name: one for name, one in self.perturbed.items() if name not in why}), why


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


def _unlike(clean: Evaluation, perturbed: Evaluation) -> str:
    weights = [one.fingerprint.get("weights") for one in (clean, perturbed)]
    if None not in weights and weights[0] != weights[1]:
        return "They were measured with other weights"
    try:
        line_up([clean, perturbed])
    except ValueError as error:
        return str(error)
    return ""


def _described(perturbation: str) -> str:
    """A perturbation in words; as it calls itself if it isn't known."""
    if match := re.match(r"PatchOcclusion\(ratio=([\d.]+), patch_size=(\d+), seed=(\d+)", perturbation):
        seed = f", seed {match[3]}" if match[3] != "0" else ""
        return f"{100 * float(match[1]):g} % hidden, patches of {match[2]} px{seed}"
    return perturbation
