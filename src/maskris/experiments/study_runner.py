"""`run_study`: a process for each variant and seed of a study; what is complete isn't repeated."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from maskris.data.shapes.writer import embedded_data
from maskris.data.table import ReferringTable, choose_splits, open_tables, table_sha256
from maskris.evaluation.evaluator import evaluate
from maskris.experiments.recipe import Recipe
from maskris.experiments.run import build_trainer
from maskris.experiments.study import Study, StudyError, check_variant, plan_study
from maskris.experiments.study_results import DONE, StudyResults, is_complete, load_study, rows_file, run_folder
from maskris.robustness.occlusion import PatchOcclusion
from maskris.training.run_record import read_run
from maskris.utils.files import read_json, write_json
from maskris.utils.process import StopSignals, usable_cores
from maskris.utils.progress import show_progress
from maskris.utils.runstore import RunStore

PLAN = "plan.json"
"""In the folder of a study: what determines its results."""

OCCLUSION_PATCHES = 8  # along the shorter side of the input: 8 px at 64, 56 px at 448


class RunsFailedError(RuntimeError):
    """Runs of a study that failed; the message names their logs."""


def run_study(
    study: Study | str,
    out: str | Path,
    *,
    data: Sequence[str | Path] = (),
    splits: Sequence[str] | None = None,
    jobs: int = 1,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    train: bool = True,
) -> StudyResults:
    """Train the variants of a study with several seeds and evaluate them, clean and with parts of the image hidden.

    A run that is complete isn't repeated, and one that was interrupted goes on. Every run is a process of its own; with
    several GPUs, each of the `jobs` gets one of them. Ctrl-C stops all of them in good order.

    Args:
        study: What is compared, or the name of a shipped study or of a YAML file.
        out: Folder of the runs, for this study, data and splits alone; variants and seeds may be added later.
        data: Parquet files written by `prepare_dataset`; by default the embedded data set is drawn.
        splits: Splits to compare on; ``["val"]`` by default.
        jobs: Runs at the same time.
        threads: Threads of each run; by default the cores are shared out.
        overrides: Keys of the recipe with their values, for all variants.
        train: Set to ``False``, only what is there is read.

    Raises:
        OtherRunError: If the folder is of another study, other data or other splits; names the differences.
        StudyError: If a variant is refused; nothing is trained then.
        RunsFailedError: If runs failed; called again, they are repeated.
        ValueError: If no run is complete.
    """
    study, folder = plan_study(study) if isinstance(study, str) else study, Path(out)
    for name, number in {"jobs": jobs, "threads": threads}.items():
        if number is not None and number < 1:
            raise StudyError(f"{name} must be at least 1, not {number}")
    files = [Path(file) for file in data]
    table = open_tables(files) if files else None
    chosen = list(splits or ["val"]) if splits or train else None
    plan = _plan(study, overrides, table, files, chosen)
    if not train and not files:
        del plan["data"]  # a report needs none
    store = _plan_store(folder, plan)
    store.check()
    if not train:
        return load_study(study, folder)
    recipes = {variant.name: folder / "recipes" / f"{variant.folder}.yaml" for variant in study.variants}
    for variant in study.variants:
        check_variant(variant, recipes[variant.name], overrides)
    if table is None:
        table = embedded_data(folder / "data", seed=0, images=study.scenes)
        files = [folder / "data" / "shapes.parquet"]
    choose_splits(table, chosen, "--splits")
    store.update()
    todo = []
    for seed in study.seeds:  # in the outer loop, so that early results span all variants
        for variant in study.variants:
            run = run_folder(folder, variant, seed)
            if not is_complete(run, study.occlusion):
                job = {
                    "recipe": str(recipes[variant.name]),
                    "overrides": [*variant.overrides, *overrides],
                    "seed": seed,
                    "data": [str(file) for file in files],
                    "splits": chosen,
                    "occlusion": list(study.occlusion),
                    "threads": threads or max(1, usable_cores() // jobs),
                    "out": str(run),
                }
                write_json(run / "job.json", job)
                todo.append(run / "job.json")
    if failed := run_all(todo, jobs):
        logs = "\n".join(f"  {path}" for path in failed)
        raise RunsFailedError(
            f"{len(failed)} of {len(todo)} runs failed; give the same command again to go on. Their logs:\n{logs}"
        )
    return load_study(study, folder)


def _plan(
    study: Study, overrides: Sequence[str], table: ReferringTable | None, files: list[Path], splits: list[str] | None
) -> dict[str, Any]:
    """What determines the results of a study, as the folder keeps it."""
    plan: dict[str, Any] = {"data": f"{study.scenes} scenes of the embedded data set"}
    if table is not None:
        plan = {"data": table_sha256(table), "files": ", ".join(str(file.resolve()) for file in files)}
    if splits is not None:
        plan["splits"] = splits
    for variant in study.variants:
        recipe = hashlib.sha256(json.dumps(variant.recipe, sort_keys=True, default=str).encode()).hexdigest()[:8]
        plan[f"variant {variant.name}"] = {"recipe": recipe, "overrides": " ".join([*variant.overrides, *overrides])}
    return plan


def _plan_store(folder: Path, plan: dict[str, Any]) -> RunStore:
    """The folder with its plan, in which files may have moved and variants may be added."""
    known = RunStore(folder, plan, [], name=PLAN).read() or {}
    compared = [key for key in plan if key != "files" and (key in known or not key.startswith("variant "))]
    return RunStore(folder, plan, compared, name=PLAN, shown={"data": "files"})


def run_all(files: list[Path], at_once: int) -> list[Path]:
    """Run jobs to their end, each on a GPU of its own where there are several.

    Ctrl-C, SIGTERM and a closed terminal stop all of them, and so does any other end of this process (see
    `stop_with_parent`); every run saves what it has first.

    Args:
        files: Job files; the log of each is ``log.txt`` beside it.
        at_once: So many at a time.

    Returns:
        The logs of those that failed.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = chosen.split(",") if chosen else [str(i) for i in range(torch.cuda.device_count())]
    waiting, free, failed = list(files), list(range(at_once)), []
    running: dict[subprocess.Popen[bytes], tuple[int, Path]] = {}
    with StopSignals() as stop, show_progress("training", len(files), unit="runs") as bar:
        try:
            while (waiting or running) and stop.received is None:
                while waiting and free:
                    slot, file = free.pop(0), waiting.pop(0)
                    running[_start(file, gpus[slot % len(gpus)] if gpus else None)] = (slot, file)
                for process in [process for process in running if process.poll() is not None]:
                    slot, file = running.pop(process)
                    free.append(slot)
                    bar.advance()
                    if process.returncode:
                        failed.append(file.with_name("log.txt"))
                time.sleep(0.2)
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait()
    if stop.received is not None:
        raise KeyboardInterrupt if stop.received == signal.SIGINT else SystemExit(128 + stop.received)
    return failed


