"""Checkpoints to continue a run from: the model, the optimizer's moments, the strategy's state and the counters.

A checkpoint is a model folder (`RISModel.save_pretrained`, usable for prediction as it is) with more files:
``optimizer.safetensors`` (moments by names such as ``exp_avg/decoder.weight``), ``strategy.safetensors`` (only where
the method keeps state) and ``state.json`` (the counters). Nothing is pickled. The learning rate and all randomness are
functions of the step, so they need no state.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from maskris.models.base import RISModel
from maskris.strategies.base import Strategy
from maskris.training.run_record import STATE
from maskris.utils.files import atomic_folder, read_json, read_tensors, write_json

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STRATEGY = "strategy.safetensors"


class CheckpointError(RuntimeError):
    """A run can't be started or continued in this folder as asked; the message has the reason and what to do."""


def save_checkpoint(
    folder: Path, model: RISModel, optimizer: Optimizer, strategy: Strategy, state: dict[str, Any]
) -> None:
    """Replace `folder` by a checkpoint, atomically; the counters in `state` are JSON types."""
    with atomic_folder(folder) as new:
        model.save_pretrained(new)
        names = _names(model, optimizer)
        moments = {
            f"{kind}/{names[i]}": torch.as_tensor(value).contiguous()
            for i, values in optimizer.state_dict()["state"].items()
            for kind, value in values.items()
        }
        save_file(moments, new / OPTIMIZER)
        if kept := strategy.state_dict():
            save_file({name: value.contiguous() for name, value in kept.items()}, new / STRATEGY)
        write_json(new / STATE, state)


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
    state: dict[str, Any] = read_json(folder / STATE)
    return state


def load_checkpoint(folder: Path, model: RISModel, optimizer: Optimizer, strategy: Strategy) -> None:
    """Restore the weights of a model on its device, the moments and the strategy's state, bit for bit.

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


def _names(model: RISModel, optimizer: Optimizer) -> list[str]:
    """Names of the parameters in the order in which the optimizer numbers them."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
