"""Where the photos lie that a file names: the folder is found once, by the first names that exist in one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskris.data.readers.refer import IMAGE_FOLDERS, Photos

_BELOW = ("", *IMAGE_FOLDERS, "images", "coco/train2014")
_TRIES = 10  # rows


class PhotoSearch:
    """Photos by their names in annotations, such as ``coco/train2014/COCO_train2014_000000000009.jpg``.

    Args:
        base: The folder of the annotations. It, the one above, and `IMAGE_FOLDERS` there are searched for photos.
        images: Where they are looked for instead.
        coco: Whether they are COCO's: base names alone count, and where none is found, ``train2014`` is expected.
    """

    def __init__(self, base: Path, images: str | Path | None, coco: bool) -> None:
        self._roots = [base, base.parent] if images is None else [Path(images)]
        self._base_names = coco or images is not None
        self._expected = base / IMAGE_FOLDERS[0] if coco and images is None else self._roots[0]
        self._found: Photos | None = None
        self._tries = 0

    @property
    def folder(self) -> Path:
        """The folder that names are relative to."""
        return self._found.folder if self._found else self._expected

    def find(self, names: Sequence[str], image_id: int | None) -> str:
        """The name of a photo beneath `folder`: the first that exists, otherwise the first that should.

        Args:
            names: Its names or paths in the annotations.
            image_id: Its number in COCO, for files that are named by it.
        """
        names = [name.replace("\\", "/") for name in names]
        if self._found is None and self._tries < _TRIES:
            self._tries += 1
            self._found = next((one for one in self._folders() if _name_in(one, names, image_id)), None)
        found = _name_in(self._found, names, image_id) if self._found else None
        return found or (names[0].rsplit("/", 1)[-1] if self._base_names else names[0])

    def _folders(self) -> Iterator[Photos]:
        return (Photos(root / name) for root in self._roots for name in _BELOW if (root / name).is_dir())


def _name_in(photos: Photos, names: Sequence[str], image_id: Any) -> str | None:
    """The name of a photo in a folder: its path, its base name, or COCO's name of its number."""
    for name in names:
        first, base = name.split("/", 1)[0], name.rsplit("/", 1)[-1]
        # An absolute path, or one whose first folder is there: asking for every file is slow on a network drive.
        if first != base and (not first or first in photos.listing) and (photos.folder / name).is_file():
            return name
        if base in photos.listing:
            return base
    found = photos.name(image_id, None, names[-1])
    return found if found in photos.listing else None
