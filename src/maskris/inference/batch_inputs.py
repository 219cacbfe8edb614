"""Rows to predict: photo and phrase from a CSV file, JSON Lines, a folder of photos, or Python; never all in memory."""

import csv
import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from maskris.inference.batch_results import RUN
from maskris.inference.save import pictures_among
from maskris.utils.text import invalid_text_reason

NO_PHOTO = -1
"""The image number of a row that names no photo."""

RESERVED = frozenset(
    {"row", "score", "box", "area", "threshold", "truncated", "size", "mask", "mask_file", "overlay_file", "error"}
)
"""What results are called; a column of the input can't have such a name."""

ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2", ".ppm"}
    | {".pgm", ".heic", ".heif"}  # which need a plug-in: an error that says so is better than a photo passed over
)
"""Endings of photos in a folder."""


@dataclass(frozen=True)
class Row:
    """One photo and one phrase.

    Attributes:
        number: Place in the input, from 0.
        image: The photo as the input names it.
        expression: The phrase.
        id: What the input calls the row, if anything.
        extra: Its other columns.
        error: What makes it unusable, if anything.
    """

    number: int
    image: str | None
    expression: str | None
    id: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    def given(self) -> dict[str, Any]:
        """What the input says, as JSON types."""
        return {
            "row": self.number, "id": self.id, "image": self.image, "expression": self.expression, **self.extra,
        }  # fmt: skip


class Rows(ABC):
    """Rows that are read when they are needed; use it as a context manager.

    Attributes:
        source: What they are called in messages.
        root: Folder that the photos are relative to.
        sha256: Of everything that they say; the photos' pixels are not part of it.
        images: ``[rows]`` int64, number of each row's photo in the order of first appearance, or `NO_PHOTO`.
    """

    source: str
    root: Path
    sha256: str
    images: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    @abstractmethod
    def __getitem__(self, number: int) -> Row:
        """The row of a number."""

    def where(self, number: int) -> str:
        """Where a row stands, for people."""
        row = self[number]
        return f"row {number} ({row.image}, {row.expression!r})"

    def path(self, row: Row) -> Path:
        """Where the row's photo is."""
        return self.root / str(row.image)

    def groups(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Numbers of the photos, in order, with the numbers of their rows; first those without a photo."""
        order = np.argsort(self.images, kind="stable")
        edges = np.flatnonzero(np.diff(self.images[order])) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(order)]):
            yield int(self.images[order[start]]), order[start:stop]

    def __enter__(self) -> "Rows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 (only files have something to close)
        """Close what is open."""


class ListedRows(Rows):
    """Rows from Python.

    Args:
        rows: With ``image`` (a path) and ``expression``; ``id`` and anything else that JSON knows may be there too.
        root: Folder that the photos are relative to; by default the working folder.

    Raises:
        ValueError: If there are none, or a row has a name of `RESERVED` or something that JSON doesn't know.
        TypeError: If a row is no mapping.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], root: str | Path | None = None) -> None:
        self.source, self.root = "the rows", Path(root or ".").absolute()
        self._rows = [self._read(number, row) for number, row in enumerate(rows)]
        if not self._rows:
            raise ValueError("There are no rows to predict")
        digest, index = hashlib.sha256(), ImageIndex()
        for row in self._rows:
            digest.update(json.dumps(row.given(), sort_keys=True).encode())
            index.add(row.image)
        self.sha256, self.images = digest.hexdigest(), index.numbers()

    def _read(self, number: int, values: Mapping[str, Any]) -> Row:
        if not isinstance(values, Mapping):
            raise TypeError(f"Row {number} is a {type(values).__name__}, not a mapping with image and expression")
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        try:
            json.dumps(plain, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Row {number} can't be written as JSON: {error}") from error
        check_names(plain, f"row {number}")
        return row_of(number, plain)

    def __getitem__(self, number: int) -> Row:
        return self._rows[number]


class FolderRows(Rows):
    """Every photo of a folder and the folders in it, with each of some phrases.

    Hidden files and folders are passed over, and so are results of this package: folders of many, and the files of
    single photos.

    Args:
        folder: The folder.
        expressions: The phrases.
        leave_out: A folder in it that isn't looked into, such as that of the results.

    Raises:
        ValueError: If there is no phrase, an empty one, or no photo, or if the folder is that of results.
        FileNotFoundError: If there is no such folder.
    """

    def __init__(self, folder: str | Path, expressions: Sequence[str], leave_out: str | Path | None = None) -> None:
        self.source, self.root = str(folder), Path(folder).absolute()
        if isinstance(expressions, str):
            expressions = [expressions]
        if not expressions:
            raise ValueError(f"Say what to look for in the photos of {folder}: give one or several phrases, in quotes")
        if empty := [number for number, text in enumerate(expressions, start=1) if not text.strip()]:
            raise ValueError(f"Expression {empty[0]} is empty; say what to look for, such as 'the man on the left'")
        for number, text in enumerate(expressions, start=1):
            if trouble := invalid_text_reason(text):
                raise ValueError(f"Expression {number} {trouble}")
        if not self.root.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}")
        self._expressions = list(expressions)
        self._refuse_results(None if leave_out is None else os.path.realpath(leave_out))
        self._photos = sorted(_photos(self.root, None if leave_out is None else os.path.realpath(leave_out)))
        if not self._photos:
            raise ValueError(f"There is no photo in {folder}, nor in the folders in it ({', '.join(sorted(ENDINGS))})")
        described = json.dumps([self._photos, self._expressions])
        self.sha256 = hashlib.sha256(described.encode()).hexdigest()
        self.images = np.repeat(np.arange(len(self._photos)), len(self._expressions))

    def _refuse_results(self, leave_out: str | None) -> None:
        if leave_out == os.path.realpath(self.root):
            raise ValueError(
                f"{self.source} is the folder of the photos and can't be that of the results; choose another one, such "
                f"as {Path(self.source) / 'predictions'}"
            )
        if (self.root / RUN).is_file():
            raise ValueError(f"{self.source} holds results ({RUN}) and is no folder of photos")

    def __getitem__(self, number: int) -> Row:
        photo, phrase = divmod(number, len(self._expressions))
        return Row(number, self._photos[photo], self._expressions[phrase])


