"""Reader of JSON Lines, the format for one's own data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskris.data import masks
from maskris.data.readers.coco import _EXPRESSION_KEYS, _expressions, _root_of
from maskris.data.readers.collector import Reading, RowCollector
from maskris.data.table import ReferringTable


def read_jsonl(file: str | Path, images: str | Path | None = None, *, dataset: str | None = None) -> ReferringTable:
    """Read one referent per line.

    ``{"image": "a.jpg", "mask": "a_1.png", "expressions": ["the man on the left"], "split": "train"}``

    ``mask`` is a PNG (all but black is inside, in a palette all but index 0), a COCO RLE ``{"size", "counts"}`` or a
    list of polygons; ``"no_target": true`` instead says that nothing in the image is meant. Optional are ``category``,
    ``image_id``, ``ref_id``, ``kinds``, ``mask_source``, ``height`` and ``width``.

    Args:
        file: The JSON Lines file. Masks are relative to its folder.
        images: Folder that ``image`` is relative to; by default the file's folder or ``images`` in it.
        dataset: Name for the table; by default the file's name.

    Raises:
        FileNotFoundError: If the file is missing.
        InvalidData: If lines have problems; the error holds all of them, with line numbers.
    """
    return scan_jsonl(file, images, dataset=dataset).table()


def scan_jsonl(file: str | Path, images: str | Path | None = None, *, dataset: str | None = None) -> Reading:
    """As `read_jsonl`, but the problems are returned."""
    file = Path(file)
    records = []
    unreadable = []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            unreadable.append((f"line {number}", "bad value", f"no valid JSON: {error}"))
            continue
        if isinstance(record, dict):
            records.append((f"line {number}", record))
        else:
            unreadable.append((f"line {number}", "bad value", f"expected an object {{...}}, not {str(record)[:60]}"))
    names = [str(record.get("image")) for _, record in records]
    collector = RowCollector(file, file.parent, _root_of(file.parent, images, names), dataset or file.stem)
    for problem in unreadable:
        collector.unreadable(*problem)
    image_ids: dict[str, int] = {}
    sizes = _Sizes(collector.reading.images_root)
    for where, record in records:
        _add_line(collector, where, record, image_ids, sizes)
    return collector.reading


def _add_line(
    collector: RowCollector, where: str, record: dict[str, Any], image_ids: dict[str, int], sizes: "_Sizes"
) -> None:
    problems = []
    no_target = record.get("no_target", False) is True
    needed = {"image": "image" in record, "split": "split" in record, "mask": no_target or "mask" in record}
    needed["expressions"] = bool(_EXPRESSION_KEYS & record.keys())
    if missing := [key for key, there in needed.items() if not there]:
        problems.append(("missing key", f"the line lacks {', '.join(missing)}"))
    image = record.get("image")
    if not isinstance(image, str) or not image:
        if "image" in record:
            problems.append(("bad value", f"image must be a path, not {image!r}"))
        image = ""
    segmentation = record.get("mask")
    if no_target and segmentation:
        problems.append(("bad value", "no_target is true, but there is a mask"))
    elif segmentation is None and "mask" in record and not no_target:
        problems.append(("empty mask", 'mask is null; write "no_target": true if nothing in the image is meant'))
    elif isinstance(segmentation, str):
        try:
            segmentation = _read_mask(collector.file.parent / segmentation)
        except (OSError, ValueError) as error:
            problems.append(("damaged mask", f"the mask {segmentation!r} can't be read: {error}"))
            segmentation = None
    height, width, trouble = _size_of(record, segmentation, image, sizes)
    problems += trouble
    values = {
        "split": record.get("split"),
        "image_id": record.get("image_id", image_ids.setdefault(image, len(image_ids))),
        "ref_id": record.get("ref_id", len(collector.reading.rows)),
        "ann_ids": [] if no_target else [record.get("ref_id", len(collector.reading.rows))],
        "category": str(record.get("category", "")),
        "image": image,
        "height": height,
        "width": width,
        "expressions": _expressions(record),
        "kinds": record.get("kinds"),
        "mask_source": record.get("mask_source", "annotated"),
    }
    segmentations = [] if no_target else None if segmentation is None else [segmentation]
    collector.add(where, values, segmentations, problems)


def _size_of(
    record: dict[str, Any], segmentation: Any, image: str, sizes: "_Sizes"
) -> tuple[Any, Any, list[tuple[str, str]]]:
    """Height and width by the line, else by its mask, else by the header of the image; `prepare` compares them all."""
    if "height" in record and "width" in record:
        return record["height"], record["width"], []
    if isinstance(segmentation, dict) and isinstance(segmentation.get("size"), list) and len(segmentation["size"]) == 2:
        return *segmentation["size"], []
    size, trouble = sizes(image) if image else (None, None)
    return *(size or (None, None)), [trouble] if trouble else []


class _Sizes:
    """Height and width of images, from their headers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[str, tuple[tuple[int, int] | None, tuple[str, str] | None]] = {}

    def __call__(self, image: str) -> tuple[tuple[int, int] | None, tuple[str, str] | None]:
        if image not in self.known:
            self.known[image] = self._read(self.root / image)
        return self.known[image]

    def _read(self, path: Path) -> tuple[tuple[int, int] | None, tuple[str, str] | None]:
        try:
            with Image.open(path) as photo:
                return (photo.height, photo.width), None
        except FileNotFoundError:
            return None, ("missing image", f"{path} does not exist")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return None, ("undecodable image", f"{path} can't be decoded: {error}")


def _read_mask(path: Path) -> dict[str, Any]:
    """A mask from an image file, as RLE."""
    with Image.open(path) as picture:
        opaque = {"RGBA": "RGB", "LA": "L", "PA": "P"}.get(picture.mode)  # transparency says nothing
        pixels = np.asarray(picture.convert(opaque) if opaque else picture)
    inside = pixels != 0 if pixels.ndim == 2 else (pixels != 0).any(axis=2)
    return {"size": list(inside.shape), "counts": masks.encode(inside)}
