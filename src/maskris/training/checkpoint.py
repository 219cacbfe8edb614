"""Checkpoints that survive a kill at any moment: ``last`` to go on from, ``best`` to use.

``last/`` is a model folder (`RISModel.save_pretrained`, usable for prediction as it is) with more files:
``optimizer.safetensors`` (moments under the names of their parameters), ``strategy.safetensors`` (only where the method
keeps state) and ``state.json`` (the counters). Nothing is pickled. The learning rate and all randomness are functions
of the step, so they need no state.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from maskris.models.base import RISModel
from maskris.models.loading import read_json, read_tensors
from maskris.strategies.base import Strategy

WEIGHTS = "model.safetensors"

OPTIMIZER = "optimizer.safetensors"

STRATEGY = "strategy.safetensors"

STATE = "state.json"


class CheckpointError(RuntimeError):
    """A run can't be started or continued in this folder as asked; the message says why and what to do."""


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Write a folder so that either its old or its new contents exist completely, whenever the process dies.

    Yields:
        An empty folder to write to; it takes the place of `folder` when the block ends without an exception.
    """
    new, old = _beside(folder)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    for path in [*new.rglob("*"), new]:
        _sync(path)
    shutil.rmtree(old, ignore_errors=True)
    # There is no portable call that swaps folders; `recover` completes what dies between the two renamings.
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Finish or undo a `replace_folder` that was interrupted."""
    new, old = _beside(folder)
    if not folder.exists() and old.exists():
        # The old one steps aside only when the new one is complete.
        (new if new.exists() else old).rename(folder)
        _sync(folder.parent)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows can't open folders
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_model(folder: Path, model: RISModel) -> None:
    """Replace `folder` by the model, atomically."""
    with replace_folder(folder) as new:
        model.save_pretrained(new)


def save_training(
    folder: Path, model: RISModel, optimizer: Optimizer, strategy: Strategy, state: dict[str, Any]
) -> None:
    """Replace `folder` by the model, the optimizer's moments, the strategy's state and the counters, atomically.

    Args:
        folder: Usually ``<run>/last``.
        model: As it is after the step that `state` names.
        optimizer: Its moments are tensors, as those of all optimizers of PyTorch.
        strategy: The method, after the same step.
        state: JSON types.
    """
    with replace_folder(folder) as new:
        model.save_pretrained(new)
        save_file(_moments(model, optimizer), new / OPTIMIZER)
        if kept := strategy.state_dict():
            save_file({name: value.contiguous() for name, value in kept.items()}, new / STRATEGY)
        (new / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")


def load_state(folder: Path) -> dict[str, Any]:
    """The counters of a checkpoint.

    Raises:
        CheckpointError: If `folder` holds none (``best`` is for use, only ``last`` can be continued).
        ValueError: If the file is damaged.
    """
    if not (folder / STATE).is_file():
        raise CheckpointError(
            f"{folder} can't be continued: there is no {STATE} in it. Give the `last` folder of a run"
        )
    return read_json(folder / STATE)


def load_training(folder: Path, model: RISModel, optimizer: Optimizer, strategy: Strategy) -> None:
    """Bring the weights, the moments and the strategy's state back, bit for bit.

    Args:
        folder: What `save_training` wrote.
        model: On its device; of the same architecture.
        optimizer: Over the model's parameters.
        strategy: Of the class and settings that `check_same_run` has compared.

    Raises:
        CheckpointError: If the weights, moments or state are not those of such a model and strategy.
        ValueError: If a file is damaged.
    """
    try:
        model.load_state_dict(read_tensors(folder / WEIGHTS))
    except RuntimeError as error:
        raise CheckpointError(f"{folder} holds another model than the one to train: {error}") from error
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in read_tensors(folder / OPTIMIZER).items():
        kind, _, name = key.partition("/")
        moments.setdefault(name, {})[kind] = value
    names = _names(model, optimizer)
    if unknown := sorted(set(moments) - set(names)):
        raise CheckpointError(f"{folder / OPTIMIZER} has moments of unknown parameters: {', '.join(unknown)}")
    saved = {i: moments[name] for i, name in enumerate(names) if name in moments}
    optimizer.load_state_dict({"state": saved, "param_groups": optimizer.state_dict()["param_groups"]})
    device = next(model.parameters()).device
    kept = read_tensors(folder / STRATEGY, str(device)) if (folder / STRATEGY).is_file() else {}
    try:
        strategy.load_state_dict(kept)
    except ValueError as error:
        raise CheckpointError(f"{folder} can't be continued: {error}") from error


def _moments(model: RISModel, optimizer: Optimizer) -> dict[str, Tensor]:
    """Keys such as ``exp_avg/decoder.weight``."""
    tensors = {}
    names = _names(model, optimizer)
    for i, values in optimizer.state_dict()["state"].items():
        for kind, value in values.items():
            tensors[f"{kind}/{names[i]}"] = torch.as_tensor(value).contiguous()
    return tensors


def _names(model: RISModel, optimizer: Optimizer) -> list[str]:
    """Names of the parameters in the order in which the optimizer numbers them."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def check_same_run(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    """Refuse to continue a run as another one.

    Args:
        old: What determined the results when the checkpoint was written, key by key.
        new: The same now.
        folder: The checkpoint, for the message.

    Raises:
        CheckpointError: If they differ; names every key with both values.
    """
    new = json.loads(json.dumps(new))  # tuples are lists in the file
    changes = [
        f"  {key}: {_show(old, key)} in the checkpoint, {_show(new, key)} now"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key) or (key in old) != (key in new)
    ]
    if changes:
        raise CheckpointError(
            f"{folder} belongs to another run:\n"
            + "\n".join(changes)
            + "\nContinue with the old values, or start a new run in another folder; training.init_from takes over "
            "weights alone"
        )


def _show(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "nothing"
