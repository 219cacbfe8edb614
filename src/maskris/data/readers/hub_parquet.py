"""Reader of Parquet files from the Hub, or written by `datasets`: `COLUMNS` says which columns it knows.

Files are read in batches, and photos in them are written out on the way, so that memory stays bounded by a few rows.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maskris.data.readers import Reader
from maskris.data.readers.hub_columns import lacking, recognize, unknown_columns
from maskris.data.readers.hub_files import generations, missing_shards, parquet_files, split_of
from maskris.data.readers.hub_rows import HubOptions, HubRows
from maskris.data.readers.refer import Wording, is_refer
from maskris.data.readers.validation import ReadResult
from maskris.data.table import SCHEMA
from maskris.utils.files import damage
from maskris.utils.progress import show_progress

_BATCH = 32  # rows; with a photo each, a few dozen megabytes
_OF_REFER = {"ref_id", "ann_id", "sentences", "raw_anns"}


def read_hub_parquet(
    source: str | Path | Sequence[str | Path],
    images: str | Path | None = None,
    *,
    dataset: str | None = None,
    split_by: str | None = None,
    text: Wording = "sent",
    photos: str | Path | None = None,
    incomplete: bool = False,
    progress: bool = False,
) -> ReadResult:
    """Read Parquet files as the Hub has them.

    A file is recognized by its columns (`maskris.data.readers.hub_columns.COLUMNS`), whoever wrote it: RefCOCO,
    RefCOCO+ and RefCOCOg of ``jxu124``, ``moondream/refcoco-m``, data of one's own through `datasets`. The split is
    that of a column ``split``, or of the file's name. What carries less than whole masks, or other referents or fewer
    expressions than were published, is refused.

    Args:
        source: One file, several, or a folder with them (``data/train-*.parquet``).
        images: Folder of the photos, if the files don't hold them.
        dataset: Name for the table; by default that of the published data set, or of the folder or file.
        split_by: Partition, such as ``"unc"``; for published data the usual one.
        text: ``"raw"`` takes the sentences as annotators typed them, where they stand there twice.
        photos: Folder to which photos in the files are written.
        incomplete: Take what is refused otherwise, and note what it lacks.
        progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, has no column for photos or expressions, or is there in two generations.
    """
    files, base = _files(source)
    known = {file: _schema(file) for file in files}
    files, unused = _one_generation(files)
    splits = {file: split_of(file, base if len(files) > 1 else None) for file in files}
    as_refer = all(set(known[file].names) >= _OF_REFER for file in files)
    options = HubOptions(images, dataset, split_by, text, photos, incomplete)
    rows = HubRows(files, set(filter(None, splits.values())), base, as_refer, options)
    if missing := missing_shards(files):
        rows.lack("missing file", f"the names of the files promise more: {', '.join(missing)}")
    for file in unused:
        rows.note(f"Not read, because another generation of the file has the same rows: {file}.")
    if unknown := sorted({name for file in files for name in unknown_columns(known[file].names)}):
        rows.note(f"Columns without a meaning here: {', '.join(unknown)}.")
    total = sum(_open(file).metadata.num_rows for file in files)
    try:
        with show_progress("Reading rows", total, shown=progress) as bar:
            for file in files:
                rows.next_file(file)
                for number, record in enumerate(_records(file)):
                    rows.add(f"row {number}", record, splits[file])
                    bar.advance()
    except Exception:  # a full disk, or a damaged file
        rows.discard()
        raise
    return rows.finish()


def _files(source: str | Path | Sequence[str | Path]) -> tuple[list[Path], Path]:
    """The files, and the folder that they have in common."""
    sources = [Path(source)] if isinstance(source, (str, Path)) else [Path(one) for one in source]
    files = [file for one in sources for file in (_found_in(one) if one.is_dir() else [one])]
    if not files:
        raise FileNotFoundError(f"{sources[0]} holds no Parquet files to be prepared (*.parquet, data/*.parquet)")
    if lost := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{lost[0]} does not exist")
    folders = {one if one.is_dir() else one.parent for one in sources}
    if len(folders) == 1:
        return files, folders.pop()
    files = [file.absolute() for file in files]
    levels = takewhile(lambda parts: len(set(parts)) == 1, zip(*(file.parent.parts for file in files), strict=False))
    return files, Path(*(parts[0] for parts in levels))


def _found_in(folder: Path) -> list[Path]:
    """The Parquet files of a folder, without tables that were prepared into it."""
    return [file for file in parquet_files(folder) if not file.is_file() or not _is_prepared(_open(file))]


def _open(file: Path) -> pq.ParquetFile:
    try:
        # By its name alone, pyarrow would take "a:b.parquet" for a URI; buffered ahead, it would stay in memory whole.
        return pq.ParquetFile(pa.OSFile(str(file)), pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(damage(file, "Parquet file", error)) from error


def _is_prepared(opened: pq.ParquetFile) -> bool:
    return set(SCHEMA.names) <= set(opened.schema_arrow.names)


def _schema(file: Path) -> pa.Schema:
    """The columns of a file, which are checked."""
    opened = _open(file)
    if _is_prepared(opened):
        raise ValueError(f"{file} is a prepared table already: evaluate, train and predict read it as it is")
    if lack := lacking(opened.schema_arrow.names):
        raise ValueError(f"{file}: {lack}")
    return opened.schema_arrow


def _one_generation(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files without those that repeat another, and the latter.

    Raises:
        ValueError: If two files stand for the same shard but have different rows.
    """
    unused: list[Path] = []
    for group in generations(files):
        first, *others = (_annotations(file) for file in group)
        if not all(first.equals(other) for other in others):
            sizes = zip(group, [first, *others], strict=True)
            rows = ", ".join(f"{file.name} ({table.num_rows:,} rows)" for file, table in sizes)
            raise ValueError(
                f"{group[0].parent} holds different generations of one file: {rows}. Remove those that are not of the "
                "state that you want, or name the files instead of the folder"
            )
        unused += group[1:]
    return [file for file in files if file not in unused], unused