def _start(file: Path, gpu: str | None) -> "subprocess.Popen[bytes]":
    environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
    with file.with_name("log.txt").open("ab") as log:
        command = [sys.executable, "-m", "maskris.experiments.study_runner", str(file)]
        # A session of its own, as Ctrl-C in a terminal goes to all processes of a session, and a training that is told
        # twice to stop doesn't take the time to save.
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def run(job: dict[str, Any]) -> int:
    """Do or finish one run.

    Args:
        job: ``recipe`` (file), ``overrides``, ``seed``, ``data`` (Parquet files), ``splits``, ``occlusion`` (shares),
            ``threads`` and ``out`` (folder).

    Returns:
        0, or 128 + the signal that stopped the training.
    """
    torch.set_num_threads(job["threads"])
    out = Path(job["out"])
    recipe = Recipe(job["recipe"], [*job["overrides"], f"--training.seed={job['seed']}"])
    table = open_tables([Path(file) for file in job["data"]])
    trainer = build_trainer(recipe, table, out, validate=False, progress=False)
    result = trainer.fit("auto")
    if result.interrupted is not None:
        return 128 + result.interrupted
    model = trainer.model
    patch = max(1, min(model.preprocess.size) // OCCLUSION_PATCHES)
    unseen = choose_splits(table, job["splits"], "--splits")
    for share in job["occlusion"]:
        if not rows_file(out, share).is_file():
            hidden = PatchOcclusion(share, patch) if share else None
            protocol = recipe.training.protocol
            rows = evaluate(model, unseen, protocol, batch_size=64, perturb=hidden, progress=False, name=out.name)
            rows.save(rows_file(out, share))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    done = {"steps": result.step, "training_seconds": read_run(out).seconds, "parameters": parameters}
    write_json(out / DONE, done)
    return 0


def stop_with_parent(parent: int) -> None:
    """Ask the training to stop when the process that started it is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=stop_with_parent, args=(os.getppid(),), daemon=True).start()
    sys.exit(run(read_json(Path(sys.argv[1]))))
