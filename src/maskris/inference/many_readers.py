"""CSV files and JSON Lines as `Rows`: read through once, and then row by row where each begins."""

import csv
import hashlib
import json
import math
import os
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO

from maskris.inference.many_rows import FolderRows, ImageIndex, ListedRows, Row, Rows, check_names, row_of

COLUMNS = ("image", "expression")
CSV, JSON_LINES = (".csv",), (".jsonl", ".ndjson")

_FOREIGN = {
    b"\xff\xfe": "is UTF-16",
    b"\xfe\xff": "is UTF-16",
    b"PK\x03\x04": "is a spreadsheet or a ZIP file",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet",
}
_BOM = b"\xef\xbb\xbf"


def open_rows(
    source: "str | Path | Sequence[Mapping[str, Any]]",
    expressions: Sequence[str] = (),
    *,
    images: str | Path | None = None,
    leave_out: str | Path | None = None,
) -> Rows:
    """Rows of any kind.

    Args:
        source: A CSV file or JSON Lines with ``image`` and ``expression``, a folder of photos, or mappings.
        expressions: What to look for in the photos of a folder.
        images: Folder that the photos of a file are relative to; by default the file's own.
        leave_out: A folder inside `source` that isn't looked into.

    Raises:
        FileNotFoundError: If there is nothing at `source`.
        ValueError: If it can't be used, or doesn't go with the other arguments; says where and what to do.
    """
    if not isinstance(source, (str, Path)):
        return ListedRows(source, images)
    path = Path(source)
    if path.is_dir():
        if images is not None:
            raise ValueError(f"{path} is the folder of the photos already; leave the other one out ({images})")
        return FolderRows(path, expressions, leave_out)
    if expressions:
        raise ValueError(f"The phrases stand in {path}; leave out {', '.join(map(repr, expressions))}")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {path}")
    if path.suffix.lower() in CSV:
        return CSVRows(path, images)
    if path.suffix.lower() in JSON_LINES:
        return JSONLRows(path, images)
    raise ValueError(f"{path} has none of the endings of rows: {', '.join(CSV + JSON_LINES)}")


class _Lines:
    """The lines of a file as text, from where it stands; counts them and their bytes."""

    def __init__(self, file: BinaryIO, source: str, line: int = 0, digest: Any = None) -> None:
        self.file, self.source, self.line, self.digest = file, source, line, digest
        self.position = file.tell()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self.file.readline()
        if not raw:
            raise StopIteration
        self.line += 1
        self.position += len(raw)
        if self.digest is not None:
            self.digest.update(raw)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            where = f"{self.source}, line {self.line}"
            raise ValueError(f"{where} is not UTF-8 ({error.reason}); save it as UTF-8") from error


