"""The tensors of a TorchScript archive, read without executing anything in it.

OpenAI publishes CLIP as TorchScript: a zip file with code and a pickle of the module with its attributes. `torch.jit`
would compile the code; here the pickle alone is read, by an unpickler that knows containers and tensors, no functions.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Float": torch.float32,
        "Double": torch.float64,
        "Byte": torch.uint8,
        "Char": torch.int8,
        "Short": torch.int16,
        "Int": torch.int32,
        "Long": torch.int64,
        "Bool": torch.bool,
    }.items()
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is a zip file with TorchScript code in it (`torch.save` writes zip files too, without code)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def read_torchscript(path: str | Path) -> dict[str, Tensor]:
    """The parameters and buffers of a module saved by `torch.jit.save`, on the CPU.

    Args:
        path: The archive.

    Returns:
        Tensors by their names as in ``state_dict()``; tensors that are attributes without being parameters count too.

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
    """What stands for every class that the archive's own code defines: its attributes, and no behaviour."""

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
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]  # a dtype: nothing can be called on it
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _rebuild_tensor
        if module == "torch.jit._pickle" and name in _LISTS:
            return _as_list
        if module == "torch.jit._pickle" and name == "restore_type_tag":
            return _without_type
        raise _RefusedError(f"{module}.{name}")

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
            self.storages[str(key)] = (
                torch.frombuffer(bytearray(self.archive.read(info)), dtype=dtype) if elements else torch.empty(0)
            )
        return self.storages[str(key)]


_LISTS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")


def _as_list(values: Any) -> list[Any]:
    return list(values)


def _without_type(value: Any, _: Any) -> Any:
    return value


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor):
        raise _RefusedError(f"a tensor made of {type(storage).__name__}")
    # as_strided checks that it stays inside the storage.
    return torch.as_strided(storage, size, stride, offset)


def _tensors(module: Any, prefix: str) -> Any:
    if not isinstance(module, _Module):
        raise ValueError(f"A module was expected in the archive, not a {type(module).__name__}")
    for name, value in module.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
