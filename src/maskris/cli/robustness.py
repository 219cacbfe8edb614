"""`maskris robustness`: how much of its quality a model keeps when pictures and words get worse."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from maskris.cli.common import say, show


def robustness(
    checkpoints: list[str],
    *,
    data: list[Path],
    splits: list[str] | None = None,
    out: Path = Path("robustness"),
    suite: Literal["quick", "full"] = "quick",
    families: list[str] | None = None,
    names: list[str] | None = None,
    seed: int = 0,
    protocol: Literal["maskris", "lavt", "cris", "grefcoco"] = "maskris",
    metric: Literal["oIoU", "mIoU"] = "oIoU",
    batch_size: int = 64,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    workers: int = 2,
    model_class: str | None = None,
) -> None:
    """Measure models under occlusion, corruptions of the picture and worse sentences, and compare them.

    Every condition's rows are kept in the output folder: interrupted and given again, the same command goes on.
    Checkpoints of one name are seeds of one method, and are shown as mean and standard deviation. Several GPUs:
    torchrun --nproc-per-node 8 -m maskris robustness …

    Args:
        checkpoints: Run folders, model folders or Hub ids; the first one's method is what the others are compared with.
        data: Parquet files written by `maskris prepare`.
        splits: Splits to evaluate; all but train by default.
        out: Folder of the rows, tables and pictures.
        suite: quick has one corruption of each family and few severities, full has everything.
        families: Only these of occlusion, context, noise, blur, weather, digital and text.
        names: A name for each checkpoint; by default those of their folders.
        seed: Of everything that is random.
        protocol: How predictions are compared with the truth.
        metric: What the terminal and the pictures show; the files have both.
        batch_size: Most expressions at once.
        device: Such as cuda or cpu; the fastest by default.
        precision: Numbers in which the network computes.
        workers: Processes that load images.
        model_class: Class of a model of your own, such as my_module.MyModel.
    """
    from maskris.data.table import choose_splits, open_tables
    from maskris.models.base import weights_sha256
    from maskris.models.loading import load_model
    from maskris.reporting.robustness import write_robustness
    from maskris.robustness.benchmark import run_robustness
    from maskris.robustness.results import RobustnessComparison
    from maskris.utils.process import fastest_device, is_first_process, join_processes

    called = _names(checkpoints, names)
    table = open_tables(data)
    chosen = choose_splits(table, splits, "--splits")
    place = join_processes(device) or device or fastest_device()
    runs, folders = [], set()
    for checkpoint, name in zip(checkpoints, called, strict=True):
        model = load_model(checkpoint, model_class)
        # Named by its weights, so that neither the order nor the number of checkpoints matters when it goes on.
        folder = out / "-".join([re.sub(r"[^\w.+-]+", "-", name), weights_sha256(model)[:8]])
        if folder in folders:
            raise ValueError(f"{checkpoint} has the same weights as another checkpoint of the name {name}")
        folders.add(folder)
        runs.append(
            run_robustness(
                model,
                chosen,
                suite,
                out=folder,
                families=families,
                seed=seed,
                protocol=protocol,
                name=name,
                precision=precision,
                progress=is_first_process(),
                batch_size=batch_size,
                device=place,
                workers=workers,
            )
        )
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
    from maskris.training.run_record import BEST, LAST

    parts = [[part for part in Path(one).parts if part not in (BEST, LAST)] or [one] for one in checkpoints]
    short = [part[-1] for part in parts]
    return short if len(set(short)) == len(short) else list(checkpoints)
