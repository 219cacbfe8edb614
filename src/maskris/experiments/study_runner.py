"""The folder of a study: ``plan.json`` says what it is of, so that runs of something else are never mixed in."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from maskris.experiments.study import Study, StudyError, Variant

if TYPE_CHECKING:
    from maskris.data.table import ReferringTable


PLAN = "plan.json"


def recipe_file(folder: Path, variant: Variant) -> Path:
    """Where the recipe of a variant lies."""
    return folder / "recipes" / f"{variant.folder}.yaml"


def run_folder(folder: Path, variant: Variant, seed: int) -> Path:
    """Where a variant is trained with a seed."""
    return folder / "runs" / variant.folder / f"seed-{seed}"


def data_of(table: "ReferringTable | None", files: list[Path], scenes: int) -> dict[str, Any]:
    """What a study's data is, as ``plan.json`` keeps it: a table with its files, or the number of embedded scenes."""
    from maskris.evaluation.cache import table_sha256

    if table is None:
        return {"scenes": scenes}
    return {"files": [str(file.resolve()) for file in files], "rows": table_sha256(table)}


def compare_plan(
    folder: Path,
    plan: Study,
    overrides: list[str],
    *,
    data: dict[str, Any] | None = None,
    splits: list[str] | None = None,
) -> dict[str, Any]:
    """What the folder's plan is to hold: what it held, and the variants of `plan`.

    Args:
        folder: Of the study.
        plan: What is to be compared.
        overrides: Command-line words for all variants.
        data: From `data_of`; not compared if left out.
        splits: Where runs are compared; not compared if left out.

    Raises:
        StudyError: If the folder is of another study, other data or other splits; says which.
    """
    new: dict[str, Any] = {
        "variants": {v.name: [*v.overrides, *overrides] for v in plan.variants},
        "recipes": {v.name: v.recipe for v in plan.variants},
        "data": data,
        "splits": splits,
    }
    file = folder / PLAN
    if not file.is_file():
        return new
    old = json.loads(file.read_text(encoding="utf-8"))
    common = [name for name in new["variants"] if name in old["variants"]]
    if changed := [n for n in common if any(old[key][n] != new[key][n] for key in ("variants", "recipes"))]:
        raise StudyError(f"{folder} holds another study ({', '.join(changed)} differs); give another --out")
    if data is not None and _same_data(data) != _same_data(old["data"]):
        raise StudyError(
            f"{folder} holds runs on {_data_text(old['data'])}, not on {_data_text(data)}; give that data again, or "
            "another --out"
        )
    if splits is not None and splits != old["splits"]:
        found = " ".join(old["splits"])
        raise StudyError(f"{folder} compares on --splits {found}, not {' '.join(splits)}; give another --out")
    new |= {key: old[key] for key in ("data", "splits")}
    return new | {key: old[key] | new[key] for key in ("variants", "recipes")}


