"""Annotations and photos of published data sets, downloaded, checked and laid out as `prepare_dataset` reads them."""

import os
import shlex
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from typing import TypeVar

from maskris.data.published_counts import Counts, published_sizes
from maskris.data.readers.refer import IMAGE_FOLDERS
from maskris.data.table import ReferringTable
from maskris.fetch.archives import ArchiveError, extract
from maskris.fetch.manifest import Item, Part, Source, read_manifest
from maskris.fetch.photos import PhotoReport, fetch_photos
from maskris.fetch.plan import Choice, FetchPlan, Place, count_photos
from maskris.fetch.referents import Photo, Split, differences, photos_of_annotations, photos_of_table, read_splits
from maskris.utils.download import DownloadError, cache_folder, download_file, note_sha256, noted_sha256
from maskris.utils.files import atomic_folder, sha256_of
from maskris.utils.runstore import lock_folder

T = TypeVar("T")
Announce = Callable[[FetchPlan], object]
Partitions = dict[str, dict[str, Split]]  # by split_by, then by split; the usual partition first

_HUB = "https://huggingface.co"
_SLACK = 4  # archives may hold so many times the bytes that the manifest expects


@dataclass
class FetchReport:
    """What was fetched.

    Attributes:
        counts: Images, referents and expressions by (data set, partition) and split.
        photos: What came of the photos, for each folder of them.
        commands: What to do next.
    """

    counts: dict[tuple[str, str], dict[str, Counts]] = field(default_factory=dict)
    photos: list[PhotoReport] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Names of photos that could not be fetched, with reasons."""
        return [failure for report in self.photos for failure in report.failed]


def fetch_datasets(
    names: Sequence[str],
    out: str | Path = "data",
    *,
    photos: Choice = "needed",
    splits: Collection[str] | None = None,
    source: Path | None = None,
    manifest: Path | None = None,
    recorded: Path | None = None,
    announce: Announce | None = None,
    progress: bool = True,
) -> FetchReport:
    """Fetch annotations and photos of published data sets, and check them against the published numbers.

    They lie as `prepare_dataset` reads them: ``out/refcoco/refs(unc).p``, ``out/train2014/COCO_train2014_….jpg``. What
    is there is kept, never replaced; a call that was interrupted goes on.

    Args:
        names: Such as ``"refcoco"``, ``"refcoco+"``, ``"refcocog"``, ``"grefcoco"``, ``"refclef"``; or of a whole
            collection of photos, ``"train2014"``.
        out: Folder for all data.
        photos: Photos to fetch.
        splits: Of the photos that are needed, those of these splits of the usual partition (unc or umd).
        source: Folder of archives (or photos) that are here already, by their names or hashes; checked the same.
        manifest: Another manifest than that of this package.
        recorded: JSON file that keeps the hashes of files for which none is published; by default in `cache_folder`.
        announce: Called with the plan before the first download.
        progress: Show the progress.

    Raises:
        DownloadError: If the disk is too full, or no source gives what is needed; names each with its reason.
        FileExistsError: If files are in the way that aren't those of the data set.
        FileNotFoundError: If there is no folder `source`.
        ValueError: If a name is unknown.
    """
    place = Place(Path(out), source, read_manifest(manifest))
    items = [place.find(name) for name in dict.fromkeys(names)]
    fetcher = _Fetcher(place, recorded or cache_folder() / "hashes.json", progress)
    report = FetchReport()
    found: dict[Item, Partitions] = {}
    with lock_folder(place.out):
        _begin(place.plan(items, photos, splits), announce)
        for item in items:
            if item.photos:
                found[item] = fetcher.annotations(item)
                report.counts |= {(item.name, split_by): _counts(one) for split_by, one in found[item].items()}
        for collection, users in place.collections(items, photos).items():
            if users:
                _require_splits(splits, {name for one in users for some in found[one].values() for name in some})
                needed = set[Photo]().union(*(_needed(place.out / one.folder, found[one], splits) for one in users))
                report.photos.append(fetcher.single_photos(collection, needed, place.photo_folder(collection)))
            else:
                report.photos.append(fetcher.photos(collection))
    for name, split_by in report.counts:
        item = place.find(name)
        if splits is None or split_by == next(iter(item.partitions)):
            report.commands.append(_command(place, item, split_by, unchecked=photos == "none" or splits is not None))
    return report


def fetch_table_photos(
    tables: Sequence[Path],
    *,
    splits: Collection[str] | None = None,
    source: Path | None = None,
    manifest: Path | None = None,
    announce: Announce | None = None,
    progress: bool = True,
) -> FetchReport:
    """Fetch the photos of COCO that prepared tables name, to where they look for them.

    Args:
        tables: Files written by `prepare_dataset`.
        splits: Only the photos of these splits.
        source: As for `fetch_datasets`; so are the other arguments and errors.
        manifest: Another manifest than that of this package.
        announce: Called with the plan before the first download.
        progress: Show the progress.
    """
    needed: dict[Path, set[Photo]] = {}
    opened = {file: ReferringTable.open(file) for file in tables}
    _require_splits(splits, {name for table in opened.values() for name in table.splits})
    for file, table in opened.items():
        table = table if splits is None else table.split([one for one in table.splits if one in splits])
        needed.setdefault(table.images_root.resolve(), set()).update(photos_of_table(file, table))
    known = read_manifest(manifest)
    photos = next(one for one in known.values() if one.each)
    report = FetchReport()
    for folder, wanted in needed.items():
        place = Place(folder, source, known)
        with lock_folder(folder):
            steps = [place.single_photos(photos, folder, len(wanted))]
            _begin(FetchPlan(steps, shutil.disk_usage(folder).free), announce)
            fetcher = _Fetcher(place, cache_folder() / "hashes.json", progress)
            report.photos.append(fetcher.single_photos(photos, wanted, folder))
    return report


def _begin(plan: FetchPlan, announce: Announce | None) -> None:
    if announce:
        announce(plan)
    plan.require_space()


class _Fetcher:
    """The work, once it is known what there is to do."""

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
        there = count_photos(item, folder)
        for part in (part for source in item.sources for part in source.parts):
            if self.place.local(item, part):
                self._extract(item, self._obtain(item, part), folder, only={photo.image for photo in needed})
        unpacked = count_photos(item, folder) - there
        missing = sum(not (folder / photo.image).exists() for photo in needed)
        step = self.place.single_photos(item, folder, there + unpacked + missing)  # now exactly
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
                    if wrong := differences(_counts(splits), published_sizes(item.name, split_by)):
                        name = f"{item.title} {split_by}"
                        raise ArchiveError(f"{files[0]} is not {name} as published: {'; '.join(wrong)}")
            for name in item.members:
                if (folder / name).exists() and not cmp(folder / name, new / name, shallow=False):
                    message = f"{folder / name} is there already, and not the same as in {files[0]}"
                    raise FileExistsError(f"{message}; move it away")
            if folder.exists():  # with other files of the user
                shutil.copytree(folder, new, dirs_exist_ok=True)
        return found


def _require_splits(splits: Collection[str] | None, known: Collection[str]) -> None:
    if unknown := [name for name in splits or () if name not in known]:
        raise ValueError(f"There is no split {', '.join(unknown)}; choose from {', '.join(sorted(known))}")


def _counts(splits: dict[str, Split]) -> dict[str, Counts]:
    return {name: split.counts for name, split in splits.items()}


def _needed(folder: Path, partitions: Partitions, splits: Collection[str] | None) -> set[Photo]:
    """The photos of a data set, or of some splits of its usual partition."""
    chosen = list(partitions.values()) if splits is None else list(partitions.values())[:1]
    parts = [part for one in chosen for split, part in one.items() if splits is None or split in splits]
    return photos_of_annotations(folder / "instances.json", set[int]().union(*(part.images for part in parts)))


def _read(item: Item, folder: Path) -> Partitions:
    return {split_by: read_splits(folder / name) for split_by, name in item.partitions.items()}


def _command(place: Place, item: Item, split_by: str, unchecked: bool) -> str:
    """The command that reads what was fetched."""
    words = ["maskris", "prepare", str(place.out), "--dataset", item.name, "--split-by", split_by]
    photos = place.manifest[item.photos or ""]
    if photos.folder not in IMAGE_FOLDERS[:1]:  # where readers look first, if it is there
        words += ["--images", str(place.photo_folder(photos))]
    words += ["--no-check-images"] if unchecked else []
    usual = split_by == next(iter(item.partitions))
    return shlex.join([*words, "--out", f"{item.name}.parquet" if usual else f"{item.name}-{split_by}.parquet"])
