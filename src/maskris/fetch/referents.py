"""What annotation files hold, before their masks are read: sizes of the splits, and photos that they need."""

from collections.abc import Collection, Iterable, Mapping
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


def count_referents(file: Path) -> dict[str, Counts]:
    """Images, referents and expressions of each split of an annotation file.

    Raises:
        ValueError: If it is damaged, unsafe or of another kind.
    """
    splits: dict[str, list[dict[str, Any]]] = {}
    for ref in _referents(file):
        splits.setdefault(str(ref["split"]), []).append(ref)
    return {
        split: Counts(len({ref["image_id"] for ref in refs}), len(refs), sum(len(ref["sentences"]) for ref in refs))
        for split, refs in splits.items()
    }


def differences(counts: Mapping[str, Counts], published: Mapping[str, Counts]) -> list[str]:
    """Where numbers of referents and expressions are not those published, each in a phrase."""
    return [
        f"{split} has {getattr(counts.get(split, Counts(0, 0, 0)), what):,} {what} instead of {number:,}"
        for split, known in published.items()
        for what, number in (("referents", known.referents), ("expressions", known.expressions))
        if number is not None and number != getattr(counts.get(split, Counts(0, 0, 0)), what)
    ]


def photos_of_annotations(files: Iterable[Path], splits: Collection[str] | None = None) -> set[Photo]:
    """The photos that annotation files speak of in these splits (by default all); ``instances.json`` lies beside them.

    Raises:
        ValueError: If a file is damaged, or a photo has no size or no name within its folder.
    """
    files = list(files)
    coco = CocoFile(files[0].parent / "instances.json")
    refs = (ref for file in files for ref in _referents(file) if splits is None or ref["split"] in splits)
    images = map(coco.image, {ref["image_id"] for ref in refs})
    return _checked(coco.file, ((one.get("file_name"), one.get("height"), one.get("width")) for one in images))


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


def _referents(file: Path) -> list[dict[str, Any]]:
    refs = load_plain(file) if file.suffix == ".p" else read_json(file, list)
    keys = {"image_id", "sentences", "split"}
    if not isinstance(refs, list) or not all(isinstance(one, dict) and keys <= one.keys() for one in refs):
        raise ValueError(f"{file} is no list of referents with {', '.join(sorted(keys))}")
    return refs
