"""Photos and phrases to predict, as one Arrow table: from CSV, JSON Lines, a folder of photos, or Python."""

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from maskris.data.table import ReferringTable, choose_splits
from maskris.inference.batch_results import RUN
from maskris.inference.predictor import check_expressions
from maskris.inference.save import is_saved
from maskris.utils.text import invalid_text_reason

COLUMNS = {"image": "photo.jpg", "expression": "the man on the left"}
"""The columns that every row needs, with an example of each."""

RESERVED = frozenset(
    {"row", "score", "box", "area", "threshold", "truncated", "size", "orientation", "segmentation", "mask"}
    | {"mask_source", "mask_file", "overlay_file", "error"}
)
"""Names of results; a column of the input can't have such a name."""

ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2", ".ppm"}
    | {".pgm", ".heic", ".heif"}
)
"""Endings of photos in a folder. The last two need a plug-in; the error that names it is better than no row."""

NO_PHOTO = -1
"""The photo number of a row that names no photo."""

SCHEMA = pa.schema([("photo", pa.binary()), ("given", pa.string()), ("error", pa.string()), ("line", pa.int64())])
"""Columns of `Rows.table`: the normalized path of the photo; `Row.given` as JSON, which holds values of any type and
lone surrogates; `Row.error`; the line at which the row begins in its file."""

Found = tuple[int | None, dict[str, Any], str | None]
"""A row as a reader finds it: line, values by column, and what is wrong with it."""


@dataclass(frozen=True)
class Row:
    """One photo and one phrase.

    Attributes:
        number: Place in the input, from 0.
        given: Values of the columns: ``id``, ``image`` and ``expression`` (``None`` if there is no such text), then the
            others.
        error: What makes it unusable, if anything.
        photo: As in `Rows.photos`.
    """

    number: int
    given: dict[str, Any]
    error: str | None = None
    photo: int = field(default=NO_PHOTO, compare=False)


