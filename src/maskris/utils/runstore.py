"""Folders that belong to one run, described by a manifest: resumed by the same run only, one process at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from maskris.utils.files import read_json, write_json


class OtherRunError(ValueError):
    """A folder holds another run than the one that is to go on in it; the message names every difference."""


class FolderInUseError(RuntimeError):
    """Another process is writing to the folder."""


class RunStore:
    """A folder with a manifest that identifies its run, so that it goes on with the same run only.

    Args:
        folder: Made when it is claimed.
        manifest: What the run is: JSON types.
        compared: Keys that decide whether it is the same run; a mapping gives their names for messages.
        name: File name of the manifest.
        shown: For keys that are hashes, the key of the manifest to show beside them.

    Example:
        >>> store = RunStore(folder, {"weights": digest, "model": "runs/a"}, ["weights"], shown={"weights": "model"})
        >>> with store.lock():
        ...     known = store.claim()
    """

    def __init__(
        self,
        folder: Path,
        manifest: Mapping[str, Any],
        compared: Sequence[str] | Mapping[str, str],
        *,
        name: str = "run.json",
        shown: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.file = folder, folder / name
        self.manifest, self.compared, self.shown = dict(manifest), compared, shown

    def read(self) -> dict[str, Any] | None:
        """The manifest in the folder, or ``None`` if there is none; a damaged one raises ``ValueError``."""
        return read_json(self.file) if self.file.is_file() else None

    def check(self) -> dict[str, Any] | None:
        """`read`, refused if it is that of another run: see `require_same_run`."""
        if (known := self.read()) is not None:
            require_same_run(self.folder, known, self.manifest, self.compared, self.shown)
        return known

    def claim(self) -> dict[str, Any]:
        """`check`, and write the manifest if there is none; the manifest that is there afterwards."""
        if (known := self.check()) is not None:
            return known
        write_json(self.file, self.manifest)
        return self.manifest

    def update(self) -> dict[str, Any]:
        """`check`, and write the manifest; keys that only the one in the folder has stay. The manifest of both."""
        manifest = {**(self.check() or {}), **self.manifest}
        write_json(self.file, manifest)
        return manifest

    def lock(self, timeout: float = 0.0) -> AbstractContextManager[None]:
        """`lock_folder` for this folder."""
        return lock_folder(self.folder, timeout)


@contextmanager
def lock_folder(folder: Path, timeout: float = 0.0) -> Iterator[None]:
    """Keep other processes out of a folder while the block lasts; a killed process keeps nobody out.

    The folder is made if need be.

    Raises:
        FolderInUseError: If another process is still at work in the folder after `timeout` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Some network file systems have no locks; one must be able to work there all the same. What filelock takes
    # instead by default, a file that says who holds the folder, outlives a process killed on another machine.
    lock = FileLock(folder / ".lock", timeout=timeout, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise FolderInUseError(
            f"Another process is at work in {folder}; wait until it ends, stop it, or choose another folder"
        ) from error
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


def require_same_run(
    folder: Path,
    known: Mapping[str, Any],
    manifest: Mapping[str, Any],
    compared: Sequence[str] | Mapping[str, str] | None = None,
    shown: Mapping[str, str] | None = None,
    advice: str = "Go on with the old values, or choose another folder",
) -> None:
    """Refuse to go on with the run in `folder`, whose manifest is `known`, as the one described by `manifest`.

    Raises:
        OtherRunError: If they have `differences`; names every one with both values, and ends with the advice.
    """
    if lines := differences(known, manifest, compared, shown):
        raise OtherRunError("\n".join([f"{folder} belongs to another run:", *lines, advice]))


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    compared: Sequence[str] | Mapping[str, str] | None = None,
    shown: Mapping[str, str] | None = None,
) -> list[str]:
    """Lines that name what differs between a manifest as it was read and one of now, with both values.

    The new one is compared as JSON keeps it: tuples equal lists. Of a value that has keys, only those that differ are
    named. `compared` (all keys by default) and `shown` are those of `RunStore`.
    """
    new = json.loads(json.dumps(new))
    keys = {**old, **new} if compared is None else compared
    labels = compared if isinstance(compared, Mapping) else {key: key for key in keys}
    missing = object()

    def described(values: Mapping[str, Any], key: str) -> str:
        value = values.get(key, missing)
        if value is missing or value in ([], ""):
            return "nothing"
        if shown and shown.get(key) in values:
            return f"{values[shown[key]]} ({str(value)[:8]})"
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return ", ".join(value)
        return repr(value)

    lines = []
    for key, label in labels.items():
        before, now = old.get(key, missing), new.get(key, missing)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            lines += differences(before, now, {inner: f"{label}, {inner}" for inner in {**before, **now}})
        elif before != now:
            lines.append(f"  {label}: {described(old, key)} there, {described(new, key)} now")
    return lines
