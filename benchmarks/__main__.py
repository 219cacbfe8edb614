"""``python -m benchmarks``: see `run`."""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks import loader
from benchmarks.cases import SIZES, Setting
from benchmarks.measure import Row, alone, beside, compare, peak_rate
from benchmarks.overhead import load_images, open_table, startup
from benchmarks.worker import ROOT

ROUNDS = {
    "inference": (9, 5),
    "evaluation_7": (5, 2),
    "train_step": (5, 2),
    "train_step_fused": (3, 1),
    "train_step_checkpointed": (3, 1),
}
"""Of a full and of a quick run."""


def run(
    quick: bool = False,
    out: Path | None = None,
    against: str | None = None,
    growth: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    compiled: bool = False,
    size: Literal["base", "tiny"] = "base",
    pixels: int = 448,
    only: list[str] | None = None,
) -> list[Row]:
    """Time the network, its training and what surrounds them, as ratios to the literal formulas of the publication.

    Both networks have the same weights and inputs and take turns in processes of their own; medians are compared.

    Args:
        quick: Fewer rounds of each, and one kind of training step unless asked for more; ends within ten minutes on two
            idle cores.
        out: Write the rows as JSON to this file.
        against: Commit, tag or branch whose network is timed too, from a worktree; only the plain training step.
        growth: Also measure how the cost of ours grows with image side, expressions, batch and data set.
        device: ``cpu`` or ``cuda``.
        threads: Of PyTorch; by default as many as there are cores, at most 8.
        precision: ``bf16`` runs under autocast.
        compiled: Compile both networks.
        size: ``tiny`` is a network for tests.
        pixels: Side of the images.
        only: Names of rows to measure, by default all.
    """
    threads = threads or min(8, os.cpu_count() or 1)
    common = Setting("inference", "ours", size, pixels, 1, 1, device, precision, compiled, threads)
    cases = {
        "inference": common,
        "evaluation_7": replace(common, case="evaluation", expressions=7),
        "train_step": replace(common, case="train_step", images=2),
        "train_step_fused": replace(common, case="train_step", images=2, single_forward=True),
        "train_step_checkpointed": replace(common, case="train_step", images=2, gradient_checkpointing=True),
    }
    if quick and only is None:
        del cases["train_step_fused"], cases["train_step_checkpointed"]  # a minute each; --only brings them back
    peak = peak_rate(threads, device)
    rows: list[Row] = []
    with _worktree(against) as source:
        for name, setting in cases.items():
            if only is None or name in only:
                rounds, plain = ROUNDS[name][quick], next((row for row in rows if row["name"] == "train_step"), None)
                variant = setting.gradient_checkpointing or setting.single_forward
                if variant and plain is not None:  # the literal network has just been timed at this
                    rows.append(beside(name, setting, rounds, plain, peak))
                else:  # an older commit may not have such a step
                    other = None if variant else source
                    rows.append(compare(name, setting, rounds, other, peak))
                _say(f"{name}: {rows[-1]['ours_s']:.3f} s, literal {rows[-1]['literal_s']:.3f} s")
    if only is None or "overhead" in only:
        rows += [_plain(name, seconds, common) for name, seconds in startup().items()]
        rows.append(_plain("open a table of 150,000 expressions", open_table(150_000), common))
        rows.append(_plain("load a training sample", load_images(pixels), common))
    if only is None or "loader" in only:
        missing: Row = dict.fromkeys(("literal_s", "ratio", "ours_peak_mib", "literal_peak_mib"))
        rows += [row | missing | {"device": "cpu", "threads": 1} for row in loader.measure(pixels)]
    if growth:
        rows += grow(common, quick)
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(as_table(rows, peak))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(rows, indent=2) + "\n")
    return rows


def grow(common: Setting, quick: bool) -> list[Row]:
    """Cost of ours against image side, expressions per image, batch and size of the data set."""
    rounds = 1 if quick else 3
    settings = {
        **{f"inference, {side} px": replace(common, pixels=side) for side in (224, 320, 448, 640)},
        **{f"{n} expressions": replace(common, case="evaluation", expressions=n) for n in (1, 2, 4, 8, 16)},
        **{f"train step, {n} images": replace(common, case="train_step", images=n) for n in (1, 2, 4)},
    }
    rows = []
    for name, setting in settings.items():
        result = alone(setting, rounds)
        rows.append(_plain(name, result["seconds"], setting) | {"ours_peak_mib": result["peak_mib"]})
    tables = (15_000, 150_000, 1_500_000)
    return rows + [_plain(f"open a table of {n:,} expressions", open_table(n), common) for n in tables]


def as_table(rows: list[Row], peak: float) -> Table:
    """The rows for people."""
    table = Table(title=f"Best matrix product: {peak / 1e9:.0f} Gflop/s", title_justify="left")
    for column in ("", "ours", "literal", "times faster", "MiB", "literal", "remarks"):
        table.add_column(column, justify="left" if not column else "right", overflow="fold")

    def cell(row: Row, key: str, form: str) -> str:
        return "" if row.get(key) is None else form.format(row[key])

    for row in rows:
        remark = row.get("note") or cell(row, "share_of_peak", "{:.0%} of the best rate")
        memory = cell(row, "ours_peak_mib", "{:,.0f}"), cell(row, "literal_peak_mib", "{:,.0f}")
        times = cell(row, "ours_s", "{:.3f} s"), cell(row, "literal_s", "{:.3f} s"), cell(row, "ratio", "{:.2f}")
        table.add_row(row["name"], *times, *memory, remark)
        if "ratio_against" in row:
            before = cell(row, "against_s", "{:.3f} s"), "", cell(row, "ratio_against", "{:.2f}")
            table.add_row("  the other commit", *before, cell(row, "against_peak_mib", "{:,.0f}"), "", "")
    return table


def _plain(name: str, seconds: float, setting: Setting) -> Row:
    """A row without a literal counterpart."""
    missing: Row = dict.fromkeys(("literal_s", "ratio", "ours_peak_mib", "literal_peak_mib"))
    return {"name": name, "ours_s": seconds, **missing, "device": setting.device, "threads": setting.threads}


@contextmanager
def _worktree(reference: str | None) -> Iterator[Path | None]:
    """The source folder of another commit."""
    if reference is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), reference], cwd=ROOT, check=True)
        try:
            yield tree / "src"
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def _say(text: str) -> None:
    Console(stderr=True).print(text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(run.__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: ten minutes on two idle cores")
    parser.add_argument("--out", type=Path, help="write the rows as JSON to this file")
    parser.add_argument("--against", metavar="GIT_REF", help="also time the network of another commit")
    parser.add_argument("--growth", action="store_true", help="also: cost against image side, expressions, batch, data")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="of PyTorch; by default as many as cores, at most 8")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compiled", action="store_true", help="compile the networks")
    parser.add_argument("--size", choices=tuple(SIZES), default="base", help="tiny is for tests")
    parser.add_argument("--pixels", type=int, default=448, help="side of the images")
    parser.add_argument("--only", nargs="+", choices=(*ROUNDS, "overhead", "loader"), help="which rows; by default all")
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
