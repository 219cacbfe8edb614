"""Predictions of any model as rows: JSON Lines, JSON, Parquet or a folder of masks, and the mask of a row."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from maskris.data import masks
from maskris.data.mask_forms import Pixels, parse_mask
from maskris.data.orientation import turn_mask
from maskris.evaluation.result import Evaluation

MASK_KEYS = ("segmentation", "mask", "mask_file")
"""Where the mask of a row stands; the first of them that is there and not null."""

RESULTS, PREDICTION = "results.jsonl", "prediction.json"
"""What `maskris predict` writes into a folder."""

_PNG = re.compile(r"(-?\d+)_(\d+)\.png", re.IGNORECASE)
_FORMS = f"JSON Lines (.jsonl, .ndjson), JSON, Parquet, or a folder with {RESULTS} or with PNGs REFID_NUMBER.png"


@dataclass(frozen=True)
class GivenRow:
    """One prediction as its file has it.

    Attributes:
        where: Its place, such as ``"line 3"``.
        values: By key; empty where the row can't be read.
        folder: What paths of masks are relative to.
        problem: Why it can't be read.
    """

    where: str
    values: Mapping[str, Any]
    folder: Path = Path()
    problem: str = ""


@dataclass(frozen=True)
class GivenMask:
    """The mask of a row.

    Attributes:
        counts: Compressed counts, of the size that was asked for.
        form: What it was given as: ``"RLE"``, ``"polygons"``, ``"pixels of 0 and 255"``, …
    """

    counts: bytes
    form: str


class SoftMaskError(ValueError):
    """A mask holds probabilities, and no threshold was given."""


def read_predictions(source: str | Path | Iterable[Mapping[str, Any]]) -> Iterator[GivenRow]:
    """The rows of predictions, in the order of their source.

    Args:
        source: A file of JSON Lines; JSON with a list of rows, or what `maskris predict` writes for one photo; Parquet;
            a folder that `maskris predict` has written for many photos; a folder of PNGs with the name
            ``REFID_NUMBER.png``, where the number is that of the expression within its referent, from 0; or mappings.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is none of these.
    """
    if not isinstance(source, (str, Path)):
        return (_row(f"row {number}", values, Path()) for number, values in enumerate(source))
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"There are no predictions {path}")
    if path.is_dir():
        known = next((path / name for name in (RESULTS, PREDICTION) if (path / name).is_file()), None)
        return _read_folder(path) if known is None else read_predictions(known)
    readers = {".jsonl": _read_lines, ".ndjson": _read_lines, ".json": _read_json, ".parquet": _read_parquet}
    if (reader := readers.get(path.suffix.lower())) is None:
        raise ValueError(f"{path} is no form of predictions: {_FORMS}")
    return reader(path)


def _read_lines(file: Path) -> Iterator[GivenRow]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                values = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                yield GivenRow(where, {}, problem=f"no valid JSON: {error}")
                continue
            yield _row(where, values, file.parent)


def _read_json(file: Path) -> Iterator[GivenRow]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no valid JSON: {error}") from error
    common: dict[str, Any] = {}
    if isinstance(content, dict) and isinstance(content.get("predictions"), list):  # of `maskris predict`, one photo
        common = {name: content[name] for name in ("image", "orientation") if name in content}
        content = content["predictions"]
    if not isinstance(content, list):
        raise ValueError(f"{file} holds no list of predictions, but {_short(content)}")
    for number, values in enumerate(content):
        yield _row(f"entry {number}", common | values if isinstance(values, dict) else values, file.parent)


def _read_parquet(file: Path) -> Iterator[GivenRow]:
    number = 0
    if Evaluation.is_saved(file):
        raise ValueError(f"{file} holds what was measured, and no masks; compare with it by --against")
    with file.open("rb") as stream:  # by its name alone, pyarrow would take "a:b.parquet" for a URI
        for batch in pq.ParquetFile(stream).iter_batches(1000, use_threads=False):
            for values in batch.to_pylist():
                yield _row(f"row {number}", values, file.parent)
                number += 1


def _read_folder(folder: Path) -> Iterator[GivenRow]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")
    if not files:
        raise ValueError(f"{folder} holds no predictions: {_FORMS}")
    for path in files:
        if name := _PNG.fullmatch(path.name):
            yield GivenRow(path.name, {"ref_id": int(name[1]), "number": int(name[2]), "mask": path.name}, folder)
        else:
            problem = "the name of a mask is REFID_NUMBER.png, such as 17_0.png for the first expression of ref_id 17"
            yield GivenRow(path.name, {}, problem=problem)


def _row(where: str, values: Any, folder: Path) -> GivenRow:
    if not isinstance(values, Mapping):
        return GivenRow(where, {}, problem=f"expected an object {{...}}, not {_short(values)}")
    return GivenRow(where, values, folder)


def mask_of(row: GivenRow, size: tuple[int, int], threshold: float | None = None) -> GivenMask:
    """The mask of a row.

    It is in one of the forms of `parse_mask`, an array ``[h, w]`` or anything that becomes one (a tensor, an image of
    PIL). Polygons are as COCO draws them: their points are edges of pixels. ``null`` and an empty list stand for a mask
    without pixels. A key ``orientation`` says that the mask is that of the upright photo, which was turned by this
    orientation of EXIF; such a mask is turned back.

    Args:
        row: With one of `MASK_KEYS`.
        size: Height and width that are compared: those of the photo's file, or of a model's input.
        threshold: A pixel of a soft mask belongs to the referent where its probability (as a share of the greatest
            value of the type) is above this.

    Raises:
        SoftMaskError: If pixels have values between, and there is no threshold.
        SizeMismatchError: If the mask has another size.
        ValueError: If there is no mask, or it is damaged.
        OSError: If a picture can't be read.
    """
    present = [row.values[key] for key in MASK_KEYS if key in row.values]
    if not present:
        raise ValueError(f"the row lacks segmentation; it has {', '.join(map(str, row.values)) or 'nothing'}")
    given = next((value for value in present if value is not None), None)
    orientation = _orientation_of(row.values.get("orientation"))
    upright = (size[1], size[0]) if orientation >= 5 else size
    if hasattr(given, "__array__"):
        found: Any = Pixels(np.asarray(given))
    else:
        found = [] if given is None or given == [] else parse_mask(given, size, lambda path: _read(row.folder / path))
    if isinstance(found, list) and not found:
        return GivenMask(masks.empty(*size), "empty")
    if isinstance(found, Pixels):
        inside, form = harden(_plane(found), threshold)
        counts, own = masks.encode(inside), (inside.shape[0], inside.shape[1])
    else:
        first = found[0] if isinstance(found, list) else found
        form = "RLE" if isinstance(first, dict) else "polygons"
        own = (_size(first.get("size")) if isinstance(first, dict) else _size_beside(row.values)) or upright
        counts = masks.from_segmentation(found, *own)
        if message := masks.misplaced(found, *own):
            raise ValueError(message)
    if own == upright:  # else the table itself may follow the upright photo, which the sizes show
        counts, *stored = turn_mask(counts, *own, orientation, back=True)
        own = (stored[0], stored[1])
    if own != size:
        swapped = own == (size[1], size[0])
        hint = (
            "; if it is that of the photo as viewers show it, add to the row the EXIF orientation that was applied "
            '(5 to 8): "orientation": 6'
        )
        raise masks.SizeMismatchError(
            f"the mask has {own[0]} x {own[1]} pixels (height x width), not {size[0]} x {size[1]}"
            f"{hint if swapped else ''}"
        )
    return GivenMask(counts, form)


def _orientation_of(value: Any) -> int:
    """EXIF's number, which may be stored as a float; 1 where there is none (in a column of floats, NaN)."""
    if value is None or value != value or value == 0:
        return 1
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value not in range(1, 9):
        raise ValueError(f"the orientation is a number of EXIF from 1 to 8, not {value!r}")
    return int(value)