def _annotations(file: Path) -> pa.Table:
    """What is known of a file, without its photos."""
    opened = _open(file)
    known = recognize(opened.schema_arrow.names)
    return opened.read(columns=sorted(name for meaning, name in known.items() if meaning != "image"))


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """The rows as dictionaries; rows of a bitmap as arrays."""
    opened = _open(file)
    classes = _class_names(opened.schema_arrow)
    try:
        for batch in opened.iter_batches(_BATCH, columns=sorted(recognize(opened.schema_arrow.names).values())):
            columns = dict(zip(batch.schema.names, map(_stored, batch.columns), strict=True))
            for i in range(batch.num_rows):
                yield {name: _value(column[i], classes.get(name)) for name, column in columns.items()}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(damage(file, "Parquet file", error)) from error


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names behind the numbers of a column of classes, which `datasets` keeps in the file's metadata."""
    stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features: dict[str, Any] = (stored.get("info") or {}).get("features") or {}
    kinds = {name: one for name, one in features.items() if isinstance(one, dict)}
    return {name: one["names"] for name, one in kinds.items() if one.get("_type") == "ClassLabel"}


def _stored(column: pa.Array) -> pa.Array:
    """A column without what `datasets` (`Array2D`) or Arrow (JSON) makes of it."""
    return column.storage if isinstance(column.type, pa.BaseExtensionType) else column


def _value(scalar: pa.Scalar, classes: list[str] | None) -> Any:
    if not scalar.is_valid:
        return None
    if classes is not None:
        number = scalar.as_py()
        return classes[number] if 0 <= number < len(classes) else None
    array = _rectangle(scalar.values) if _is_list(scalar.type) and _is_list(scalar.type.value_type) else None
    return scalar.as_py() if array is None else array


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _rectangle(rows: pa.Array) -> np.ndarray | None:
    """Rows of equal length as an array: 300,000 pixels as Python objects would take a hundred times as long."""
    flat, lengths = rows.flatten(), pc.unique(pc.list_value_length(rows)).to_pylist()
    if not pa.types.is_primitive(flat.type) or flat.null_count or rows.null_count or len(lengths) != 1:
        return None
    array: np.ndarray = flat.to_numpy(zero_copy_only=False)
    return array.reshape(len(rows), lengths[0])


def _detects(source: Path, *_: str | None) -> bool:
    if source.is_file():
        return source.suffix.lower() == ".parquet"
    return bool(parquet_files(source)) and not is_refer(source)


HUB_PARQUET = Reader(
    "hub",
    read_hub_parquet,
    "Parquet files with photos or their names, expressions and masks",
    "any",
    _detects,
    several=True,
)
