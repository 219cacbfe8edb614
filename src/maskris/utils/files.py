"""Atomic files and folders, and readers whose errors name the file."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_LFS_POINTER = b"version https://git-lfs"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file so that either its old or its new contents exist completely, whenever the process dies.

    For libraries that take a path; `atomic_file` opens it. The file gets the permissions that the umask leaves, also
    from libraries that write files for their owner alone (safetensors 0.8).

    Args:
        path: The file; its folder is made if need be.

    Yields:
        A path beside it with the same ending; it takes the place of `path` when the block ends without an exception.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())
        _sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """`atomic_path`, opened.

    Args:
        path: The file; its folder is made if need be.
        mode: ``"w"`` for text in UTF-8 with the line ends it is given, ``"wb"`` for bytes.

    Yields:
        The file to write to.
    """
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    with atomic_path(path) as partial, partial.open(mode, **text) as file:  # type: ignore[call-overload]
        yield file


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Write a folder so that either its old or its new contents exist completely, whenever the process dies.

    There is no portable call that swaps two folders: `recover_folder` completes what dies between the two renamings,
    and whoever reads such a folder calls it first.

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
    umask = _umask()
    for path in [*new.rglob("*"), new]:
        if path.is_file():
            path.chmod(0o666 & ~umask)
        _sync(path)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Finish or undo an `atomic_folder` that was interrupted."""
    new, old = _beside(folder)
    if not folder.exists() and old.exists():
        # The old one steps aside only when the new one is complete.
        (new if new.exists() else old).rename(folder)
        _sync(folder.parent)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, values: Any, indent: int | None = 2) -> None:
    """Replace a JSON file atomically; its folder is made if need be."""
    with atomic_file(path) as file:
        json.dump(values, file, indent=indent)
        file.write("\n")


def read_json(file: Path, kind: type = dict) -> Any:
    """A JSON file.

    Args:
        file: Where it lies.
        kind: What it must hold: ``dict``, ``list``, or ``object`` for anything.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or holds something else; names the file.
    """
    try:
        values = json.loads(file.read_bytes())
        if isinstance(values, kind):
            return values
        raise ValueError(f"it holds {str(values)[:40]}")
    except (ValueError, RecursionError) as error:
        raise ValueError(damage(file, "JSON object" if kind is dict else "JSON file", error)) from error


def read_tensors(file: Path, device: str = "cpu") -> "dict[str, Tensor]":
    """The tensors of a safetensors file by name.

    Raises:
        ValueError: If the file is cut off, damaged or of another kind; names the file.
    """
    from safetensors import SafetensorError  # here, because commands that need no weights start without PyTorch
    from safetensors.torch import load_file

    try:
        return load_file(file, device=device)
    except SafetensorError as error:
        raise ValueError(damage(file, "safetensors file", error)) from error


def sha256_of(file: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file is what Git leaves in the place of a large file that was not fetched yet."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(_LFS_POINTER)) == _LFS_POINTER


def damage(file: Path, kind: str, error: Exception) -> str:
    """Why a file can't be read, with its name and what to do."""
    if is_lfs_pointer(file):
        return f"{file} is a pointer of Git LFS and not yet the file itself; `git lfs pull` fetches it"
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"{file} is damaged or no {kind} ({reason}); copy or download it again"


def _umask() -> int:
    # The only way to ask for it is to set it; the value for the moment between is the strictest.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


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