class Rows:
    """Rows to predict, in an Arrow table; `read_rows` makes them.

    Attributes:
        source: Name in messages.
        root: Folder that the photos are relative to.
        table: The rows, with the columns of `SCHEMA`.
        photos: ``[rows]`` int64, number of each row's photo in the order of first appearance, or `NO_PHOTO`. Spellings
            of one path (``./a.jpg``) have one number.
        sha256: Of all values and errors; the photos' pixels are not part of it.

    Raises:
        ValueError: If there are no rows.
    """

    def __init__(self, source: str, root: str | Path, found: Iterable[Found]) -> None:
        self.source, self.root = source, Path(root).absolute()
        digest = hashlib.sha256()

        def entries() -> Iterator[dict[str, Any]]:
            for line, values, error in found:
                given, error = _check(values, error)
                photo = given["image"] and os.path.normpath(given["image"]).encode("utf-8", "surrogatepass")
                text = json.dumps(given)
                # Arrow takes a lone surrogate no more than UTF-8 does.
                error = error and error.encode("utf-8", "backslashreplace").decode()
                digest.update(f"{text}{error}\n".encode())
                yield {"photo": photo, "given": text, "error": error, "line": line}

        rest = entries()
        portions = iter(lambda: list(islice(rest, 10_000)), [])  # a million rows are never Python objects at once
        self.table = pa.Table.from_batches((pa.RecordBatch.from_pylist(rows, SCHEMA) for rows in portions), SCHEMA)
        if not len(self.table):
            raise ValueError(f"{source} holds no rows; each one needs an image and an expression")
        numbers = self.table["photo"].combine_chunks().dictionary_encode().indices
        self.photos: npt.NDArray[np.int64] = numbers.cast(pa.int64()).fill_null(NO_PHOTO).to_numpy()
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, number: int) -> Row:
        given, error = (self.table[name][number].as_py() for name in ("given", "error"))
        return Row(number, json.loads(given), error, int(self.photos[number]))

    def where(self, number: int) -> str:
        """Name of a row in messages: file and line, or its number and content."""
        if (line := self.table["line"][number].as_py()) is not None:
            return f"{self.source}, line {line}"
        given = self[number].given
        return f"row {number} ({given['image']}, {given['expression']!r})"

    def path(self, row: Row) -> Path:
        """Path of a row's photo."""
        return self.root / str(row.given["image"])

    def groups(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Numbers of the photos, in order, with the numbers of their rows; first those without a photo."""
        order = np.argsort(self.photos, kind="stable")
        edges = np.flatnonzero(np.diff(self.photos[order])) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(order)]):
            yield int(self.photos[order[start]]), order[start:stop]


def read_rows(
    source: str | Path | Sequence[Mapping[str, Any]],
    expressions: Sequence[str] = (),
    *,
    images: str | Path | None = None,
    leave_out: str | Path | None = None,
    splits: list[str] | None = None,
) -> Rows:
    """Rows to predict, of any kind.

    Args:
        source: A CSV file (UTF-8, commas, a header) or JSON Lines with ``image`` and ``expression``, a table of
            referents (Parquet), a folder of photos, or mappings. ``id`` may be there too, and other columns, which are
            carried through; of a table those that `maskris.evaluation.score` knows an expression by.
        expressions: What to look for in the photos of a folder. Every photo of it and of the folders in it gets each
            of them; hidden files and folders are passed over, and so are results of this package.
        images: Folder that the photos of a file (by default its own) or of mappings (the working folder) are relative
            to.
        leave_out: A folder inside `source` that is passed over, such as that of the results.
        splits: Of a table; all but train by default.

    Raises:
        FileNotFoundError: If there is nothing at `source`.
        ValueError: If it can't be used, or doesn't go with the other arguments.
        TypeError: If a row is no mapping.
    """
    is_table = isinstance(source, (str, Path)) and Path(source).suffix.lower() == TABLE
    if splits and not is_table:
        raise ValueError(f"Splits are those of prepared data ({TABLE}); leave out {', '.join(splits)}")
    if not isinstance(source, (str, Path)):
        return Rows("the rows", images or ".", _read_mappings(source))
    path = Path(source)
    if path.is_dir():
        if images is not None:
            raise ValueError(f"{path} is the folder of the photos already; leave the other one out ({images})")
        return Rows(str(path), path, _read_folder(path, expressions, leave_out))
    if expressions:
        raise ValueError(f"The phrases stand in {path}; leave out {', '.join(map(repr, expressions))}")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {path}")
    if is_table:
        table = choose_splits(ReferringTable.open(path, images), splits, "--splits")
        return Rows(str(path), table.images_root, _read_table(table))
    if (reader := READERS.get(path.suffix.lower())) is None:
        raise ValueError(f"{path} has none of the endings of rows: {', '.join([*READERS, TABLE])}")
    return Rows(str(path), path.parent if images is None else images, reader(path))


def _read_mappings(rows: Iterable[Mapping[str, Any]]) -> Iterator[Found]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"Row {number} is a {type(row).__name__}, not a mapping with image and expression")
        values = {key: str(value) if isinstance(value, Path) else value for key, value in row.items()}
        try:
            json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Row {number} can't be written as JSON: {error}") from error
        _check_names(values, f"row {number}")
        yield None, values, None


def _read_table(table: ReferringTable) -> Iterator[Found]:
    """Every expression of a table."""
    known = ("image", "dataset", "split_by", "split", "image_id", "ref_id")
    for row in table.arrow.select([*known, "expressions"]).to_pylist():
        values = {name: row[name] for name in known}
        for number, expression in enumerate(row["expressions"]):
            yield None, {**values, "expression": expression, "number": number}, None


def _read_folder(folder: Path, expressions: Sequence[str], leave_out: str | Path | None) -> Iterator[Found]:
    if not expressions:
        raise ValueError(f"Say what to look for in the photos of {folder}: give one or several phrases, in quotes")
    texts = check_expressions([expressions] if isinstance(expressions, str) else expressions)
    results = None if leave_out is None else os.path.realpath(leave_out)
    if results == os.path.realpath(folder):
        raise ValueError(
            f"{folder} is the folder of the photos and can't be that of the results; choose another one, such as "
            f"{folder / 'predictions'}"
        )
    if (folder / RUN).is_file():
        raise ValueError(f"{folder} holds results ({RUN}) and is no folder of photos")
    photos = sorted(_photos(folder, results))
    if not photos:
        raise ValueError(f"There is no photo in {folder}, nor in the folders in it ({', '.join(sorted(ENDINGS))})")
    yield from ((None, {"image": photo, "expression": text}, None) for photo in photos for text in texts)


def _photos(root: Path, leave_out: str | None) -> Iterator[str]:
    """Paths relative to the root, with slashes."""
    seen = {leave_out}  # links may lead in circles
    for folder, names, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or RUN in files or is_saved(Path(folder)):
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        photos = (Path(folder, name) for name in files if not name.startswith("."))
        yield from (photo.relative_to(root).as_posix() for photo in photos if photo.suffix.lower() in ENDINGS)


def _read_json_lines(file: Path) -> Iterator[Found]:
    for line, text in enumerate(_lines(file), start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            yield line, {}, f"no valid JSON: {error}"
            continue
        if isinstance(values, dict):
            _check_names(values, f"{file}, line {line}")
            yield line, values, None
        else:
            yield line, {}, f"expected an object {{...}}, not {str(values)[:60]}"


def _read_csv(file: Path) -> Iterator[Found]:
    """Columns without a name and lines without a value are none."""
    reader = csv.reader(_lines(file), strict=True, skipinitialspace=True)
    header, line = None, 1
    try:
        for fields in reader:
            if not any(value.strip() for value in fields):
                pass
            elif header is None:
                header = [name.strip() for name in fields]
                _check_header(header, f"{file}, line {line}")
            elif len(fields) == len(header):
                yield line, {name: value for name, value in zip(header, fields, strict=True) if name}, None
            else:
                hint = "; put a phrase with commas in quotation marks" if len(fields) > len(header) else ""
                yield line, {}, f"{len(fields)} fields instead of {len(header)}{hint}"
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {line}: no valid CSV ({error}). Is a quotation mark opened and not closed? Inside a "
            'quoted field, two of them ("") stand for one'
        ) from error


def _check_header(names: list[str], where: str) -> None:
    for separator, what in ((";", "semicolons"), ("\t", "tabs")):  # what spreadsheets write in many countries
        if len(names) == 1 and separator in names[0]:
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
    _check_names(names, where)


TABLE = ".parquet"
"""The ending of a table of referents."""

READERS = {".csv": _read_csv, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}


def _check(values: dict[str, Any], error: str | None) -> tuple[dict[str, Any], str | None]:
    """`Row.given` of the values in a row, and the first thing that is wrong with it."""
    texts = {name: value if isinstance(value := values.get(name), str) else None for name in COLUMNS}
    for name, example in COLUMNS.items():
        if error is None and not (texts[name] or "").strip():
            what = "is empty" if values.get(name) == texts[name] else f"is {values[name]!r}"
            error = f"{name} {what}; it must be a text such as {example!r}"
    # The name of a photo may be no valid text, as that of its file.
    if error is None and (trouble := invalid_text_reason(values["expression"])):
        error = f"expression {trouble}"
    if not (texts["image"] or "").strip():
        texts["image"] = None
    return {"id": None, **dict.fromkeys(COLUMNS), **values, **texts}, error


def _check_names(names: Iterable[str], where: str) -> None:
    if taken := sorted(RESERVED.intersection(names)):
        raise ValueError(f"{where}: {', '.join(taken)} would be lost, as results have such a name; rename it first")


def _lines(file: Path) -> Iterator[str]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")  # spreadsheets begin with a mark
            except UnicodeDecodeError as error:
                raise ValueError(f"{file}, line {number} is not UTF-8 ({error.reason}); save it as UTF-8") from error


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON; leave the key out, or write null")


def _finite(digits: str) -> float:
    if math.isinf(value := float(digits)):  # no JSON, and could not be written again
        raise ValueError(f"the number {digits[:60]} is too large; put it in quotes to carry it through as a text")
    return value
