"""Check this machine and your data, and run two training steps."""

import importlib
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from maskris.cli.common import say, show

if TYPE_CHECKING:
    from maskris.data.table import ReferringTable


PACKAGES = ("maskris", "torch", "torchvision", "transformers", "accelerate", "pycocotools", "pyarrow")


def doctor(*, data: list[Path] | None = None, steps: int = 2) -> int:
    """Check packages, devices, cores and memory, compare data with the published counts, and train two steps.

    The exit code is 1 if there are problems.

    Args:
        data: Parquet files written by `maskris prepare`, or folders in the REFER or gRefCOCO layout.
        steps: Training steps of a small model on embedded scenes, on every device there is.
    """
    from maskris.reporting.tables import Table

    lines, problems = _packages()
    if not problems:
        lines += _machine()
        for device in _devices():
            result = _train(device, steps)
            lines.append((f"training on {device}", result))
            if result.startswith("failed"):
                problems.append(f"training on {device} {result}")
    show(Table(["check", "result"], lines, "maskris doctor"))
    for source in data or []:
        problems += _check_data(source)
    say("\n".join(["Problems:", *(f"  {problem}" for problem in problems)]) if problems else "All is well.")
    return 1 if problems else 0


def _packages() -> tuple[list[tuple[str, str]], list[str]]:
    """Versions, and packages that can't be imported (two that don't fit each other fail in any way)."""
    found, problems = [("python", platform.python_version())], []
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed as a package"))
        try:
            importlib.import_module(name)
        except Exception as error:
            problems.append(f"{name} can't be imported: {type(error).__name__}: {error}")
    return found, problems


def _machine() -> list[tuple[str, str]]:
    import torch

    lines = [("cores", f"{os.cpu_count()}, PyTorch uses {torch.get_num_threads()}")]
    if hasattr(os, "sysconf"):
        lines.append(("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"))
    lines.append(("free disk here", f"{shutil.disk_usage('.').free / 2**30:.0f} GiB"))
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        lines.append((f"cuda:{i}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {bf16}"))
    if not torch.cuda.is_available():
        lines.append(("GPU", "none found by PyTorch; the shapes-* recipes run on the CPU"))
    return lines


def _devices() -> list[str]:
    import torch

    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [device for device, there in found.items() if there]


def _train(device: str, steps: int) -> str:
    """Train a small CARIS with MaskRIS on a few embedded scenes; the errors of a broken machine are of any kind."""
    import torch

    from maskris.data.dataset import ReferringDataset
    from maskris.data.readers.refer import read_refer
    from maskris.data.shapes.writer import write_shapes
    from maskris.experiments.recipe import Recipe
    from maskris.utils.rng import Random

    try:
        with tempfile.TemporaryDirectory() as folder:
            write_shapes(folder, images={"train": 4})
            model, strategy = Recipe("shapes-maskris").instantiate()
            data = ReferringDataset(
                read_refer(folder, "shapes", "unc").table(), model.preprocess, model.tokenizer, training=True
            )
            model.to(device).train()
            optimizer = torch.optim.AdamW(model.parameter_groups(1e-3, 0.01))
            start = time.perf_counter()
            values = []
            for step in range(steps):
                batch = data.collate([data[0, i] for i in range(min(4, len(data)))]).to(device)
                batch = replace(batch, images=model.preprocess.normalize(batch.images))
                loss = torch.zeros((), device=device)
                for term in strategy.losses(model, batch, Random(0, step, step=step)):
                    term.backward()
                    loss += term.detach()
                optimizer.step()
                optimizer.zero_grad()
                values.append(loss.item())
            seconds = time.perf_counter() - start
    except Exception as error:
        return f"failed: {type(error).__name__}: {error}"
    if not all(map(math.isfinite, values)):
        return f"failed: the loss is not finite: {values}"
    return f"{steps} steps in {seconds:.1f} s, loss {' → '.join(f'{value:.3f}' for value in values)}"


def _check_data(source: Path) -> list[str]:
    """Counts beside the published ones, and whether the images are where the annotations say."""
    try:
        return [f"{source}: {problem}" for table in _tables(source) for problem in _check_table(source, table)]
    except (OSError, ValueError) as error:
        return [str(error) if str(source) in str(error) else f"{source}: {error}"]


def _tables(source: Path) -> "Iterator[ReferringTable]":
    """One table for each data set and partition of a file or folder; of a folder without what is invalid in it."""
    from maskris.data.readers import read_annotations
    from maskris.data.readers.refer import partitions
    from maskris.data.table import ReferringTable

    if source.is_dir():
        folders = [source] if partitions(source) else sorted(path for path in source.iterdir() if path.is_dir())
        found = [(folder.name, by) for folder in folders for _, by in partitions(folder)]
        if not found:
            raise FileNotFoundError(f"{source} holds no refs(*).p or grefs(*).json in it or in its folders")
        for dataset, by in found:
            reading = read_annotations(source, dataset=dataset, split_by=by)
            if reading.problems:
                say(f"{source}: {len(reading.problems)} problem(s) in {dataset} {by}; `maskris prepare` lists them")
            yield reading.table(skip_invalid=True)
        return
    table = ReferringTable.open(source)
    names = list(zip(table.column("dataset"), table.column("split_by"), strict=True))
    for name in dict.fromkeys(names):
        yield table.take([i for i, other in enumerate(names) if other == name])


def _check_table(source: Path, table: "ReferringTable") -> list[str]:
    """Problems of one data set; shows its counts."""
    from maskris.data.prepare import count
    from maskris.data.published_counts import published_sizes
    from maskris.reporting.data import counts_table

    first = table.row(0)
    counts, published = count(table), published_sizes(first.dataset, first.split_by)
    name = " ".join(part for part in (first.dataset, first.split_by) if part)
    show(counts_table(name, counts, published))
    problems = []
    different = []
    for split, known in published.items():
        sizes = ["images", "referents", *(["expressions"] if known.confirmed else [])]
        theirs = {size: getattr(known, size) for size in sizes if getattr(known, size) is not None}
        if split not in counts or theirs != {size: getattr(counts[split], size) for size in theirs}:
            different.append(split)
    if different:
        problems.append(f"{name} differs from the published counts in {', '.join(different)}; is it complete?")
    paths = [table.image_path(int(rows[0])) for rows in table.by_image()]
    if missing := [path for path in paths if not path.is_file()]:
        problems.append(f"{name}: {len(missing)} of {len(paths)} images are missing, the first is {missing[0]}")
    return problems
