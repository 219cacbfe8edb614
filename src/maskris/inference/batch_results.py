"""The folder of many predictions: ``results.jsonl`` grows row by row, ``many.json`` says what the run is."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

RESULTS, RUN = "results.jsonl", "many.json"

COMPARED = {
    "model_sha256": ("the model", "model"),
    "precision": ("the precision", "precision"),
    "threshold": ("the threshold", "threshold"),
    "input_sha256": ("the rows", "input"),
}
"""What must stay the same for a run to go on: how people call it, and the entry of ``many.json`` to show beside it."""


class ResultsFolder:
    """Keeps what is done, whenever the process dies; use it as a context manager.

    Args:
        path: The folder; made if need be.
        run: What the run is; the keys of `COMPARED` decide whether it may go on.
        rows: How many rows it has.

    Attributes:
        offsets: ``[rows]`` int64, where each row's line begins in the results; -1 if it isn't done.
        failed: ``[rows]`` bool, the rows that are done and ended in an error.

    Raises:
        ValueError: If the folder holds another run; names what differs.
        FileExistsError: If it holds results, but not what they are of.
        RuntimeError: If another process is writing to it, or a line in the middle of the results is damaged.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any], rows: int) -> None:
        self.path = Path(path).expanduser()
        self.file = self.path / RESULTS
        self.offsets = np.full(rows, -1, dtype=np.int64)
        self.failed = np.zeros(rows, dtype=bool)
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / RUN).exists():
            if self.file.exists():
                raise FileExistsError(f"{self.file} exists without a {RUN} that says what it is; choose another folder")
            write = json.dumps({**run, "rows": rows, "maskris": version("maskris")}, indent=2) + "\n"
            _replace(self.path / RUN, [write.encode()])
        self._lock = (self.path / RUN).open("r+b")
        try:
            _lock(self._lock, self.path)
            self._compare(run)
            self._length = 0
            self._twice = False
            if self.file.exists():
                self._scan()
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _open(self) -> None:
        self._output = self.file.open("ab")

    def _compare(self, run: Mapping[str, Any]) -> None:
        try:
            known: dict[str, Any] = json.loads((self.path / RUN).read_text(encoding="utf-8"))
            differing = [key for key in COMPARED if known[key] != run[key]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path / RUN} is damaged ({error!r}); choose another folder") from error
        if differing:
            lines = [f"  {COMPARED[key][0]}: {_show(known, key)} there, {_show(run, key)} now" for key in differing]
            raise ValueError(
                f"{self.path} holds the results of other predictions:\n" + "\n".join(lines) + "\n"
                "Go on with what they were made with, or choose another folder"
            )

    def _scan(self) -> None:
        """Find what is done; a line that a kill cut off is removed."""
        with self.file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row, failed = self._read(line)
                except (ValueError, KeyError, TypeError) as error:
                    if lines.readline():
                        raise RuntimeError(
                            f"{self.file}, line {number} is damaged ({error!r}); remove the line to predict it again"
                        ) from error
                    break
                self._twice |= bool(self.offsets[row] >= 0)  # files put together by hand: the later line counts
                self.offsets[row], self.failed[row] = self._length, failed
                self._length += len(line)
        os.truncate(self.file, self._length)

    def _read(self, line: bytes) -> tuple[int, bool]:
        record = json.loads(line)
        row = record["row"]
        if not line.endswith(b"\n") or type(row) is not int or not 0 <= row < len(self.offsets):
            raise ValueError("no whole line of these rows")
        return row, "error" in record

    @property
    def done(self) -> np.ndarray:
        """``[rows]`` bool."""
        return self.offsets >= 0

    def record(self, row: int) -> dict[str, Any]:
        """The result of a row that is done."""
        with self.file.open("rb") as lines:
            lines.seek(self.offsets[row])
            record: dict[str, Any] = json.loads(lines.readline())
        return record

    def forget(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Remove the rows that are done, but not as wanted, so that they are predicted again."""
        dropped = False
        with self.file.open("rb") as lines:
            for line in lines:
                record = json.loads(line)
                if not wanted(record):
                    self.offsets[record["row"]], self.failed[record["row"]] = -1, False
                    dropped = True
        if dropped:
            rows = np.flatnonzero(self.done)
            self._rewrite(rows[np.argsort(self.offsets[rows])])

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add results; they survive the end of the process."""
        for record in records:
            line = encode_line(record)
            self.offsets[record["row"]], self.failed[record["row"]] = self._length, "error" in record
            self._length += self._output.write(line)
        self._output.flush()

    def sort(self) -> None:
        """Bring the results into the order of the rows, atomically, once all are done."""
        if self._twice or not (np.diff(self.offsets) > 0).all():
            self._rewrite(np.arange(len(self.offsets)))

    def _rewrite(self, rows: "np.ndarray") -> None:
        """Replace the file by the lines of some rows, in their order."""
        self._output.close()
        with self.file.open("rb") as lines:
            lengths = _replace(self.file, (_line_at(lines, int(self.offsets[row])) for row in rows))
        self.offsets[rows] = np.cumsum([0, *lengths])[:-1]
        self._length, self._twice = sum(lengths), False
        self._open()

    def __enter__(self) -> "ResultsFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._output.close()
        self._lock.close()


def encode_line(record: Mapping[str, Any]) -> bytes:
    """A result as a line of JSON, readable in any script."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, from the name of a file that is no UTF-8
        return json.dumps(record, allow_nan=False).encode("ascii") + b"\n"


def _line_at(lines: Any, offset: int) -> bytes:
    lines.seek(offset)
    line: bytes = lines.readline()
    return line


def _replace(path: Path, parts: Iterable[bytes]) -> list[int]:
    """Write a file so that its old or its new contents exist completely; the lengths of the parts."""
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        lengths = [file.write(part) for part in parts]
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return lengths


def _show(run: Mapping[str, Any], key: str) -> str:
    """``runs/a (3f2a9c)`` for a hash, the value itself for anything else."""
    shown = run[COMPARED[key][1]]
    return f"{shown} ({str(run[key])[:8]})" if key.endswith("sha256") else str(shown)


def _lock(file: Any, folder: Path) -> None:
    """Keep a second process away, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RuntimeError(f"Another process is writing to {folder}; wait for it, or choose another folder") from error
    except OSError:  # some network disks can't lock
        return