def write_plan(folder: Path, kept: dict[str, Any]) -> None:
    """Keep what `compare_plan` gave."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN).write_text(json.dumps(kept, indent=1, default=str) + "\n", encoding="utf-8")


def job_files(
    folder: Path, plan: Study, overrides: list[str], *, data: list[Path], splits: list[str], threads: int
) -> list[Path]:
    """Job files of the runs that are not complete; seeds in the outer loop, so that early results span all variants."""
    from maskris.experiments.study_results import is_complete

    jobs = []
    for seed in plan.seeds:
        for variant in plan.variants:
            out = run_folder(folder, variant, seed)
            if is_complete(out, plan.occlusion):
                continue
            out.mkdir(parents=True, exist_ok=True)
            values: dict[str, Any] = {
                "recipe": str(recipe_file(folder, variant)),
                "overrides": [*variant.overrides, *overrides],
                "seed": seed,
                "data": [str(file) for file in data],
                "splits": splits,
                "occlusion": list(plan.occlusion),
                "threads": threads,
                "out": str(out),
            }
            (out / "job.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
            jobs.append(out / "job.json")
    return jobs


def _same_data(data: dict[str, Any]) -> dict[str, Any]:
    """What must be the same; files may have moved."""
    return {key: value for key, value in data.items() if key != "files"}


def _data_text(data: dict[str, Any]) -> str:
    return ", ".join(data["files"]) if "files" in data else f"{data['scenes']} scenes of the embedded data"


def run_all(files: list[Path], at_once: int) -> list[Path]:
    """Run jobs to their end, each on a GPU of its own where there are several.

    Ctrl-C, SIGTERM and the end of the terminal stop all of them; every run saves what it has first.

    Args:
        files: Job files, see `maskris.experiments.study_runner`; the log of each is ``log.txt`` beside it.
        at_once: So many at a time.

    Returns:
        The logs of those that failed.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    gpus = _gpus()
    waiting, running, failed = list(files), {}, []  # type: ignore[var-annotated]
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with signals_as_exceptions(), Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("runs", total=len(files))
        free = list(range(at_once))
        try:
            while waiting or running:
                while waiting and free:
                    slot, file = free.pop(0), waiting.pop(0)
                    running[_start(file, gpus[slot % len(gpus)] if gpus else None)] = (slot, file)
                for process in [p for p in running if p.poll() is not None]:
                    slot, file = running.pop(process)
                    free.append(slot)
                    bar.advance(task)
                    if process.returncode:
                        failed.append(file.with_name("log.txt"))
                time.sleep(0.2)
        except BaseException:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait()
            raise
    return failed


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """What would end the process without a word leaves time to stop the runs, as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()  # Python allows no handlers elsewhere
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if main and hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]  # nohup ignores SIGHUP
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _start(file: Path, gpu: str | None) -> "subprocess.Popen[bytes]":
    environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
    with file.with_name("log.txt").open("ab") as log:
        command = [sys.executable, "-m", "maskris.experiments.study_runner", str(file)]
        # A session of its own, as Ctrl-C in a terminal goes to all processes of a session, and a training that is told
        # twice to stop doesn't take the time to save.
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def _gpus() -> list[str]:
    if chosen := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return chosen.split(",")
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


OCCLUSION_PATCHES = 8  # along the shorter side of the input: 8 px at 64, 56 px at 448


def run(job: dict[str, Any]) -> int:
    """Do or finish one run.

    Args:
        job: ``recipe`` (file), ``overrides``, ``seed``, ``data`` (Parquet files), ``splits``, ``occlusion`` (shares),
            ``threads`` and ``out`` (folder).

    Returns:
        0, or 128 + the signal that stopped the training.
    """
    import torch

    from maskris.data.table import choose_splits, open_tables
    from maskris.evaluation.evaluator import evaluate
    from maskris.experiments.recipe import Recipe, make_trainer
    from maskris.experiments.study_results import DONE, rows_file
    from maskris.robustness.occlusion import PatchOcclusion
    from maskris.training.run_record import read_run

    if job["threads"]:
        torch.set_num_threads(job["threads"])
    out = Path(job["out"])
    recipe = Recipe(job["recipe"], [*job["overrides"], f"--training.seed={job['seed']}"])
    table = open_tables([Path(file) for file in job["data"]])
    trainer = make_trainer(recipe, table, out, validate=False, progress=False)
    result = trainer.fit("auto")
    if result.interrupted is not None:
        return 128 + result.interrupted
    model, config = trainer.model, recipe.training
    patch = max(1, min(model.preprocess.size) // OCCLUSION_PATCHES)
    unseen = choose_splits(table, job["splits"], "--splits")
    for share in job["occlusion"]:
        if not rows_file(out, share).is_file():
            hidden = PatchOcclusion(share, patch) if share else None
            evaluate(model, unseen, config.protocol, batch_size=64, perturb=hidden, progress=False, name=out.name).save(
                rows_file(out, share)
            )
    seconds, parameters = read_run(out).seconds, sum(p.numel() for p in model.parameters())
    done = {"steps": result.step, "training_seconds": seconds, "parameters": parameters}
    (out / DONE).write_text(json.dumps(done) + "\n", encoding="utf-8")
    return 0


def stop_with_parent(parent: int) -> None:
    """Ask the training to stop when the process that started it is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=stop_with_parent, args=(os.getppid(),), daemon=True).start()
    sys.exit(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
