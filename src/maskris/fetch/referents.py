"""What annotation files hold, before their masks are read: sizes of the splits, and photos that they need."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from maskris.data.published_counts import Counts
from maskris.data.readers.coco import CocoFile
from maskris.data.readers.pickles import load_plain
from maskris.data.table import ReferringTable
from maskris.utils.files import read_json


class Photo(NamedTuple):
    """A photo that is needed.

    Attributes:
        image: Its path below the folder of the photos.
        height: In pixels, as annotated.
        width: In pixels, as annotated.
    """

    image: str
    height: int
    width: int


class Split(NamedTuple):
    """What a split holds.

    Attributes:
        counts: Images, referents and expressions.
        images: Numbers of the photos.
    """

    counts: Counts
    images: set[int]


def read_splits(file: Path) -> dict[str, Split]:
    """The splits of an annotation file, by their names.

    Raises:
        ValueError: If it is damaged, unsafe or of another kind.
    """
    refs = load_plain(file) if file.suffix == ".p" else read_json(file, list)
    keys = {"image_id", "sentences", "split"}
    if not isinstance(refs, list) or not all(isinstance(one, dict) and keys <= one.keys() for one in refs):
        raise ValueError(f"{file} is no list of referents with {', '.join(sorted(keys))}")
    splits: dict[str, list[dict[str, Any]]] = {}
    for ref in refs:
        splits.setdefault(str(ref["split"]), []).append(ref)
    return {name: _split(some) for name, some in splits.items()}


def _split(refs: list[dict[str, Any]]) -> Split:
    images = {ref["image_id"] for ref in refs}
    return Split(Counts(len(images), len(refs), sum(len(ref["sentences"]) for ref in refs)), images)


def counts_of(splits: Mapping[str, Split]) -> dict[str, Counts]:
    """The counts of each split."""
    return {name: split.counts for name, split in splits.items()}


def differences(counts: Mapping[str, Counts], published: Mapping[str, Counts]) -> list[str]:
    """Where numbers of referents and expressions are not those published, each in a phrase."""
    numbers = (
        (split, what, getattr(counts.get(split, Counts(0, 0, 0)), what), getattr(known, what))
        for split, known in published.items()
        for what in ("referents", "expressions")
    )
    return [
        f"{split} has {ours:,} {what} instead of {theirs:,}"
        for split, what, ours, theirs in numbers
        if theirs not in (None, ours)
    ]


def photos_of_annotations(instances: Path, numbers: Iterable[int]) -> set[Photo]:
    """Photos by their numbers, with the names and sizes that a COCO file has for them.

    Raises:
        ValueError: If the file is damaged, or a photo has no size or no name within its folder.
    """
    images = map(CocoFile(instances).image, numbers)
    return _checked(instances, ((one.get("file_name"), one.get("height"), one.get("width")) for one in images))


def photos_of_table(file: Path, table: ReferringTable) -> set[Photo]:
    """The photos of a table in a file; errors as for `photos_of_annotations`."""
    return _checked(file, zip(*map(table.column, Photo._fields), strict=True))


def _checked(file: Path, photos: Iterable[tuple[Any, Any, Any]]) -> set[Photo]:
    unique = {Photo(*one) for one in photos}
    for one in unique:
        if not (isinstance(one.image, str) and isinstance(one.height, int) and isinstance(one.width, int)):
            raise ValueError(f"{file}: a photo lacks its name or size: {tuple(one)}")
        if Path(one.image).is_absolute() or ".." in Path(one.image).parts:
            raise ValueError(f"{file}: the photo {one.image!r} would lie outside of the folder of photos")
    return unique
