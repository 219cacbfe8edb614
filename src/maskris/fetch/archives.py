"""Extraction of archives that are not trusted: chosen members only, within their folder, up to a limit of bytes."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from maskris.utils.progress import track

MAX_RATIO = 200
"""An archive that declares more bytes than so many times its own size is refused."""

_BLOCK = 1 << 20

# RuntimeError: a password or an unknown method is needed.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, BadGzipFile, EOFError, RuntimeError)


class ArchiveError(ValueError):
    """An archive is damaged, unsafe, or lacks what it should hold; the message names it and the member."""


class _Entry(NamedTuple):
    name: str
    size: int
    regular: bool  # neither link nor device
    open: Callable[[], Any]


def extract(
    archive: Path,
    folder: Path,
    members: Sequence[str],
    *,
    root: str,
    limit: int | None = None,
    only: set[str] | None = None,
    shown: bool = True,
) -> list[Path]:
    """Extract members of a zip or tar archive (also compressed).

    Every file gets its name when it is whole; one that is there with the right size is kept, so that an extraction
    that was interrupted goes on. Nothing is extracted from an archive with absolute names, names that lead outside,
    links or devices, wherever in it they are.

    Args:
        archive: The file.
        folder: Where to.
        members: Names of the files to extract, or patterns of them as in a shell; all others are left out.
        root: Folder in the archive whose files are meant; of files that aren't in such a folder, the name alone counts.
        limit: Most bytes of all extracted files.
        only: Of the files that `members` mean, these alone.
        shown: Show the progress.

    Returns:
        The extracted files.

    Raises:
        ArchiveError: If the archive is damaged or unsafe, a member is missing or there twice, or the limit is exceeded.
        FileExistsError: If a file with the name of a member is there with another size.
    """
    possible = MAX_RATIO * archive.stat().st_size
    left = possible if limit is None else min(limit, possible)
    try:
        with _opened(archive) as entries:
            chosen: dict[str, _Entry] = {}
            for entry in entries:
                _refuse_unsafe(archive, entry)
                target = _target(entry.name, root)
                if not any(fnmatchcase(target, one) for one in members) or not (only is None or target in only):
                    continue
                if target in chosen:
                    raise ArchiveError(f"{archive} holds {target} twice: {chosen[target].name} and {entry.name}")
                chosen[target] = entry
                left -= entry.size
                if left < 0:
                    raise ArchiveError(f"{archive} was refused: with {entry.name} it would fill too many bytes")
            missing = [one for one in members if not any(fnmatchcase(target, one) for target in chosen)]
            if missing and only is None:
                raise ArchiveError(f"{archive} lacks {', '.join(missing)}")
            for target, entry in track(chosen.items(), f"extracting {archive.name}", len(chosen), shown=shown):
                _write(archive, entry, folder / target)
    except _DAMAGE as error:
        raise ArchiveError(f"{archive} is damaged or no archive: {error}") from error
    return [folder / target for target in chosen]


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[_Entry]]:
    """All files in an archive; folders are left out."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield (
                _Entry(one.filename, one.file_size, _is_plain(one), partial(packed.open, one))
                for one in packed.infolist()
                if not one.is_dir()
            )
    else:
        with tarfile.open(archive) as tape:
            yield (
                _Entry(one.name, one.size, one.isreg(), partial(tape.extractfile, one))
                for one in tape
                if not one.isdir()
            )


def _is_plain(info: zipfile.ZipInfo) -> bool:
    return stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)  # 0: written by a system without such types


def _refuse_unsafe(archive: Path, entry: _Entry) -> None:
    name = PureWindowsPath(entry.name)  # knows both slashes, and drives
    if name.anchor or ".." in name.parts or not entry.regular:
        reason = "is a link or device" if not entry.regular else "leads outside of its folder"
        raise ArchiveError(f"{archive} was refused, and nothing was extracted: {entry.name!r} {reason}")


def _target(name: str, root: str) -> str:
    """Where a file goes: its path below `root`, else its name; what systems add of their own goes nowhere."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or "__MACOSX" in parts or parts[-1].startswith("."):
        return ""
    return "/".join(parts[parts.index(root) + 1 :] if root in parts[:-1] else parts[-1:])


def _write(archive: Path, entry: _Entry, path: Path) -> None:
    """Write one file; not through to the disk, which for 80,000 photos takes longer than all the rest."""
    if path.exists():
        if path.stat().st_size == entry.size:
            return
        raise FileExistsError(f"{path} is there already, with another size than in {archive}; move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with entry.open() as source, partial.open("wb") as file:
            left = entry.size
            while block := source.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    raise ArchiveError(f"{archive} was refused: {entry.name} is longer than it says")
                file.write(block)
        if left:
            raise ArchiveError(f"{archive} is damaged: {entry.name} is shorter than it says")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
