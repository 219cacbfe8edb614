"""`compare_robustness`: several checkpoints through the same suite."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskris.data.table import ReferringTable
from maskris.models.base import RISModel, weights_sha256
from maskris.models.loading import load_model
from maskris.robustness.benchmark import run_robustness
from maskris.robustness.results import RobustnessComparison
from maskris.robustness.suite import SuiteName


def compare_robustness(
    checkpoints: Sequence[str | Path],
    table: ReferringTable,
    suite: SuiteName = "quick",
    *,
    out: str | Path,
    names: Sequence[str] | None = None,
    model_class: type[RISModel] | str | None = None,
    **options: Any,
) -> RobustnessComparison:
    """Evaluate each checkpoint under every condition of a suite, one after the other; resumed as `run_robustness` is.

    Checkpoints of one name are seeds of one method; what the others are compared with is the first one's method.

    Args:
        checkpoints: As `load_model` takes them.
        table: As for `run_robustness`.
        suite: As for `run_robustness`.
        out: Gets a folder for each checkpoint, named by its name and its weights.
        names: One for each; by default those of their folders.
        model_class: As for `load_model`.
        **options: Of `run_robustness`.

    Raises:
        ValueError: If there are more or fewer names than checkpoints, or two of one name have the same weights.
    """
    runs, folders = [], set()
    for checkpoint, name in zip(checkpoints, method_names(checkpoints, names), strict=True):
        model = load_model(checkpoint, model_class)
        # Named by its weights, so that neither the order nor the number of checkpoints matters when it goes on.
        folder = Path(out) / "-".join([re.sub(r"[^\w.+-]+", "-", name), weights_sha256(model)[:8]])
        if folder in folders:
            raise ValueError(f"{checkpoint} has the same weights as another checkpoint of the name {name}")
        folders.add(folder)
        runs.append(run_robustness(model, table, suite, out=folder, name=name, **options))
    return RobustnessComparison(tuple(runs))


def method_names(checkpoints: Sequence[str | Path], names: Sequence[str] | None = None) -> list[str]:
    """The given names, or those of the checkpoints' folders where they tell all apart."""
    if names is not None:
        if len(names) != len(checkpoints):
            raise ValueError(f"--names gives {len(names)} names to {len(checkpoints)} checkpoints; give each one")
        return list(names)
    parts = [[part for part in Path(one).parts if part not in ("best", "last")] or [str(one)] for one in checkpoints]
    short = [part[-1] for part in parts]
    return short if len(set(short)) == len(short) else list(map(str, checkpoints))
