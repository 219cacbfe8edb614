"""Which files predictions for single photos have written: so that no other is replaced, and none taken for a photo."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORD = "_prediction.json"
"""How the name of the JSON ends that tells of the other files; it begins with that of the photo."""

PART = ".part"
"""What is appended while they are written, and stays if the process is killed meanwhile."""


@dataclass(frozen=True)
class Record:
    """What a JSON of `save_predictions` says.

    Attributes:
        image: The photo, as seen from the JSON's folder.
        pictures: Names of the overlay and the masks beside the JSON.
    """

    image: str
    pictures: frozenset[str]


def read_record(path: Path) -> Record | None:
    """The record in a file; ``None`` if there is none, or it is damaged or of another program."""
    stem = path.name.removesuffix(PART).removesuffix(RECORD)
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        image, _ = str(content["image"]), content["maskris"]
        names = [str(content["overlay"]), *(str(entry["mask"]) for entry in content["predictions"])]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # Only names that `save_predictions` gives: a damaged or hostile JSON must not make other files disappear.
    ours = [name for name in names if Path(name).name == name and name.startswith(f"{stem}_")]
    return Record(image, frozenset(name for name in ours if name.endswith(".png")))


def pictures_among(folder: Path, files: Iterable[str]) -> set[str]:
    """The files of a folder that are results, of runs that were killed too.

    Args:
        folder: The folder.
        files: The names of its files.
    """
    records = [read_record(folder / name) for name in files if name.endswith((RECORD, RECORD + PART))]
    return {name for record in records if record is not None for name in record.pictures}