def harden(plane: np.ndarray, threshold: float | None = None) -> tuple[np.ndarray, str]:
    """A plane of pixels as a bool mask, and what its values were.

    Args:
        plane: ``[h, w]``: bool; 0 and 1; 0 and the greatest value of its type (255, 65535), also as floats; or
            probabilities, as floats in [0, 1] or as a share of the greatest value of an unsigned type.
        threshold: As for `mask_of`.

    Raises:
        SoftMaskError: If there are values between, and no threshold.
        ValueError: If the values are no probabilities.
    """
    if plane.ndim != 2 or not plane.size or plane.dtype.kind not in "biuf":
        raise ValueError(f"a mask is a plane of numbers, not {plane.dtype} of the shape {list(plane.shape)}")
    if plane.dtype == bool:
        return plane, "pixels of 0 and 1"
    low, high = plane.min(), plane.max()
    hard = bool(((plane == 0) | (plane == high)).all())
    full = np.iinfo(plane.dtype).max if plane.dtype in (np.uint8, np.uint16) else 255
    if hard and high in (0, 1, 255, full):
        return plane != 0, f"pixels of 0 and {int(high) or 1}"
    scale = full if plane.dtype in (np.uint8, np.uint16) else 1
    if not (low >= 0 and high <= scale):
        raise ValueError(f"its values, from {low:g} to {high:g}, are no probabilities; are they logits or indices?")
    if threshold is None:
        raise SoftMaskError(f"the mask is soft: its values lie between 0 and {scale}, from {low:g} to {high:g}")
    return plane / scale > threshold, "probabilities"


def _plane(pixels: Pixels) -> np.ndarray:
    """One number for each pixel. Colors or indices are a mask if there is one, on a ground of black or of index 0."""
    values = pixels.values
    if values.ndim == 3 and (values == values[:, :, :1]).all():
        values = values[:, :, 0]
    if pixels.picture and (values.ndim == 3 or pixels.indexed):
        flat = values.reshape(*values.shape[:2], -1)
        inside = flat.any(axis=2)
        if inside.any() and (flat[inside] != flat[inside][0]).any():
            raise ValueError("the picture has several colors; a mask has one on black")
        return np.asarray(inside)
    return values


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise FileNotFoundError(f"there is no mask {file}")
    return file.read_bytes()


def _size_beside(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that a row says beside its polygons."""
    return _size(values.get("size")) or _size([values.get("height"), values.get("width")])


def _size(value: Any) -> tuple[int, int] | None:
    whole = isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(side, int) for side in value)
    return (value[0], value[1]) if whole else None


def _short(value: object) -> str:
    return text if len(text := repr(value)) <= 60 else f"{text[:57]}..."
