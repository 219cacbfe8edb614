"""Measurements as ratios: the networks take turns in one run, so that a busy or slow machine treats them alike."""

import statistics
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import Setting
from benchmarks.worker import Worker

Row = dict[str, Any]


def compare(name: str, setting: Setting, repeats: int, against: Path | None = None, peak: float = 0.0) -> Row:
    """Time our network against the literal one, and against that of another source folder if there is one.

    Args:
        name: Name of the row.
        setting: What to time; its `side` is set here.
        repeats: Rounds; in each every network runs once. The medians are compared.
        against: Folder with another version of the package ``maskris``.
        peak: The machine's matrix product rate in operations per second, for the share reached.

    Returns:
        A row of the result file: seconds and MiB per side, ``ratio`` of the times (above 1: ours is faster).
    """
    sides: dict[str, tuple[Setting, Path | None]] = {
        "ours": (replace(setting, side="ours"), None),
        "literal": (replace(setting, side="literal"), None),
    }
    if against is not None:
        sides["against"] = (replace(setting, side="ours"), against)
    with ExitStack() as stack:
        workers = {side: stack.enter_context(Worker(*arguments)) for side, arguments in sides.items()}
        times: dict[str, list[float]] = {side: [] for side in workers}
        for _ in range(repeats):
            for side, worker in workers.items():
                times[side].append(worker.run())
        ends = {side: worker.finish() for side, worker in workers.items()}
    row: Row = {"name": name}
    for side, values in times.items():
        row[f"{side}_s"] = statistics.median(values)
    row["ratio"] = row["literal_s"] / row["ours_s"]
    if against is not None:
        row["ratio_against"] = row["against_s"] / row["ours_s"]
    for side, end in ends.items():
        row[f"{side}_peak_mib"] = end["peak_mib"]
        row[f"{side}_gflop"] = end["flops"] / 1e9
    row["share_of_peak"] = ends["ours"]["flops"] / row["ours_s"] / peak if peak else None
    return row | _described(setting)


def alone(setting: Setting, repeats: int) -> Row:
    """Time, memory and operations of our network by itself."""
    with Worker(setting) as worker:
        seconds = statistics.median(worker.run() for _ in range(repeats))
        return {"seconds": seconds, **worker.finish()}


def beside(name: str, setting: Setting, repeats: int, known: Row, peak: float = 0.0) -> Row:
    """Time another setting of our network, beside the literal one's numbers of a row that was measured in this run.

    Args:
        name: Name of the row.
        setting: What to time; it asks the same of the literal network as that of `known`.
        repeats: Rounds.
        known: A row of `compare`.
        peak: As for `compare`.
    """
    found = alone(setting, repeats)
    literal = {key: value for key, value in known.items() if key.startswith("literal_")}
    row: Row = {"name": name, "ours_s": found["seconds"], **literal}
    row["ratio"] = row["literal_s"] / row["ours_s"]
    row |= {"ours_peak_mib": found["peak_mib"], "ours_gflop": found["flops"] / 1e9}
    row["share_of_peak"] = found["flops"] / row["ours_s"] / peak if peak else None
    return row | _described(setting)


def _described(setting: Setting) -> Row:
    """What a row says of its setting; its name and columns say the rest."""
    return {key: value for key, value in asdict(setting).items() if key not in ("case", "side")}


def peak_rate(threads: int, device: str = "cpu", side: int = 2048, repeats: int = 5) -> float:
    """Operations per second of the machine's best matrix product in single precision."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(2, side, side, device=device)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        (a @ b)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
