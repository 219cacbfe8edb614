"""Reader of folders in the layout that `datasets` calls imagefolder: photos, and what is known of them in metadata.

photos/train/metadata.jsonl      {"file_name": "a.jpg", "mask_file_name": "masks/a.png", "text": "the red mug"}
photos/train/a.jpg  photos/train/masks/a.png
photos/validation/metadata.csv   …
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskris.data.readers import Reader
from maskris.data.readers.hub_columns import COLUMNS, recognize
from maskris.data.readers.hub_files import metadata_files, split_of
from maskris.data.readers.hub_rows import HubOptions, HubRows
from maskris.data.readers.refer import is_refer
from maskris.data.readers.validation import ReadResult


def read_imagefolder(
    source: str | Path,
    images: str | Path | None = None,
    *,
    dataset: str | None = None,
    split_by: str | None = None,
    incomplete: bool = False,
) -> ReadResult:
    """Read photos with ``metadata.jsonl`` or ``metadata.csv``, in a folder or one for each split.

    ``file_name`` is the photo and ``mask_file_name`` its mask, relative to the metadata; other keys are recognized as
    columns of Parquet files are (`maskris.data.readers.hub_columns.COLUMNS`). The split is that of a key ``split``, or
    of the folder's name (``validation`` is val).

    Args:
        source: The folder, or a metadata file in it.
        images: Folder of the photos, if they lie elsewhere.
        dataset: Name for the table; by default that of the folder.
        split_by: Who split it.
        incomplete: Take expressions without masks, for prediction.

    Raises:
        FileNotFoundError: If there are no metadata.
    """
    base = Path(source)
    files = metadata_files(base) if base.is_dir() else [base]
    if not files:
        raise FileNotFoundError(f"{base} holds no metadata.jsonl or metadata.csv")
    base = base if base.is_dir() else base.parent
    splits = {split for file in files if (split := split_of(file, base))}
    options = HubOptions(images or base, dataset or base.resolve().name, split_by, incomplete=incomplete)
    rows = HubRows(files, splits, base, as_refer=False, options=options)
    for file in files:
        rows.next_file(file)
        for where, record in _records(file):
            if isinstance(record, dict) and not (record := _checked(record)).get("problem"):
                name = file.parent.relative_to(base) / record["file_name"]
                rows.add(where, record | {"file_name": name.as_posix()}, split_of(base / name, base))
            else:
                rows.reject(where, record if isinstance(record, str) else record["problem"])
    return rows.finish()


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """A record with ``mask`` for ``mask_file_name``, or the ``problem`` why it is none."""
    named = record.get("file_name")
    if not isinstance(named, str) or not named:
        return {"problem": f"there is no file_name; the keys are {', '.join(record)}"}
    if not {"expressions", "objects"} & recognize(record).keys():
        known = ", ".join(COLUMNS["expressions"])
        return {"problem": f"there are no expressions ({known}); the keys are {', '.join(record)}"}
    return {key.removesuffix("_file_name"): value for key, value in record.items() if key not in COLUMNS["image"]}


def _records(file: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Each record with its place, or the reason why it can't be read."""
    if file.suffix.lower() == ".csv":
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from error
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a mask as JSON may be long
        reader = csv.DictReader(io.StringIO(text, newline=""))
        for record in reader:
            where = f"line {reader.line_num}"
            if more := record.pop(None, None):
                yield where, f"the line has more fields than the first, which names them: {', '.join(more)[:60]}"
            else:
                yield where, {key: value for key, value in record.items() if key and value}
        return
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", f"no valid JSON: {error}"
        else:
            valid = isinstance(record, dict)
            yield f"line {number}", record if valid else f"expected an object {{...}}, not {str(record)[:60]}"


def _detects(source: Path, *_: str | None) -> bool:
    if source.is_file():
        return source.name.lower() in ("metadata.jsonl", "metadata.csv")
    return bool(metadata_files(source)) and not is_refer(source)


IMAGEFOLDER = Reader(
    "imagefolder", read_imagefolder, "a folder with photos and metadata.jsonl or metadata.csv", "any", _detects
)