def _photos(root: Path, leave_out: str | None) -> Iterator[str]:
    """Paths relative to the root, with slashes."""
    seen = set()  # links may lead in circles
    for folder, names, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or real == leave_out or RUN in files:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        results = pictures_among(Path(folder), files)
        for name in files:
            if not name.startswith(".") and name not in results and Path(name).suffix.lower() in ENDINGS:
                yield (Path(folder) / name).relative_to(root).as_posix()


class ImageIndex:
    """Numbers photos in the order of first appearance, in 16 bytes per row whatever their paths are."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._without = array("q")
        self._rows = 0

    def add(self, image: str | None) -> None:
        """The photo of the next row; different spellings of a path count as one (``./a.jpg``)."""
        if not image:
            self._without.append(self._rows)
        name = os.path.normpath(image) if image else ""
        self._digests += hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self._rows += 1

    def numbers(self) -> npt.NDArray[np.int64]:
        """``[rows]``; `NO_PHOTO` for rows that have none."""
        digests = np.frombuffer(self._digests, dtype="S16")
        _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
        rank = np.empty(len(first), dtype=np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        numbers = rank[inverse.reshape(-1)]
        numbers[np.array(self._without, dtype=np.int64)] = NO_PHOTO
        return numbers


def row_of(number: int, values: Mapping[str, Any], error: str | None = None) -> Row:
    """A row of what the input holds, with what is wrong with it."""
    given = dict(values)
    image, expression, name = given.pop("image", None), given.pop("expression", None), given.pop("id", None)
    for key, value, example in (("image", image, "photo.jpg"), ("expression", expression, "the man on the left")):
        if error is None and (not isinstance(value, str) or not value.strip()):
            what = "is empty" if value is None or value == "" or isinstance(value, str) else f"is {value!r}"
            error = f"{key} {what}; it must be a text such as {example!r}"
    # A photo may be called what is no text, as its file may.
    if error is None and (trouble := invalid_text_reason(str(expression))):
        error = f"expression {trouble}"
    image = image if isinstance(image, str) and image.strip() else None
    return Row(number, image, expression if isinstance(expression, str) else None, name, given, error)


def check_names(names: Mapping[str, Any] | Sequence[str], where: str) -> None:
    """Refuse columns whose values would be lost among the results.

    Raises:
        ValueError: If there is one; says where.
    """
    if taken := sorted(RESERVED.intersection(names)):
        raise ValueError(f"{where}: {', '.join(taken)} would be lost, as results have such a name; rename it first")


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
