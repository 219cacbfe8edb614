"""Files of a data set from the first source that gives them, checked and put in their folder."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from filecmp import cmp
from pathlib import Path
from typing import TypeVar

from maskris.data.published_counts import published_sizes
from maskris.fetch.archives import ArchiveError, extract
from maskris.fetch.manifest import Item, Part, Source
from maskris.fetch.photos import PhotoReport, fetch_photos
from maskris.fetch.plan import FetchPlan, Place, count_photos
from maskris.fetch.referents import Photo, Split, counts_of, differences, read_splits
from maskris.utils.download import DownloadError, download_file, note_sha256, noted_sha256
from maskris.utils.files import atomic_folder, sha256_of

T = TypeVar("T")
Partitions = dict[str, dict[str, Split]]
"""What annotations hold, by ``split_by`` and by split; the usual partition first."""

_HUB = "https://huggingface.co"
_SLACK = 4  # archives may hold so many times the bytes that the manifest expects


class Fetcher:
    """Fetching into one folder.

    Args:
        place: The folder, and what is elsewhere.
        recorded: JSON file that keeps the hashes of files for which none is published.
        shown: Show the progress.
    """

    def __init__(self, place: Place, recorded: Path, shown: bool) -> None:
        self.place, self.recorded, self.shown = place, recorded, shown

    def annotations(self, item: Item) -> Partitions:
        """Fetch the annotations of a data set if need be, and read which splits are in them."""
        folder = self.place.out / item.folder
        if self.place.is_complete(item):
            return _read(item, folder)
        return self._from_any_source(item, lambda source, files: self._install(item, folder, source, files))

    def photos(self, item: Item) -> PhotoReport:
        """Fetch a whole collection of photos if need be."""
        folder = self.place.photo_folder(item)
        there = count_photos(item, folder)
        if there < item.used:
            self._from_any_source(item, lambda _, files: self._extract(item, files[0], folder))
        return PhotoReport(folder, count_photos(item, folder) - there, there)

    def single_photos(self, item: Item, needed: set[Photo], folder: Path) -> PhotoReport:
        """Fetch photos, from an archive that is here if there is one."""
        missing = {photo.image for photo in needed if not (folder / photo.image).exists()}
        there = count_photos(item, folder)
        for part in (part for source in item.sources for part in source.parts if missing):
            if self.place.local(item, part):
                self._extract(item, self._obtain(item, part), folder, only=missing)
        unpacked = count_photos(item, folder) - there
        step = self.place.single_photos(item, folder, there + len(missing))  # now exactly
        FetchPlan([step], shutil.disk_usage(self.place.out).free).require_space()
        report = fetch_photos(needed, folder, item.each, source=self.place.source, shown=self.shown)
        return PhotoReport(folder, report.fetched + unpacked, report.there - unpacked, report.failed)

    def _from_any_source(self, item: Item, use: Callable[[Source, list[Path]], T]) -> T:
        """What `use` makes of the files of the first source whose files can be had and used."""
        reasons = []
        for source in self.place.sources(item):
            files: list[Path] = []
            try:
                files += (self._obtain(item, part) for part in source.parts)
                made = use(source, files)
            except (DownloadError, ValueError) as error:
                reasons.append(str(error))
                for part in source.parts:
                    if not part.sha256:  # what arrived isn't what it should be
                        self.place.downloaded(item, part).unlink(missing_ok=True)
                continue
            for part, file in zip(source.parts, files, strict=True):
                if not part.sha256 and not noted_sha256(self.recorded, part.urls[0]):
                    note_sha256(self.recorded, part.urls[0], sha256_of(file))
            downloads = self.place.downloaded(item, source.parts[0]).parent
            shutil.rmtree(downloads, ignore_errors=True)
            with suppress(OSError):  # others are still there
                downloads.parent.rmdir()
            return made
        files_wanted = " or ".join(" and ".join(part.file for part in source.parts) for source in item.sources)
        hub = f"\nOn the Hub the same referents are Parquet files, which `maskris prepare` reads: {item.hub}"
        advice = f"If you can get {files_wanted} elsewhere, name the folder where it lies with --from"
        raise DownloadError(
            "\n".join([*reasons, f"No source gave {item.title} ({item.page}). {advice}."]) + (hub if item.hub else "")
        )

    def _obtain(self, item: Item, part: Part) -> Path:
        """The checked file of a part: the user's, or a downloaded one."""
        noted = None if part.sha256 else noted_sha256(self.recorded, part.urls[0])
        hint = f"{noted} is that of its first use, kept in {self.recorded}; if the new file is right, remove it there."
        local = self.place.local(item, part)
        hub = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")  # a mirror of the Hub, as for huggingface_hub
        try:
            return download_file(
                [url.replace(_HUB, hub) for url in part.urls],
                local or self.place.downloaded(item, part),
                size=part.size,
                sha256=part.sha256 or noted,
                hint=hint if noted else "",
                resume=local is None,
                shown=self.shown,
            )
        except DownloadError as error:
            if local:  # what the user names and is wrong is not passed over
                raise FileExistsError(str(error)) from error
            raise

    def _extract(self, item: Item, file: Path, folder: Path, only: set[str] | None = None) -> None:
        limit = None if item.unpacked is None else _SLACK * item.unpacked
        root = Path(item.folder).name
        extract(file, folder, list(item.members), root=root, limit=limit, only=only, shown=self.shown)

    def _install(self, item: Item, folder: Path, source: Source, files: list[Path]) -> Partitions:
        """Put all members of a data set in its folder, if they are what they should be; all or nothing."""
        with atomic_folder(folder) as new:
            for part, file in zip(source.parts, files, strict=True):
                if part.file in item.members:
                    shutil.copyfile(file, new / part.file)
                else:
                    self._extract(item, file, new)
            for name, known in item.members.items():
                if known and (hashed := sha256_of(new / name)) != known:
                    raise ArchiveError(f"{files[0]}: the SHA-256 of {name} is {hashed} instead of {known}")
            found = _read(item, new)
            if not all(part.sha256 for part in source.parts):
                for split_by, splits in found.items():
                    if wrong := differences(counts_of(splits), published_sizes(item.name, split_by)):
                        name = f"{item.title} {split_by}"
                        raise ArchiveError(f"{files[0]} is not {name} as published: {'; '.join(wrong)}")
            for name in item.members:
                if (folder / name).exists() and not cmp(folder / name, new / name, shallow=False):
                    message = f"{folder / name} is there already, and not the same as in {files[0]}"
                    raise FileExistsError(f"{message}; move it away")
            if folder.exists():  # with other files of the user
                shutil.copytree(folder, new, dirs_exist_ok=True)
        return found


def _read(item: Item, folder: Path) -> Partitions:
    return {split_by: read_splits(folder / name) for split_by, name in item.partitions.items()}
