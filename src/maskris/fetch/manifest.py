"""Manifest of the published data sets: addresses, sizes, hashes and members of their files."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from maskris.data.readers.refer import partition_of


@dataclass(frozen=True)
class Part:
    """One file of a source.

    Attributes:
        file: Its name.
        urls: Addresses of the same bytes, the preferred one first.
        size: In bytes, if known exactly.
        about: In bytes, rounded; ``None`` if nothing is known.
        sha256: Hexadecimal; ``None`` where none is published.
    """

    file: str
    urls: tuple[str, ...]
    size: int | None = None
    about: int | None = None
    sha256: str | None = None

    @property
    def bytes(self) -> int | None:
        """Size in bytes, as well as it is known."""
        return self.about if self.size is None else self.size


@dataclass(frozen=True)
class Source:
    """One or several files that together hold all members of a data set.

    Attributes:
        parts: Archives, or members themselves.
        sure: ``"A"`` if a public file and an independent one say so, ``"B"`` for one of them, ``"C"`` if inferred.
    """

    parts: tuple[Part, ...]
    sure: str


@dataclass(frozen=True, eq=False)
class Item:
    """Annotations or photos that are fetched together.

    Attributes:
        name: By which the command line knows it.
        title: Name for people.
        page: Where its authors describe it.
        folder: Where it goes, below the folder for all data.
        members: File names (for photos patterns of them) and their SHA-256, ``None`` where none is published.
        sources: The preferred one first.
        used: Photos: how many there are, or how many the expressions are about.
        unpacked: Bytes of all members, rounded; ``None`` if unknown.
        photos: Of annotations, the item that has their photos.
        hub: Data set on the Hub that has the same referents as Parquet files.
        each: Of photos, addresses of a single one, with ``{number}`` for the twelve digits in its name.
        note: Why there is a single source.
    """

    name: str
    title: str
    page: str
    folder: str
    members: Mapping[str, str | None]
    sources: tuple[Source, ...]
    used: int
    unpacked: int | None = None
    photos: str | None = None
    hub: str | None = None
    each: tuple[str, ...] = ()
    note: str = ""

    @property
    def partitions(self) -> dict[str, str]:
        """The annotation files by their ``split_by``, the usual one first."""
        return {split_by: name for name in self.members if (split_by := partition_of(name))}


def read_manifest(file: Path | None = None) -> dict[str, Item]:
    """Annotations and photos by their names, from a YAML file; by default from that of this package.

    Raises:
        ValueError: If a key is missing or unknown.
    """
    text = (file or files(__package__).joinpath("manifest.yaml")).read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text)
        return {name: _item(name, one) for name, one in {**values["annotations"], **values["photos"]}.items()}
    except (TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise ValueError(f"{file or 'manifest.yaml'} is no manifest of data sets: {error}") from error


def _item(name: str, values: dict[str, Any]) -> Item:
    sources = tuple(
        Source(tuple(Part(**{**part, "urls": tuple(part["urls"])}) for part in source["parts"]), source["sure"])
        for source in values["sources"]
    )
    return Item(name, **{"folder": name, **values, "sources": sources, "each": tuple(values.get("each", ()))})
