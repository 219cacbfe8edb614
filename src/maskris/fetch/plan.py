"""What is going to be fetched, from where, and how many bytes that takes: known before the first download."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from maskris.data.published_counts import published_sizes
from maskris.data.readers.refer import IMAGE_FOLDERS
from maskris.fetch.manifest import Item, Part, Source
from maskris.utils.download import DownloadError
from maskris.utils.files import recover_folder, sha256_of

Choice = Literal["needed", "all", "none"]
"""Photos to fetch: those that the expressions are about, the whole collection, or none."""


@dataclass(frozen=True)
class Step:
    """One thing that is going to be fetched.

    Attributes:
        what: In words.
        folder: Where it goes.
        origin: Server or file that it is asked of first, or ``"there already"``.
        download: Bytes to download; ``None`` if unknown.
        disk: Bytes on the disk while it is fetched; ``None`` if unknown.
    """

    what: str
    folder: Path
    origin: str = "there already"
    download: int | None = 0
    disk: int | None = 0


@dataclass(frozen=True)
class FetchPlan:
    """What is going to be fetched.

    Attributes:
        steps: In order.
        free: Bytes that are free where it goes.
    """

    steps: Sequence[Step]
    free: int

    def require_space(self) -> None:
        """Raise a `DownloadError` if the disk is too full, as far as sizes are known."""
        if (needed := sum(step.disk or 0 for step in self.steps)) > self.free:
            raise DownloadError(
                f"{needed / 1e9:,.1f} GB are needed in {self.steps[0].folder.parent}, where {self.free / 1e9:,.1f} GB "
                "are free; choose another folder with --out, or fewer photos with --photos or --splits"
            )


class Place:
    """The folder for all data, with what is in it and what the user has elsewhere.

    Args:
        out: The folder.
        source: Folder of archives or photos that are here already.
        manifest: What can be fetched.

    Raises:
        FileNotFoundError: If there is no folder `source`.
        NotADirectoryError: If something else has the name of the folder.
    """

    def __init__(self, out: Path, source: Path | None, manifest: Mapping[str, Item]) -> None:
        self.out, self.source, self.manifest = out, source, manifest
        self._found: dict[Part, Path | None] = {}
        if source and not source.is_dir():
            raise FileNotFoundError(f"There is no folder {source} to take archives from")
        if (out.is_symlink() or out.exists()) and not out.is_dir():
            raise NotADirectoryError(f"{out} is no folder, or leads to none; choose another one with --out")

    def find(self, name: str) -> Item:
        """Annotations or photos by their name, or a `ValueError`."""
        if name not in self.manifest:
            close = get_close_matches(name, self.manifest, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(self.manifest)}"
            raise ValueError(f"There is no data set {name!r}; {hint}")
        return self.manifest[name]

    def plan(self, items: Sequence[Item], photos: Choice, splits: Collection[str] | None) -> FetchPlan:
        """What it takes to fetch these."""
        steps = [
            self._step(one, f"{one.title}: annotations", self.out / one.folder, self.is_complete(one))
            for one in items
            if one.photos
        ]
        for one, users in self.collections(items, photos).items():
            folder = self.photo_folder(one)
            if users:
                # Data sets share photos; how many in all is known when their annotations are here.
                steps.append(self.single_photos(one, folder, max(_photos_used(item, splits) for item in users)))
            else:
                steps.append(self._step(one, one.title, folder, count_photos(one, folder) >= one.used))
        return FetchPlan(steps, shutil.disk_usage(self.out).free)

    def collections(self, items: Sequence[Item], photos: Choice) -> dict[Item, list[Item]]:
        """Collections of photos to fetch, with the data sets whose photos are enough; with none, the whole is meant."""
        named = [item for item in items if not item.photos]
        needed = [self.manifest[item.photos] for item in items if item.photos and photos != "none"]
        return {
            one: []
            if one in named or photos == "all" or not one.each
            else [item for item in items if item.photos == one.name]
            for one in [*named, *needed]
        }

    def single_photos(self, photos: Item, folder: Path, number: int) -> Step:
        """What it takes to fetch single photos, of which those that are there are taken for the right ones."""
        what = f"{photos.title}: {number:,} photos"
        left = max(0, number - count_photos(photos, folder))
        size = left * (photos.unpacked or 0) // photos.used
        return Step(what, folder, urlsplit(photos.each[0]).netloc, size, size) if left else Step(what, folder)

    def photo_folder(self, photos: Item) -> Path:
        """Where photos go: a folder that is there already, wherever readers look for it, else their own."""
        name = Path(photos.folder).name
        there = (self.out / one for one in IMAGE_FOLDERS if Path(one).name == name and (self.out / one).is_dir())
        return next(there, self.out / photos.folder)

    def is_complete(self, item: Item) -> bool:
        """Whether all annotations of a data set are there; other files of their names are a `FileExistsError`."""
        folder = self.out / item.folder
        recover_folder(folder)
        there = {name: known for name, known in item.members.items() if (folder / name).exists()}
        for name, known in there.items():
            if known and (found := sha256_of(folder / name)) != known:
                raise FileExistsError(
                    f"{folder / name} is there already, but is not that of {item.title}: its SHA-256 is {found} "
                    f"instead of {known}. Move it away, or choose another folder"
                )
        return len(there) == len(item.members)

    def local(self, item: Item, part: Part) -> Path | None:
        """The file of a part in the user's folder, or in one of the item's name there: by name, else size and hash."""
        if self.source is None:
            return None
        if part not in self._found:
            # A member has a name that other data sets use as well, so it counts in a folder of the item's name only.
            places = [self.source / Path(item.folder).name, *([self.source] if part.file not in item.members else [])]
            named = (place / part.file for place in places if (place / part.file).is_file())
            alike = (path for path in self._sizes.get(part.size or -1, []) if sha256_of(path) == part.sha256)
            self._found[part] = next(chain(named, alike), None)
        return self._found[part]

    @cached_property
    def _sizes(self) -> dict[int, list[Path]]:
        """The files in the user's folder by their sizes; there may be as many as COCO has photos."""
        sizes: dict[int, list[Path]] = {}
        for path in self.source.iterdir() if self.source else ():
            if path.is_file():
                sizes.setdefault(path.stat().st_size, []).append(path)
        return sizes

    def sources(self, item: Item) -> list[Source]:
        """All sources, those that the user has in whole first."""
        return sorted(item.sources, key=lambda source: not all(self.local(item, part) for part in source.parts))

    def downloaded(self, item: Item, part: Part) -> Path:
        """Where a part lies after its download, until it is unpacked."""
        return self.out / "downloads" / item.name / part.file

    def _step(self, item: Item, what: str, folder: Path, there: bool) -> Step:
        if there:
            return Step(what, folder)
        parts = self.sources(item)[0].parts
        sizes = [self._left(item, part) for part in parts]
        download = None if None in sizes else sum(filter(None, sizes))
        disk = None if download is None or item.unpacked is None else download + item.unpacked
        return Step(what, folder, str(self.local(item, parts[0]) or urlsplit(parts[0].urls[0]).netloc), download, disk)

    def _left(self, item: Item, part: Part) -> int | None:
        """Bytes of a part that are still to be downloaded."""
        path = self.downloaded(item, part)
        if self.local(item, part) or path.exists():
            return 0
        partial = path.with_name(f"{path.name}.partial")
        done = partial.stat().st_size if partial.exists() else 0
        return None if part.bytes is None else max(0, part.bytes - done)


def count_photos(photos: Item, folder: Path) -> int:
    """How many photos of a collection are in a folder."""
    return len({path for pattern in photos.members for path in folder.rglob(pattern)}) if folder.is_dir() else 0


def _photos_used(item: Item, splits: Collection[str] | None) -> int:
    """Photos of a data set in these splits of its usual partition, as far as its numbers are published."""
    sizes = published_sizes(item.name, next(iter(item.partitions)))
    return item.used if splits is None or not sizes else sum(sizes[one].images or 0 for one in splits if one in sizes)
