"""Index of released checkpoints: names, addresses, licenses, and the numbers that their authors print for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True)
class PublishedResult:
    """What the authors print for a checkpoint on the splits of one data set.

    Attributes:
        dataset: Such as ``"refcoco+"``.
        split_by: Its partition, such as ``"unc"``.
        metric: As in `Evaluation.metrics`.
        values: Split to value in per cent.
    """

    dataset: str
    split_by: str
    metric: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Released:
    """One released checkpoint.

    Attributes:
        name: By which `load_model` and every command know it.
        title: What it is, in a phrase.
        network: Kind of its weights: one of those that are converted (``"maskris"``, ``"lavt"``, ``"tris"``, ...), or
            ``"clipseg"``.
        license: SPDX identifier.
        page: Where its authors describe it.
        size: Of the file in bytes, rounded as published; ``None`` if unknown.
        sha256: Of the file; ``None`` where none is published.
        protocol: Name of the protocol of the results; ``None`` if none of ours is known to be it.
        text: Which sentences were read: ``"sent"`` or ``"raw"``.
        results: What its authors print.
        hub: Repository and file on the Hub; without a file, the whole repository.
        drive: File on Google Drive.
        url: Address of the file.
    """

    name: str
    title: str
    network: str
    license: str
    page: str
    size: int | None
    sha256: str | None
    protocol: str | None
    text: str
    results: tuple[PublishedResult, ...]
    hub: Mapping[str, str] | None = None
    drive: str | None = None
    url: str | None = None


@cache
def released_models() -> Mapping[str, Released]:
    """The released checkpoints by name, in the order of the index."""
    index = yaml.safe_load(files(__package__).joinpath("released.yaml").read_text(encoding="utf-8"))
    return {name: _released(name, entry) for name, entry in index["models"].items()}


def _released(name: str, entry: dict[str, Any]) -> Released:
    return Released(name, **{**entry, "results": tuple(PublishedResult(**result) for result in entry["results"])})


def find_released(name: str) -> Released | None:
    """The released checkpoint of a name, or ``None``."""
    return released_models().get(name)
