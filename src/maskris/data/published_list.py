"""A published list of training images or annotations, read from the plain formats that one meets.

    one image id or file name per line        581857          COCO_train2014_000000581857.jpg
    JSON                                      [581857, …]     [{"image_id": 581857, "ann_id": 17}, …]
    a REFER-style pickle, refs(mix).p         [{"image_id": 581857, "ann_id": 17, "split": "train", …}, …]

`maskris.data.mixing.combine` compares such a list with its own rule. This file is light.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from maskris.data.rows import load_json
from maskris.data.unpickle import load_plain

Name = int | str
"""An image: COCO's id where its file is named as in COCO, otherwise the name that is given."""

_COCO = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{12})(?:_\d+)?\.(?:jpe?g|png)", re.IGNORECASE)


def coco_id(file: str) -> int | None:
    """COCO's number of an image by the name of its file, in COCO 2014, COCO 2017 or REFER; ``None`` for other names.

    Example:
        >>> coco_id("train2014/COCO_train2014_000000581857_16.jpg"), coco_id("000000581857.jpg"), coco_id("cat.jpg")
        (581857, 581857, None)
    """
    match = _COCO.fullmatch(PurePosixPath(file).name)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class PublishedList:
    """Which images, or which annotations of them, a publication trained on.

    Attributes:
        file: Where it comes from.
        images: The images that it names.
        annotations: Pairs of an image and its sorted annotation ids; ``None`` where the list names images only.
    """

    file: Path
    images: frozenset[Name]
    annotations: frozenset[tuple[Name, tuple[int, ...]]] | None = None

    def find(self, image: str, image_id: int, ann_ids: Sequence[int]) -> Name | tuple[Name, tuple[int, ...]] | None:
        """The entry that a referent answers to, or ``None``.

        Args:
            image: File of its image, relative to the folder of images.
            image_id: Number of its image in its source.
            ann_ids: Its annotations.
        """
        number = coco_id(image)
        names: tuple[Name, ...] = (image_id, image, PurePosixPath(image).name) if number is None else (number,)
        for name in names:
            if self.annotations is None:
                if name in self.images:
                    return name
            elif (entry := (name, tuple(sorted(ann_ids)))) in self.annotations:
                return entry
        return None

    @property
    def entries(self) -> frozenset[Any]:
        """What `find` may return."""
        return self.images if self.annotations is None else self.annotations


def read_published_list(file: str | Path) -> PublishedList:
    """Read a list; see the top of this file for the formats.

    Of records with a ``split``, those of ``"train"`` count. A pickle is read by the unpickler that builds plain values
    only.

    Args:
        file: ``.p`` or ``.pkl`` for a pickle, ``.json`` for JSON, anything else for text.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else, or names nothing.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"The published list {file} does not exist")
    kind = file.suffix.lower()
    content = load_plain(file) if kind in (".p", ".pkl", ".pickle") else load_json(file) if kind == ".json" else None
    if content is None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no text of one image per line: {error}") from error
        return _of_images(file, [(f"line {n}", line.strip()) for n, line in enumerate(lines, 1) if line.strip()])
    if not isinstance(content, list):
        raise ValueError(f"{file} must hold a list of images or of referents, not a {type(content).__name__}")
    entries = [(f"entry {number}", entry) for number, entry in enumerate(content)]
    if any(isinstance(entry, dict) for _, entry in entries):
        return _of_records(file, entries)
    return _of_images(file, entries)


def _of_images(file: Path, entries: Iterable[tuple[str, Any]]) -> PublishedList:
    images = frozenset(_name(file, where, entry) for where, entry in entries)
    if not images:
        raise ValueError(f"{file} names no images")
    return PublishedList(file, images)


def _of_records(file: Path, entries: Sequence[tuple[str, Any]]) -> PublishedList:
    found: list[tuple[Name, tuple[int, ...] | None]] = []
    for where, entry in entries:
        if not isinstance(entry, dict):
            raise ValueError(f"{file}: {where} is {str(entry)[:60]!r}, but others are referents (dicts)")
        if entry.get("split", "train") != "train":
            continue
        image = entry.get("image_id", entry.get("file_name"))
        found.append((_name(file, where, image), _ann_ids(file, where, entry) if _NAMES & entry.keys() else None))
    if not found:
        raise ValueError(f"{file} names nothing to train on: no entry has the split 'train'")
    images = frozenset(image for image, _ in found)
    if lacking := sum(ann_ids is None for _, ann_ids in found):
        if lacking < len(found):
            raise ValueError(f"{file}: {lacking} of {len(found)} referents lack ann_id, so it is unclear what is meant")
        return PublishedList(file, images)
    return PublishedList(file, images, frozenset((image, ann_ids) for image, ann_ids in found if ann_ids is not None))


_NAMES = {"ann_id", "ann_ids"}


def _ann_ids(file: Path, where: str, entry: dict[str, Any]) -> tuple[int, ...]:
    value = entry.get("ann_ids", entry.get("ann_id"))
    ids = [one for one in (value if isinstance(value, list) else [value]) if one not in (None, -1)]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
        raise ValueError(f"{file}: {where} has the annotations {value!r}; whole numbers are expected")
    return tuple(sorted(ids))


def _name(file: Path, where: str, value: Any) -> Name:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"{file}: {where} names no image: {str(value)[:60]!r} is neither a number nor a file name")
    if value.isdecimal():
        return int(value)
    number = coco_id(value)
    return PurePosixPath(value).as_posix() if number is None else number
