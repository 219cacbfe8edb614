"""Annotations and photos of published data sets, downloaded, checked and laid out as `prepare_dataset` reads them."""

import shlex
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskris.data.published_counts import Counts
from maskris.data.readers.refer import IMAGE_FOLDERS
from maskris.data.table import ReferringTable
from maskris.fetch.manifest import Item, read_manifest
from maskris.fetch.photos import PhotoReport
from maskris.fetch.plan import Choice, FetchPlan, Place
from maskris.fetch.referents import Photo, counts_of, photos_of_annotations, photos_of_table
from maskris.fetch.sources import Fetcher, Partitions
from maskris.utils.download import cache_folder
from maskris.utils.runstore import lock_folder

Announce = Callable[[FetchPlan], object]


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
    fetcher = Fetcher(place, recorded or cache_folder() / "hashes.json", progress)
    report = FetchReport()
    found: dict[Item, Partitions] = {}
    with lock_folder(place.out):
        _begin(place.plan(items, photos, splits), announce)
        for item in items:
            if item.photos:
                found[item] = fetcher.annotations(item)
                report.counts |= {(item.name, split_by): counts_of(one) for split_by, one in found[item].items()}
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
            fetcher = Fetcher(place, cache_folder() / "hashes.json", progress)
            report.photos.append(fetcher.single_photos(photos, wanted, folder))
    return report


def _begin(plan: FetchPlan, announce: Announce | None) -> None:
    if announce:
        announce(plan)
    plan.require_space()


def _require_splits(splits: Collection[str] | None, known: Collection[str]) -> None:
    if unknown := [name for name in splits or () if name not in known]:
        raise ValueError(f"There is no split {', '.join(unknown)}; choose from {', '.join(sorted(known))}")


def _needed(folder: Path, partitions: Partitions, splits: Collection[str] | None) -> set[Photo]:
    """The photos of a data set, or of some splits of its usual partition."""
    chosen = list(partitions.values()) if splits is None else list(partitions.values())[:1]
    parts = [part for one in chosen for split, part in one.items() if splits is None or split in splits]
    return photos_of_annotations(folder / "instances.json", set[int]().union(*(part.images for part in parts)))


def _command(place: Place, item: Item, split_by: str, unchecked: bool) -> str:
    """The command that reads what was fetched."""
    words = ["maskris", "prepare", str(place.out), "--dataset", item.name, "--split-by", split_by]
    photos = place.manifest[item.photos or ""]
    if photos.folder not in IMAGE_FOLDERS[:1]:  # where readers look first, if it is there
        words += ["--images", str(place.photo_folder(photos))]
    words += ["--no-check-images"] if unchecked else []
    usual = split_by == next(iter(item.partitions))
    return shlex.join([*words, "--out", f"{item.name}.parquet" if usual else f"{item.name}-{split_by}.parquet"])
