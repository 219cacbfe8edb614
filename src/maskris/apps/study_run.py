"""One run of a study in a process of its own: train, evaluate under every occlusion, write rows."""

import json
import os
import signal
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

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

    from maskris.apps.building import make_trainer
    from maskris.apps.commands import choose_splits, open_tables
    from maskris.apps.recipe import Recipe
    from maskris.evaluation.evaluate import evaluate
    from maskris.evaluation.robustness import PatchOcclusion
    from maskris.evaluation.study import DONE, rows_file

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
    seconds = training_seconds(trainer.folder.path, config.batch_size * config.referents_per_image)
    done = {"steps": result.step, "training_seconds": seconds, "parameters": sum(p.numel() for p in model.parameters())}
    (out / DONE).write_text(json.dumps(done) + "\n", encoding="utf-8")
    return 0


def training_seconds(folder: Path, expressions: int) -> float:
    """Seconds that the steps of a run took, over all its interruptions.

    Args:
        folder: The run folder with its ``metrics.jsonl``.
        expressions: Seen in one step.
    """
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [{"step": 0}, *(line for line in lines if line["event"] == "train")]
    seconds = [
        (new["step"] - old["step"]) * expressions / new["expressions_per_second"] for old, new in pairwise(trained)
    ]
    return float(sum(seconds))


def stop_with_parent(parent: int) -> None:
    """Ask the training to stop when the process that started it is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=stop_with_parent, args=(os.getppid(),), daemon=True).start()
    sys.exit(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
