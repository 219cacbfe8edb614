"""The folder of a batch: ``results.jsonl`` grows row by row, ``batch.json`` holds what the run was made with."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from maskris.utils.files import atomic_file
from maskris.utils.runstore import RunStore

RESULTS, RUN = "results.jsonl", "batch.json"

Record = dict[str, Any]
"""A line of the results: the columns of the input, and what was found or ``error``."""

COMPARED = {
    "model_sha256": "the model", "precision": "the precision", "threshold": "the threshold", "input_sha256": "the rows",
}  # fmt: skip
"""What must stay the same for a run to go on."""


class BatchResults:
    """What is done of a batch, as lines of JSON in the order in which the rows were done.

    Args:
        store: The folder, which is locked.
        rows: How many rows there are.
        keep: Whether a result of an earlier call can stay; the others are removed, so that their rows are done again.

    Attributes:
        file: The lines; one that a kill cut off is removed.
        done: ``[rows]`` bool.
        errors: Row to error, of the rows that are done and ended in one.

    Raises:
        OtherRunError: If the folder holds another run; names what differs.
        FileExistsError: If it holds results without a manifest.
        RuntimeError: If a line in the middle of the results is damaged.
    """

    def __init__(self, store: RunStore, rows: int, keep: Callable[[Record], bool]) -> None:
        self.file = store.folder / RESULTS
        self.done = np.zeros(rows, dtype=bool)
        self.errors: dict[int, str] = {}
        if self.file.exists() and store.read() is None:
            raise FileExistsError(f"{self.file} exists without the {RUN} of its run; choose another folder")
        store.claim()
        if self.file.exists():
            self._read(keep)

    def append(self, records: Iterable[Record]) -> None:
        """Add results; they survive the end of the process."""
        with self.file.open("ab") as output:
            for record in records:
                line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
                # A lone surrogate, from the name of a file that is no UTF-8, is written as JSON escapes it.
                output.write(line.encode("utf-8", "backslashreplace"))
                self._note(record)

    def _read(self, keep: Callable[[Record], bool]) -> None:
        size, removed = 0, []
        with self.file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    record = self._parse(line)
                except (ValueError, KeyError, TypeError) as error:
                    if lines.read(1):
                        raise RuntimeError(
                            f"{self.file}, line {number} is damaged ({error!r}); remove the line to predict it again"
                        ) from error
                    break
                size += len(line)
                self._note(record)
                if not keep(record):
                    removed.append(record["row"])
        os.truncate(self.file, size)
        if removed:
            self.done[removed] = False
            self.errors = {row: error for row, error in self.errors.items() if self.done[row]}
            with self.file.open("rb") as lines, atomic_file(self.file, "wb") as kept:
                kept.writelines(line for line in lines if self.done[json.loads(line)["row"]])

    def _parse(self, line: bytes) -> Record:
        record: Record = json.loads(line)
        row = record["row"]
        if not line.endswith(b"\n") or type(row) is not int or not 0 <= row < len(self.done):
            raise ValueError("no whole line of these rows")
        if self.done[row]:
            raise ValueError(f"row {row} has a line already")
        return record

    def _note(self, record: Record) -> None:
        self.done[record["row"]] = True
        if "error" in record:
            self.errors[record["row"]] = record["error"]
