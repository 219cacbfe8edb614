"""Reader of JSON Lines, the format for one's own data."""

import json
from pathlib import Path
from typing import Any

from maskris.data import masks
from maskris.data.mask_forms import BLURRED, segmentation_of
from maskris.data.orientation import turn_mask
from maskris.data.readers import Reader
from maskris.data.readers.validation import EXPRESSION_KEYS, ReadResult, RowValidator, expressions_of, images_folder


def read_jsonl(source: str | Path, images: str | Path | None = None, *, dataset: str | None = None) -> ReadResult:
    """Read one referent per line.

    ``{"image": "a.jpg", "mask": "a_1.png", "expressions": ["the man on the left"], "split": "train"}``

    ``mask`` is the path of a picture (see `maskris.data.mask_forms`), a COCO RLE ``{"size", "counts"}`` or a list of
    polygons; ``"no_target": true`` instead stands for an expression without a referent in the image. Optional
    are ``category``, ``image_id``, ``ref_id``, ``kinds``, ``mask_source``, ``mask_origin`` (of pseudo masks: what made
    them), ``height`` and ``width``. With ``"mask_source": "none"`` there need be no mask: `maskris label` makes one.
    Lines of ``results.jsonl`` from `maskris predict` have the RLE under ``segmentation``, and an ``orientation`` by
    which it is turned back to the pixels of the photo's file.

    Args:
        source: The JSON Lines file. Masks are relative to its folder.
        images: Folder that ``image`` is relative to; by default the file's folder or ``images`` in it.
        dataset: Name for the table; by default the file's name.

    Raises:
        FileNotFoundError: If the file is missing.
    """
    file = Path(source)
    records, unreadable = [], []
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if isinstance(record, dict):
                records.append((f"line {number}", record))
            else:
                unreadable.append((f"line {number}", f"expected an object {{...}}, not {str(record)[:60]}"))
        except (ValueError, RecursionError) as error:
            unreadable.append((f"line {number}", f"no valid JSON: {error}"))
    names = [str(record.get("image")) for _, record in records]
    rows = RowValidator(file, images_folder(file.parent, images, names), dataset)
    for where, message in unreadable:
        rows.reject(where, "bad value", message)
    image_ids: dict[str, int] = {}
    for where, record in records:
        _add_line(rows, where, record, image_ids)
    return rows.result


def _add_line(rows: RowValidator, where: str, record: dict[str, Any], image_ids: dict[str, int]) -> None:
    problems = []
    no_target = record.get("no_target", False) is True
    unknown = record.get("mask_source") == "none"
    maskless = no_target or unknown
    name = "mask" if "mask" in record or "segmentation" not in record else "segmentation"
    needed = {"image": "image" in record, "split": "split" in record, "mask": maskless or name in record}
    needed["expressions"] = bool(EXPRESSION_KEYS & record.keys())
    if missing := [key for key, there in needed.items() if not there]:
        problems.append(("missing key", f"the line lacks {', '.join(missing)}"))
    image = record.get("image")
    if not isinstance(image, str) or not image:
        if "image" in record:
            problems.append(("bad value", f"image must be a path, not {image!r}"))
        image = ""
    segmentation = None if unknown else record.get(name)
    if no_target and segmentation:
        problems.append(("bad value", "no_target is true, but there is a mask"))
    elif segmentation is None and name in record and not maskless:
        problems.append(("empty mask", f'{name} is null; write "no_target": true if nothing in the image is meant'))
    elif isinstance(segmentation, str):
        try:
            segmentation = segmentation_of(segmentation, None, lambda path: (rows.file.parent / path).read_bytes())
        except (OSError, ValueError) as error:
            problems.append(("damaged mask", f"the mask {segmentation!r} can't be read: {error}"))
            segmentation = None
        if segmentation and "blurred" in segmentation and BLURRED not in rows.result.notes:
            rows.result.notes.append(BLURRED)
    if (orientation := record.get("orientation", 1)) != 1 and segmentation is not None:
        try:
            segmentation = _stored(segmentation, orientation)
        except ValueError as error:
            problems.append(("damaged mask", str(error)))
            segmentation = None
    # Without a size, neither in the line nor in its mask, it is that of the image file.
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    height, width = size if isinstance(size, list) and len(size) == 2 else (None, None)
    if "height" in record and "width" in record:
        height, width = record["height"], record["width"]
    # Predictions for a table name the referent of every expression, but each has a mask of its own.
    ref_id = len(rows.result.rows) if "number" in record else record.get("ref_id", len(rows.result.rows))
    values = {
        "split": record.get("split"),
        "image_id": record.get("image_id", image_ids.setdefault(image, len(image_ids))),
        "ref_id": ref_id,
        "ann_ids": [] if no_target else [ref_id],
        "category": str(record.get("category", "")),
        "image": image,
        "height": height,
        "width": width,
        "expressions": expressions_of(record),
        "kinds": record.get("kinds"),
        "mask_source": record.get("mask_source", "annotated"),
        "mask_origin": record.get("mask_origin", ""),
    }
    rows.add(where, values, [] if maskless else None if segmentation is None else [segmentation], problems)


def _stored(segmentation: Any, orientation: Any) -> dict[str, Any]:
    """The RLE of a mask of an upright photo as that of the pixels in the photo's file."""
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
        raise ValueError("only the RLE of an upright photo can be turned back by its orientation")
    upright = masks.from_segmentation(segmentation, size[0], size[1])
    counts, height, width = turn_mask(upright, size[0], size[1], orientation, back=True)
    return {"size": [height, width], "counts": counts}


def _detects(source: Path, *_: str | None) -> bool:
    return source.suffix.lower() in (".jsonl", ".ndjson") and source.name.lower() != "metadata.jsonl"  # imagefolder's


JSONL = Reader("jsonl", read_jsonl, "a .jsonl file", "file", _detects)
