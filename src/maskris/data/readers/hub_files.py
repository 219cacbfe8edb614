"""Which files of a folder from the Hub belong together: splits, shards, and several generations of one file.

data/train-00000-of-00002-94431d5f4bd5b93f.parquet   split, shard, of how many, and the writer's fingerprint
data/testB-00000-of-00001.parquet
default/train/0000.parquet                           as the Hub converts data sets itself
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **{name.lower(): name for name in ("testA", "testB", "testC")},
}
"""Our name of a split for the words that stand for it in names of files and folders and in columns, in lower case."""

FAMILIES = {
    "m": ("refcoco-m", ""),
    "": ("refcoco", "unc"),
    "+": ("refcoco+", "unc"),
    "plus": ("refcoco+", "unc"),
    "g": ("refcocog", "umd"),
}
"""Data set and usual partition, by what follows "refcoco" in a name."""

_FAMILY = re.compile(r"refcoco(?:[-_](m)(?![a-z0-9])|[-_]?(\+|plus|g|)(?![a-z]))", re.IGNORECASE)
_SHARD = re.compile(r"(.+?)-(\d{5})-of-(\d{5})(?:-[0-9a-f]{8,})?")
_WORDS = re.compile(r"[^A-Za-z0-9]+")
_PASSED_OVER = ("data", "default", "snapshots", "parquet")
_PLACES = ("*.parquet", "data/*.parquet", "default/*/*.parquet")


@dataclass(frozen=True)
class HubFile:
    """A file and what its name says.

    Attributes:
        path: Where it lies.
        split: Our name of its split; ``None`` if nothing in the name is one.
    """

    path: Path
    split: str | None


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder in the Hub's layouts, sorted; no other folder is listed (they may be photos)."""
    return sorted(path for place in _PLACES for path in folder.glob(place)) if folder.is_dir() else []


def metadata_files(folder: Path) -> list[Path]:
    """The metadata of an imagefolder, in the folder itself or one for each split."""
    names = ("metadata.jsonl", "metadata.csv")
    places = [f"{above}{name}" for above in ("", "*/", "data/*/") for name in names]
    return sorted(path for place in places for path in folder.glob(place)) if folder.is_dir() else []


def split_of(path: Path, root: Path | None = None) -> str | None:
    """The split that a file's name means, or else that of the folders above it up to `root`.

    Example:
        >>> split_of(Path("data/validation-00000-of-00001.parquet")), split_of(Path("refcocog_umd_test.parquet"))
        ('val', 'test')
    """
    folders = path.parent.parts[len(root.parts) :] if root is not None else path.parent.parts[-1:]
    for name in (path.stem, *reversed(folders)):
        words = [SPLIT_WORDS[word] for word in _WORDS.split(name.lower()) if word in SPLIT_WORDS]
        if words:
            return words[-1]
    return None


def label_of(source: Path) -> str:
    """What a file or folder is called: its own name, or that of the folder above where this says no more than a split.

    Example:
        >>> label_of(Path("datasets--jxu124--refcocoplus/snapshots/991dfe9/data/test-00000-of-00001.parquet"))
        'refcocoplus'
    """
    source = source.absolute()
    for name in (source.name.removesuffix(".parquet"), *(folder.name for folder in source.parents)):
        if shard := _SHARD.fullmatch(name):
            name = shard[1]
        words = [word for word in _WORDS.split(name.lower()) if word]
        generic = all(word in SPLIT_WORDS or word in _PASSED_OVER for word in words)
        if not generic and not re.fullmatch(r"[0-9a-f]{7,40}|\d+", name):
            return name.split("--")[-1]
    return "hub"


def family_of(label: str) -> tuple[str, str] | None:
    """The published data set, with its usual partition, that a name means.

    Example:
        >>> family_of("RefCOCOplus"), family_of("refcoco_testA"), family_of("refcoco-m"), family_of("my photos")
        (('refcoco+', 'unc'), ('refcoco', 'unc'), ('refcoco-m', ''), None)
    """
    match = _FAMILY.search(label)
    return FAMILIES[(match[1] or match[2]).lower()] if match else None


def missing_shards(files: Sequence[Path]) -> list[str]:
    """The files that the names of others promise, such as the second of ``val-00000-of-00002``."""
    there: dict[tuple[Path, str, str], set[int]] = defaultdict(set)
    for path in files:
        if shard := _SHARD.fullmatch(path.stem):
            there[path.parent, shard[1], shard[3]].add(int(shard[2]))
    return [
        f"{folder / name}-{number:05d}-of-{count}*.parquet"
        for (folder, name, count), numbers in there.items()
        for number in range(int(count))
        if number not in numbers
    ]


def generations(files: Sequence[Path]) -> list[list[Path]]:
    """Files that stand for the same shard, alike but for the writer's fingerprint at the end of the name."""
    alike: dict[tuple[Path, ...], list[Path]] = defaultdict(list)
    for path in files:
        if shard := _SHARD.fullmatch(path.stem):
            alike[path.parent, Path(shard[1]), Path(shard[2])].append(path)
    return [group for group in alike.values() if len(group) > 1]
