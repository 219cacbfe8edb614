"""What the processes of `test_processes` do; a module of its own, because they must be able to import it."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from training_toys import Averaged, KillSelf, ToyModel, TwoPasses, toy_config, toy_run, toy_trainer

from maskris.batch import Batch
from maskris.training import checkpoint
from maskris.training import run_folder as run
from maskris.training.distributed import ParallelModel, make_accelerator
from maskris.training.trainer import NonFiniteError
from maskris.utils.runstore import FolderInUseError


def run_and_die(out: Path, step: int, changes: dict) -> None:
    toy_run(out, strategy=TwoPasses(hook=KillSelf(step)), **changes)


def run_plain(out: Path, changes: dict) -> None:
    toy_run(out, **changes)


def run_and_wait(out: Path, step: int) -> None:
    """Stays in the given step, and says so by a file; with a worker that is forked, as in commands."""
    multiprocessing.set_start_method("fork", force=True)

    def hook(now: int) -> None:
        if now == step:
            (out / "waiting").touch()
            time.sleep(600)

    toy_run(out, strategy=TwoPasses(hook=hook), workers=1)


def be_refused(out: Path) -> None:
    run.LOCK_SECONDS = 0.1
    with pytest.raises(FolderInUseError, match="Another process is at work in"):
        toy_run(out)


def run_averaged(out: Path, die: int | None = None) -> None:
    """With batch statistics, which the average takes over."""
    hook = None if die is None else KillSelf(die)
    toy_run(out, strategy=Averaged(hook), steps=30, save_every=4, batch_norm=True)


def run_averaged_and_die_while_saving(out: Path, call: int) -> None:
    run_and_die_while_saving(out, call, strategy=Averaged(), save_every=4, batch_norm=True)


def run_and_die_while_saving(out: Path, call: int, **changes: Any) -> None:
    """Dies in the given call of the functions that write a checkpoint to the disk."""
    calls = 0

    def dying(function):
        def wrapper(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return wrapper

    os.fsync = dying(os.fsync)
    shutil.rmtree = dying(shutil.rmtree)
    Path.rename = dying(Path.rename)
    checkpoint.save_file = dying(checkpoint.save_file)
    toy_run(out, **({"steps": 30, "save_every": 10} | changes))


OPTIONS = {"dropout": 0.0, "steps": 6, "batch_size": 8}


def run_noiseless(out: Path, gradient_accumulation_steps: int) -> None:
    toy_run(out, strategy=TwoPasses(noise=0.0), gradient_accumulation_steps=gradient_accumulation_steps, **OPTIONS)


def count_communication(out: Path) -> None:
    trainer = toy_trainer(out, strategy=TwoPasses(), gradient_accumulation_steps=2, steps=5, batch_size=8)
    counted, noise = [], []
    make = ParallelModel.__init__

    def watched(self, model, accelerator):
        make(self, model, accelerator)

        def hook(state, bucket):
            counted.append(bucket.index())
            return allreduce_hook(state, bucket)

        self._module.register_comm_hook(None, hook)

    ParallelModel.__init__ = watched
    draw = torch.randn
    torch.randn = lambda *size, **options: noise.append(draw(*size, **options)) or noise[-1]
    trainer.fit()
    (out / f"rank{trainer.rank}.json").write_text(json.dumps([counted, [value.sum().item() for value in noise]]))


class SpoiltOnSecond(TwoPasses):
    def losses(self, model, batch, rng):
        for loss in super().losses(model, batch, rng):
            yield loss * float("nan") if rng.key[2:4] == (2, 1) else loss


def fail_together(out: Path) -> None:
    try:
        toy_run(out, strategy=SpoiltOnSecond(), batch_size=8)
    except NonFiniteError as error:
        (out / f"error{os.environ['RANK']}").write_text(str(error))


def stop_together(out: Path) -> None:
    hook = KillSelf(3, signal.SIGTERM) if os.environ["RANK"] == "1" else None
    result = toy_run(out, strategy=TwoPasses(hook=hook), batch_size=8)
    assert (result.interrupted, result.step) == (signal.SIGTERM, 4)
    result = toy_run(out, batch_size=8)
    assert (result.interrupted, result.step) == (None, 8)


def run_two(out: Path) -> None:
    toy_run(out, batch_size=8)


def average_together(out: Path) -> None:
    """Uninterrupted and stopped in the middle; every process writes down its own average."""
    options = {"batch_size": 8, "batch_norm": True}
    for name, hook in (("parts", KillSelf(3, signal.SIGTERM)), ("parts", None), ("whole", None)):
        strategy = Averaged(hook if os.environ["RANK"] == "1" else None)
        toy_run(out / name, strategy=strategy, **options)
        save_file(strategy.state_dict(), out / f"{name}{os.environ['RANK']}.safetensors")


def misuse(out: Path) -> None:
    # Without a GPU, processes find each other on the CPU although nobody asked for it.
    accelerator = make_accelerator(toy_config(device="cpu" if torch.cuda.is_available() else "auto"))
    assert accelerator.num_processes == 2
    parallel = ParallelModel(ToyModel(), accelerator)
    with pytest.raises(AttributeError, match=r"must call model\(batch\), not model\.encode_image"):
        parallel.encode_image(torch.zeros(1, 3, 8, 8))
    assert parallel.upsample(torch.zeros(1, 2, 4, 4), (8, 8)).shape == (1, 2, 8, 8)
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.ones(1, 2).long(), torch.ones(1, 2).long(), torch.zeros(1).long())
    assert not parallel.functional_forward(parallel.state_dict(), batch).requires_grad
    with pytest.raises(NotImplementedError, match="ToyModel does not define token_features"):
        parallel.token_features(batch)
    ToyModel.token_features = lambda self, batch: (self.image(batch.images).half(), self.words(batch.input_ids))
    patches, words = parallel.token_features(batch)
    assert (patches.dtype, patches.requires_grad, words.requires_grad) == (torch.float32, False, False)
    with pytest.raises(ValueError, match=r"batch_size = 3 can't be cut into equal pieces for 2 processes"):
        make_accelerator(toy_config(batch_size=3))
