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
        self.manifest = dict(manifest)
        self.compared = compared if isinstance(compared, Mapping) else {key: key for key in compared}
        self.shown = shown or {}

    def read(self) -> dict[str, Any] | None:
        """The manifest in the folder, or ``None`` if there is none.

        Raises:
            ValueError: If it is damaged.
        """
        return read_json(self.file) if self.file.is_file() else None

    def check(self) -> dict[str, Any] | None:
        """Compare without writing; the manifest in the folder, or ``None`` if there is none.

        Raises:
            OtherRunError: If the folder holds another run; names every difference with both values.
        """
        known = self.read()
        if known is not None:
            require_same_run(self.folder, known, self.manifest, self.compared, self.shown)
        return known

    def claim(self) -> dict[str, Any]:
        """Write the manifest unless the folder has one, else compare; the manifest that is there afterwards.

        Raises:
            OtherRunError: As `check`.
        """
        known = self.check()
        if known is None:
            write_json(self.file, self.manifest)
            known = self.manifest
        return known

    def lock(self, timeout: float = 0.0) -> AbstractContextManager[None]:
        """`lock_folder` for this folder."""
        return lock_folder(self.folder, timeout)


@contextmanager
def lock_folder(folder: Path, timeout: float = 0.0) -> Iterator[None]:
    """Keep other processes out of a folder while the block lasts; a killed process keeps nobody out.

    Args:
        folder: Made if need be.
        timeout: Seconds to wait for another process to end.

    Raises:
        FolderInUseError: If another process is at work in the folder.
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
    """Refuse to go on with a run as another one.

    Args:
        folder: Where the run is, for the message.
        known: Its manifest.
        manifest: That of the run that is to go on.
        compared: As in `differences`.
        shown: As in `RunStore`.
        advice: End of the message: what to do about it.

    Raises:
        OtherRunError: If they differ; names every difference with both values.
    """
    if lines := differences(known, manifest, compared, shown):
        raise OtherRunError("\n".join([f"{folder} belongs to another run:", *lines, advice]))


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    compared: Sequence[str] | Mapping[str, str] | None = None,
    shown: Mapping[str, str] | None = None,
) -> list[str]:
    """Lines that name what differs between two manifests, with both values.

    Args:
        old: As it was read.
        new: As it is now; compared as JSON keeps it, so that tuples equal lists.
        compared: Keys that count, as in `RunStore`; by default all.
        shown: As in `RunStore`.
    """
    new = json.loads(json.dumps(new))
    if compared is None:
        compared = list(dict.fromkeys([*old, *new]))
    labels = compared if isinstance(compared, Mapping) else {key: key for key in compared}
    missing = object()
    return [
        f"  {label}: {_value(old, key, shown)} there, {_value(new, key, shown)} now"
        for key, label in labels.items()
        if old.get(key, missing) != new.get(key, missing)
    ]


def _value(values: Mapping[str, Any], key: str, shown: Mapping[str, str] | None) -> str:
    if key not in values:
        return "nothing"
    if shown and key in shown and shown[key] in values:
        return f"{values[shown[key]]} ({str(values[key])[:8]})"
    return repr(values[key])
