"""Published checkpoint files, read without executing what is in them.

A `.pth` file is a pickle, and a pickle is a program. These are read by PyTorch's restricted unpickler, to which the few
harmless classes are added that training scripts leave beside the weights; anything else is refused by its name.
"""

import argparse
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from maskris.models.files import read_tensors

_WEIGHTS = ("model", "state_dict")

# A part of the network that training scripts keep beside the rest, and the name under which others have it inside.
_BESIDE = {"bert_model": "text_encoder."}


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file.

    Attributes:
        weights: The bare state dict, without ``module.`` in front of its names.
        arguments: What the training script was called with, if the file says so.
        others: What else the file holds (optimiser, epoch, ...), by name.
    """

    weights: dict[str, Tensor]
    arguments: dict[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the weights of a checkpoint file of any common kind, on the CPU.

    Known are ``.safetensors`` and PyTorch's zip and legacy formats; the weights may lie at the top or under ``model``
    or ``state_dict``, beside optimiser states, numpy scalars and an `argparse.Namespace`. A text encoder of its own
    (``bert_model``, the variant `lavt` of LAVT) joins them as ``text_encoder.*``, its name in `lavt_one`.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, is damaged, holds no weights, or asks for code to be run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint file {path}")
    if path.suffix == ".safetensors":
        return Checkpoint(_strip(read_tensors(path)))
    contents = _load(path)
    arguments: dict[str, Any] = {}
    others: list[str] = []
    beside: dict[str, Tensor] = {}
    while not _is_state_dict(contents):
        if not isinstance(contents, Mapping):
            raise ValueError(f"{path} holds a {type(contents).__name__}, not a dictionary with weights")
        inner = next((key for key in _WEIGHTS if isinstance(contents.get(key), Mapping)), None)
        if inner is None:
            raise ValueError(
                f"{path} holds no weights: neither tensors by name nor {' or '.join(map(repr, _WEIGHTS))} is at its "
                f"top, but {', '.join(map(repr, list(contents)[:10])) or 'nothing'}"
            )
        for key, value in contents.items():
            if isinstance(value, argparse.Namespace):
                arguments |= vars(value)
            elif key in _BESIDE and _is_state_dict(value):
                beside |= {_BESIDE[key] + name: tensor for name, tensor in _strip(value).items()}
            elif key != inner:
                others.append(str(key))
        contents = contents[inner]
    return Checkpoint(_strip(contents) | beside, arguments, tuple(others))


def _load(path: Path) -> Any:
    """`torch.load` with the short list of allowed classes; tensors of a zip file stay on disk until they are used."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        message = str(error)
        if refused := re.search(r"GLOBAL (\S+)|but got (.+)|unrecognized function (.+)", message):
            raise ValueError(
                f"{path} was refused: it asks for {next(filter(None, refused.groups()))}, which could run code. Only "
                "tensors, plain values, numpy scalars and argparse.Namespace are read. If you trust the file, load it "
                "yourself and save the state dict alone."
            ) from None
        if isinstance(error, pickle.UnpicklingError) and (operand := re.search(r"Unsupported operand \d+", message)):
            message = f"{operand.group()} (not the pickle protocol of torch.save)"
        raise ValueError(f"{path} is damaged or no PyTorch checkpoint: {type(error).__name__} {message}") from error


def _allowed() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What may be built besides tensors and plain values: the script's arguments and numpy scalars."""
    numeric = [type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"]
    return [argparse.Namespace, np.dtype, *dict.fromkeys(numeric), *_SCALARS]


def _scalar_under(module: str) -> Callable[..., Any]:
    """The function that rebuilds a numpy scalar from its bytes, under the name by which old or new files call it."""

    def scalar(dtype: Any, data: Any = b"") -> Any:
        if not (isinstance(dtype, np.dtype) and dtype.kind in "biufc" and isinstance(data, bytes)):
            raise pickle.UnpicklingError(f"A numpy scalar of numbers was expected, but got {dtype!r}")
        return np.frombuffer(data, dtype)[0]

    scalar.__module__, scalar.__qualname__ = module, "scalar"  # PyTorch compares names with the file's
    return scalar


_SCALARS = [_scalar_under(module) for module in ("numpy.core.multiarray", "numpy._core.multiarray")]


def _is_state_dict(contents: Any) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(contents, Mapping)
        and len(contents) > 0
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in contents.items())
    )


def _strip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the ``module.`` that data-parallel training puts in front of every name."""
    stripped = dict(weights)
    while stripped and all(name.startswith("module.") for name in stripped):
        stripped = {name.removeprefix("module."): tensor for name, tensor in stripped.items()}
    return stripped
