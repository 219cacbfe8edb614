"""What the columns of files on the Hub mean, by their names.

`COLUMNS` is the one place where names are known. Fields of an object (of a list ``samples``), keys of imagefolder's
metadata and columns of a Parquet file are recognized alike.
"""

from collections.abc import Iterable, Mapping
from typing import Any

COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image", "img", "photo", "picture"),
    "image_name": ("image_path", "file_name", "filename", "image_file", "image_name", "img_path"),
    "expressions": (
        *("sentences", "expressions", "expression", "captions", "caption", "sentence", "phrases", "phrase"),
        *("referring_expression", "text", "answer"),
    ),
    "mask": ("mask", "segmentation", "segmentation_mask", "gt_mask", "rle", "raw_anns"),
    "objects": ("samples", "objects", "referents", "annotations"),
    "split": ("split",),
    "no_target": ("no_target",),
    "kinds": ("kinds",),
    "mask_source": ("mask_source",),
    "mask_origin": ("mask_origin",),
    "category": ("category", "category_name", "class_name"),
    "category_id": ("category_id",),
    "image_id": ("image_id",),
    "ref_id": ("ref_id",),
    "ann_id": ("ann_id", "annotation_id", "question_id", "id"),
    "height": ("height", "img_height", "image_height"),
    "width": ("width", "img_width", "image_width"),
    "image_info": ("raw_image_info",),
    "box": ("bbox", "box", "boxes", "bboxes"),
}
"""What a column means, and the names it may have; of several that are there, the first is taken.

``image`` is a photo (bytes, or its path), ``image_name`` its file name, ``objects`` a list of referents in one photo,
``image_info`` JSON text with COCO's ``height`` and ``width``. A ``box`` is never taken for a mask: its presence only
explains a refusal.
"""

_MEANINGS = {name: meaning for meaning, names in COLUMNS.items() for name in names}


def recognize(names: Iterable[str]) -> dict[str, str]:
    """The column (or field, or key) of each meaning; case doesn't count.

    Example:
        >>> recognize(["Image", "text", "answer", "bbox", "tokens"])
        {'image': 'Image', 'expressions': 'text', 'box': 'bbox'}
    """
    there = {name.lower(): name for name in names}
    return {
        meaning: next(there[known] for known in candidates if known in there)
        for meaning, candidates in COLUMNS.items()
        if any(known in there for known in candidates)
    }


def by_meaning(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the meanings of its keys instead of their names; what isn't recognized is left out."""
    return {meaning: record[name] for meaning, name in recognize(record).items()}


def unknown_columns(names: Iterable[str]) -> list[str]:
    """The names that mean nothing here."""
    return [name for name in names if name.lower() not in _MEANINGS]


def lacking(names: Iterable[str]) -> str:
    """What a set of columns lacks to be referents, and what is there; ``""`` if only masks may be lacking."""
    names = list(names)
    found = recognize(names)
    needed = {"a photo": {"image", "image_name"}, "expressions": {"expressions", "objects"}}
    missing = [what for what, meanings in needed.items() if not meanings & found.keys()]
    if not missing:
        return ""
    able = {what: [name for meaning in sorted(needed[what]) for name in COLUMNS[meaning]] for what in missing}
    known = "; ".join(f"{what}: {', '.join(known)}" for what, known in able.items())
    return (
        f"there is no column for {' or '.join(missing)}. The columns are {', '.join(names) or 'none'}; known names are "
        f"{known}. Rename the column that holds it (`dataset.rename_column`)"
    )
