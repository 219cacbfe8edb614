"""`maskris doctor`: is this machine ready, are the data complete, does training run?"""

from pathlib import Path


def doctor(*, data: list[str] | None = None, steps: int = 2) -> int:
    """Check packages, devices, cores and memory, compare prepared data with the published counts, and train two steps.

    Args:
        data: Parquet files written by `maskris prepare`.
        steps: Training steps of a small model on embedded scenes, on every device there is.
    """
    import rich
    from rich.table import Table

    table = Table("check", "result", title="maskris doctor", title_justify="left")
    problems: list[str] = []
    for name, result in [*_packages(), *_machine()]:
        table.add_row(name, result)
    for device in _devices():
        result = _two_steps(device, steps)
        table.add_row(f"training on {device}", result)
        if result.startswith("failed"):
            problems.append(f"training on {device} {result}")
    rich.print(table)
    for file in data or []:
        problems += _data(Path(file))
    rich.print("[bold green]All is well." if not problems else "[bold red]Problems:[/]\n  " + "\n  ".join(problems))
    return 1 if problems else 0


def _packages() -> list[tuple[str, str]]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = [("python", platform.python_version())]
    for name in ("maskris", "torch", "torchvision", "transformers", "accelerate", "pycocotools", "pyarrow"):
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed as a package"))
    return found


def _machine() -> list[tuple[str, str]]:
    import os
    import shutil

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

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def _two_steps(device: str, steps: int) -> str:
    """Train a small CARIS with MaskRIS on a few embedded scenes; the errors of a broken machine are of any kind."""
    import math
    import tempfile
    import time
    from dataclasses import replace

    import torch

    from maskris.apps.recipe import Recipe
    from maskris.data.dataset import ReferringDataset
    from maskris.data.readers import read_refer
    from maskris.data.shapes import write_shapes
    from maskris.rng import Random

    try:
        with tempfile.TemporaryDirectory() as folder:
            write_shapes(folder, images={"train": 4})
            model, strategy = Recipe("shapes-maskris").instantiate()
            data = ReferringDataset(
                read_refer(folder, "shapes", "unc"), model.preprocess, model.tokenizer, training=True
            )
            model.to(device).train()
            optimizer = torch.optim.AdamW(model.parameter_groups(1e-3, 0.01))
            start = time.perf_counter()
            values = []
            for step in range(steps):
                batch = data.collate([data[0, i] for i in range(min(4, len(data)))]).to(device)
                batch = replace(batch, images=model.preprocess.normalize(batch.images))
                loss = torch.zeros((), device=device)
                for term in strategy.losses(model, batch, Random(0, step)):
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


def _data(file: Path) -> list[str]:
    """Counts beside the published ones, and whether the images are where the table says."""
    import rich
    from rich.table import Table

    from maskris.data.prepare import count
    from maskris.data.published import published_counts
    from maskris.data.table import ReferringTable

    try:
        table = ReferringTable.open(file)
    except (OSError, ValueError) as error:
        return [f"{file}: {error}"]
    problems = []
    missing = [
        table.image_path(int(rows[0])) for rows in table.by_image() if not table.image_path(int(rows[0])).is_file()
    ]
    if missing:
        problems.append(f"{file}: {len(missing)} images are missing, the first is {missing[0]}")
    first = table.row(0)
    published = published_counts(first.dataset, first.split_by)
    shown = Table("split", "images", "referents", "expressions", "published", title=str(file), title_justify="left")
    for split, counts in count(table).items():
        known = published.get(split)
        same = "not published"
        if known is not None:
            ours, theirs = (counts.images, counts.referents), (known.images, known.referents)
            same = "the same" if ours == theirs else f"differs: {known.images} images, {known.referents} referents"
            if ours != theirs:
                problems.append(f"{file}: {split} {same}")
        shown.add_row(split, str(counts.images), str(counts.referents), str(counts.expressions), same)
    rich.print(shown)
    return problems
