"""Published checkpoint files, read without executing what is in them.

A `.pth` file is a pickle, and a pickle is a program. These are read by PyTorch's restricted unpickler, to which the few
harmless classes are added that training scripts leave beside the weights; anything else is refused by its name.
"""

import argparse
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from maskris.utils.files import read_tensors, stand_in

_WEIGHTS = ("model", "state_dict")
_BESIDE = {"bert_model": "text_encoder."}  # a part kept beside the rest, and the name under which others have it inside


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file.

    Attributes:
        weights: The bare state dict, without ``module.`` in front of its names.
        arguments: What the training script was called with, if the file says so.
        others: What else the file holds (optimizer, epoch, ...), by name.
    """

    weights: dict[str, Tensor]
    arguments: dict[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the weights of a checkpoint file of any common kind, on the CPU.

    Known are ``.safetensors`` and PyTorch's zip and legacy formats; the weights may lie at the top or under ``model``
    or ``state_dict``, beside optimizer states, numpy scalars and an `argparse.Namespace`. A text encoder of its own
    (``bert_model``, the variant `lavt` of LAVT) joins them as ``text_encoder.*``, its name in `lavt_one`.

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
    beside: dict[str, Tensor] = {}
    others: list[str] = []
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
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged or hostile pickle can fail in any way
        message = str(error)
        unsafe = isinstance(error, pickle.UnpicklingError)
        if unsafe and (refused := re.search(r"GLOBAL (\S+)|but got (.+)|unrecognized function (.+)", message)):
            raise ValueError(
                f"{path} was refused: it asks for {next(filter(None, refused.groups()))}, which could run code. Only "
                "tensors, plain values, numpy scalars and argparse.Namespace are read. If you trust the file, load it "
                "yourself and save the state dict alone."
            ) from None
        if unsafe and (operand := re.search(r"Unsupported operand \d+", message)):
            message = f"{operand.group()} (not the pickle protocol of torch.save)"
        reason = f"{type(error).__name__} {message.partition('(Could this')[0]}".strip()
        found = stand_in(path) or f"{path} is damaged or no PyTorch checkpoint: {reason}"
        raise ValueError(found) from error


def _scalar_under(module: str) -> Callable[..., Any]:
    """The function that rebuilds a numpy scalar from its bytes, under the name by which old or new files call it."""

    def scalar(dtype: Any, data: Any = b"") -> Any:
        if not (isinstance(dtype, np.dtype) and dtype.kind in "biufc" and isinstance(data, bytes)):
            raise pickle.UnpicklingError(f"A numpy scalar of numbers was expected, but got {dtype!r}")
        return np.frombuffer(data, dtype)[0]

    scalar.__module__, scalar.__qualname__ = module, "scalar"  # PyTorch compares names with the file's
    return scalar


_ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"},
    *(_scalar_under(module) for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
]
"""What may be built besides tensors and plain values: the script's arguments and numpy scalars."""


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


def is_torchscript(path: Path) -> bool:
    """Whether a file is a zip file with TorchScript code in it (`torch.save` writes zip files too, without code)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """The parameters and buffers of a module saved by `torch.jit.save`, on the CPU, named as in ``state_dict()``.

    Tensors that are attributes without being parameters count too.

    Raises:
        ValueError: If the file is damaged, or asks for anything but modules, plain values and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(pickled) != 1:
                raise ValueError("it has no data.pkl")
            with archive.open(pickled[0]) as file:
                module = _ArchiveUnpickler(file, archive, pickled[0].removesuffix("data.pkl")).load()
    except _RefusedError as error:
        raise ValueError(
            f"{path} was refused: it asks for {error}, which is no module, plain value or tensor"
        ) from None
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise ValueError(f"{path} is damaged or no TorchScript archive: {type(error).__name__} {error}") from error
    return dict(_tensors(module, ""))


class _RefusedError(Exception):
    pass


class _Module(dict[str, Any]):
    """What stands for every class that the archive's own code defines: its attributes, and no behavior."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise _RefusedError(f"a module whose state is a {type(state).__name__}")
        self.update(state)


class _ArchiveUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(file)
        self.archive, self.prefix = archive, prefix
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "__torch__":
            return _Module
        if (module, name) not in _STAND_INS:
            raise _RefusedError(f"{module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage: ``("storage", dtype, key, device, elements)``; its bytes lie under ``data/key``."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], torch.dtype)):
            raise _RefusedError(f"the persistent object {pid!r}")
        _, dtype, key, _, elements = pid
        if str(key) not in self.storages:
            info = self.archive.getinfo(f"{self.prefix}data/{key}")
            if info.file_size != elements * dtype.itemsize:
                raise ValueError(f"storage {key} has {info.file_size} bytes, not {elements} of {dtype}")
            # Bytes that can be written to: PyTorch warns of others.
            data = bytearray(self.archive.read(info))
            self.storages[str(key)] = torch.frombuffer(data, dtype=dtype) if elements else torch.empty(0)
        return self.storages[str(key)]


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise _RefusedError(f"a tensor made of {type(storage).__name__}")
    # as_strided checks that it stays inside the storage.
    return torch.as_strided(storage, size, stride, offset)


_STAND_INS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.jit._pickle", "restore_type_tag"): lambda value, _: value,
    **{("torch.jit._pickle", f"build_{kind}list"): list for kind in ("int", "tensor", "double", "bool")},
    # Storages are named by their dtypes, on which nothing can be called.
    ("torch", "ByteStorage"): torch.uint8,
    ("torch", "CharStorage"): torch.int8,
    **{
        ("torch", f"{kind}Storage"): getattr(torch, kind.lower())
        for kind in ("Half", "BFloat16", "Float", "Double", "Short", "Int", "Long", "Bool")
    },
}
"""What the archive may name besides its own classes, and what it gets."""


def _tensors(module: Any, prefix: str) -> Any:
    if not isinstance(module, _Module):
        raise ValueError(f"A module was expected in the archive, not a {type(module).__name__}")
    for name, value in module.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
