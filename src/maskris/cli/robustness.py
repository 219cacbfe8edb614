"""Measure models on worse images and sentences, and compare them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from maskris.cli.common import say, show
from maskris.cli.options import MetricName, ModelOptions, ProtocolName, RequiredDataOptions


def robustness(
    checkpoints: list[str],
    *,
    data: RequiredDataOptions,
    out: Path = Path("robustness"),
    suite: Literal["quick", "full"] = "quick",
    families: list[str] | None = None,
    names: list[str] | None = None,
    seed: int = 0,
    protocol: ProtocolName = "maskris",
    metric: MetricName = "oIoU",
    model: ModelOptions,
) -> None:
    """Measure models under occlusion, corruptions of the image and worse sentences, and compare them.

    Every condition's rows are kept in the output folder: interrupted and given again, the same command goes on.
    Checkpoints of one name are seeds of one method, and are shown as mean and standard deviation. Several GPUs:
    torchrun --nproc-per-node 8 -m maskris robustness …

    Args:
        checkpoints: Run folders, model folders, names of `maskris models` or Hub ids; the first one's method is what
            the others are compared with.
        data: What is evaluated.
        out: Folder of the rows, tables and pictures.
        suite: quick has one corruption of each family and few severities, full has everything.
        families: Only these of occlusion, context, noise, blur, weather, digital and text.
        names: A name for each of them; by default those of their folders.
        seed: Seed of everything that is drawn.
        protocol: How predictions are compared with the truth; published numbers differ in it.
        metric: What the tables and pictures compare.
        model: How they are run.
    """
    from maskris.models.base import weights_sha256
    from maskris.reporting.robustness import write_robustness
    from maskris.robustness.benchmark import run_robustness
    from maskris.robustness.results import RobustnessComparison
    from maskris.utils.process import is_first_process

    called = _names(checkpoints, names)
    table = data.table()
    options: dict[str, Any] = {"families": families, "seed": seed, "protocol": protocol, "progress": is_first_process()}
    options |= model.evaluation() | data.evaluation()
    runs, folders = [], set()
    for checkpoint, name in zip(checkpoints, called, strict=True):
        loaded = model.load(checkpoint)
        # Named by its weights, so that neither the order nor the number of checkpoints matters when it goes on.
        folder = out / "-".join([re.sub(r"[^\w.+-]+", "-", name), weights_sha256(loaded)[:8]])
        if folder in folders:
            raise ValueError(f"{checkpoint} has the same weights as another checkpoint of the name {name}")
        folders.add(folder)
        runs.append(run_robustness(loaded, table, suite, out=folder, name=name, **options))
    if is_first_process():
        comparison = RobustnessComparison(tuple(runs))
        show(comparison, metric=metric)
        written = write_robustness(comparison, out, metric)
        if not any(path.suffix == ".png" for path in written):
            say("No pictures: they need matplotlib (pip install 'maskris[plots]')")
        say("Written:\n" + "\n".join(f"  {path}" for path in written))


def _names(checkpoints: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """One for each checkpoint; those of the folders where they tell all apart."""
    if names is not None:
        if len(names) != len(checkpoints):
            raise ValueError(f"--names gives {len(names)} names to {len(checkpoints)} checkpoints; give each one")
        return list(names)
    parts = [[part for part in Path(one).parts if part not in ("best", "last")] or [one] for one in checkpoints]
    short = [part[-1] for part in parts]
    return short if len(set(short)) == len(short) else list(checkpoints)