class FileRows(Rows):
    """Rows of a file, of which only the places are kept: 36 bytes per row.

    Args:
        file: The file.
        images: Folder that the photos are relative to; by default the file's own.

    Raises:
        ValueError: If the file is of another kind, empty, or without the two columns; says where.
    """

    def __init__(self, file: str | Path, images: str | Path | None = None) -> None:
        self.source = str(file)
        self.root = (Path(file).parent if images is None else Path(images)).absolute()
        self._file = Path(file).open("rb")  # noqa: SIM115 (closed by `close`)
        try:
            self._scan()
        except BaseException:
            self.close()
            raise

    def _scan(self) -> None:
        start = self._file.read(4)
        for signature, what in _FOREIGN.items():
            if start.startswith(signature):
                raise ValueError(f"{self.source} {what}; save it as CSV in UTF-8")
        self._stat = self._state()
        self._offsets, self._numbers = array("q"), array("q")
        digest, index = hashlib.sha256(), ImageIndex()
        self._file.seek(len(_BOM) if start.startswith(_BOM) else 0)
        for offset, line, row in self._records(_Lines(self._file, self.source, digest=digest)):
            self._offsets.append(offset)
            self._numbers.append(line)
            index.add(row.image)
        if not self._offsets:
            raise ValueError(f"{self.source} {self._emptiness()}")
        self.sha256, self.images = digest.hexdigest(), index.numbers()

    @abstractmethod
    def _records(self, lines: _Lines) -> Iterator[tuple[int, int, Row]]:
        """Every row with the byte and the line at which it begins."""

    @abstractmethod
    def _parse(self, lines: _Lines, number: int) -> Row:
        """The row that begins here."""

    @abstractmethod
    def _emptiness(self) -> str:
        """What to say of a file without rows."""

    def __getitem__(self, number: int) -> Row:
        if self._state() != self._stat:
            raise RuntimeError(f"{self.source} was changed while its rows were being predicted; start again")
        self._file.seek(self._offsets[number])
        return self._parse(_Lines(self._file, self.source, self._numbers[number] - 1), number)

    def where(self, number: int) -> str:
        """File and line of a row."""
        return f"{self.source}, line {self._numbers[number]}"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _state(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_mtime_ns, status.st_size


class JSONLRows(FileRows):
    """JSON Lines: objects with ``image`` and ``expression``; other keys are carried through. Blank lines are none."""

    def _records(self, lines: _Lines) -> Iterator[tuple[int, int, Row]]:
        offset = lines.position
        for text in lines:
            if text.strip():
                row = self._row(text, len(self._offsets))
                check_names(row.extra, f"{self.source}, line {lines.line}")
                yield offset, lines.line, row
            offset = lines.position

    def _parse(self, lines: _Lines, number: int) -> Row:
        return self._row(next(lines), number)

    def _row(self, text: str, number: int) -> Row:
        try:
            values = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            return row_of(number, {}, f"no valid JSON: {error}")
        if not isinstance(values, dict):
            return row_of(number, {}, f"expected an object {{...}}, not {str(values)[:60]}")
        return row_of(number, values)

    def _emptiness(self) -> str:
        return 'is empty; every line is an object such as {"image": "photo.jpg", "expression": "the man on the left"}'


class CSVRows(FileRows):
    """CSV in UTF-8 with a header: ``image``, ``expression``, perhaps ``id``; other columns are carried through.

    Columns without a name and lines without a value are none.
    """

    def _records(self, lines: _Lines) -> Iterator[tuple[int, int, Row]]:
        reader = self._reader(lines)
        self._header = [name.strip() for name in self._next(reader, lines) or []]
        self._check_header()
        while True:
            offset, line = lines.position, lines.line + 1
            fields = self._next(reader, lines)
            if fields is None:
                return
            if any(field.strip() for field in fields):
                yield offset, line, self._row(fields, len(self._offsets))

    def _parse(self, lines: _Lines, number: int) -> Row:
        return self._row(self._next(self._reader(lines), lines) or [], number)

    @staticmethod
    def _reader(lines: _Lines) -> Iterator[list[str]]:
        return csv.reader(lines, strict=True, skipinitialspace=True)

    def _next(self, reader: Iterator[list[str]], lines: _Lines) -> list[str] | None:
        start = lines.line + 1
        try:
            return next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{self.source}, line {start}: no valid CSV ({error}). Is a quotation mark opened and not closed? "
                'Inside a quoted field, two of them ("") stand for one'
            ) from error

    def _row(self, fields: list[str], number: int) -> Row:
        if len(fields) == len(self._header):
            return row_of(number, {name: value for name, value in zip(self._header, fields, strict=True) if name})
        hint = "; put a phrase with commas in quotation marks" if len(fields) > len(self._header) else ""
        return row_of(number, {}, f"{len(fields)} fields instead of {len(self._header)}{hint}")

    def _check_header(self) -> None:
        names, where = self._header, f"{self.source}, line 1"
        if not any(names):
            raise ValueError(f"{self.source} {self._emptiness()}")
        if len(names) == 1:
            for separator, what in ((";", "semicolons"), ("\t", "tabs")):
                if separator in names[0]:
                    raise ValueError(f"{where}: the columns are separated by {what}; save the file with commas")
        if missing := [name for name in COLUMNS if name not in names]:
            lower = {name.lower(): name for name in names}
            close = [lower[near] for name in missing for near in get_close_matches(name, lower, n=1)]
            hint = f"; is it {', '.join(map(repr, close))}?" if close else "."
            raise ValueError(
                f"{where}: no column {' and '.join(map(repr, missing))} among {', '.join(map(repr, names))}{hint} "
                "The first line names the columns, such as image,expression"
            )
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            raise ValueError(f"{where}: several columns are called {', '.join(map(repr, twice))}")
        check_names(names, where)

    def _emptiness(self) -> str:
        return "holds no rows; its first line names the columns, such as image,expression, and each other is a row"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON; leave the key out, or write null")


def _finite(digits: str) -> float:
    """A number that can be written again; Python takes what is too large for infinity, which is no JSON."""
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:60]} is too large; put it in quotes to carry it through as a text")
    return value
