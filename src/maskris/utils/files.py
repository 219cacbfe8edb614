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


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file so that either its old or its new contents exist completely, whenever the process dies.

    For libraries that take a path; `atomic_file` opens it. The folder is made if need be. The file gets the permissions
    that the umask leaves, also from libraries that write files for their owner alone (safetensors 0.8).

    Yields:
        A path beside it with the same ending; it takes the place of `path` when the block ends without an exception.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """`atomic_path`, opened: ``"w"`` for text in UTF-8 with the line ends it is given, ``"wb"`` for bytes."""
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    with atomic_path(path) as partial, partial.open(mode, **text) as file:  # type: ignore[call-overload]
        yield file


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Write a folder so that either its old or its new contents exist completely, whenever the process dies.

    No portable call swaps two folders: whoever reads such a folder first calls `recover_folder`, which completes what
    died between the two renamings.

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
    """The contents of a JSON file, which must be of a kind: ``dict``, ``list``, or ``object`` for anything.

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
    start = b"version https://git-lfs"
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(start)) == start


def is_web_page(file: Path) -> bool:
    """Whether a file is HTML: what a server sends in the place of a file when it wants a sign-in or a click."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def stand_in(file: Path) -> str | None:
    """What a file is, with its name and what to do, if it only stands in the place of another; else ``None``."""
    if is_lfs_pointer(file):
        return f"{file} is a pointer of Git LFS and not yet the file itself; `git lfs pull` fetches it"
    if is_web_page(file):
        return f"{file} is a web page and not the file itself; open its address in a browser and download it there"
    return None


def damage(file: Path, kind: str, error: Exception) -> str:
    """Why a file can't be read, with its name and what to do."""
    if found := stand_in(file):
        return found
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"{file} is damaged or no {kind} ({reason}); copy or download it again"


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def _sync(path: Path) -> None:
    """Write a file or folder through to the disk; a file first gets the permissions that the umask leaves."""
    if path.is_file():
        umask = os.umask(0o077)  # it can be read only by setting it; the value for the moment between is the strictest
        os.umask(umask)
        path.chmod(0o666 & ~umask)
    elif os.name == "nt":  # Windows can't open folders
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
