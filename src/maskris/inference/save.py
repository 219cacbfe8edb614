"""Predictions as files beside each other: an overlay, a mask per expression, and JSON that any COCO tool reads."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskris.inference.image import load_image
from maskris.inference.predictor import Prediction
from maskris.inference.visualize import draw_predictions

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


@dataclass(frozen=True)
class Saved:
    """The files that `save_predictions` wrote; `masks` in the order of the predictions."""

    overlay: Path
    masks: tuple[Path, ...]
    json: Path


def save_predictions(
    photo: str | Path,
    predictions: Sequence[Prediction],
    out: str | Path,
    *,
    model: str,
    image: Image.Image | None = None,
    overwrite: bool = False,
) -> Saved:
    """Write what was predicted for one photo.

    For ``cat.jpg`` these are ``cat_overlay.png`` (all masks, with a legend), ``cat_mask_1.png``, ... (per expression,
    255 inside and 0 outside) and ``cat_prediction.json``: the photo's path relative to the JSON, its height and width,
    the model, the version of this package, and for each expression its score, box (x, y, width, height, or null), area,
    RLE and mask file. All sizes and masks are those of the upright photo, its EXIF orientation applied.

    Files of an earlier call for the same photo are replaced, those of a killed one too, and mask files of it that are
    no longer needed removed. Any other file of these names is left alone, and nothing is written.

    Args:
        photo: Path of the photo that the predictions were made for.
        predictions: What `Predictor.predict` returned for a list.
        out: Folder to write to; made if it is missing.
        model: What the model is called, e.g. `Predictor.name`.
        image: The photo, if it is loaded already (`Predictor.image`).
        overwrite: Replace files of these names whoever wrote them.

    Returns:
        The paths written.

    Raises:
        FileExistsError: If a file is in the way that an earlier call for this photo did not write.
        ValueError: If the masks are not of the photo's size.
        OSError: If the photo can't be read or a file can't be written.
    """
    photo, out = Path(photo).expanduser(), Path(out).expanduser()
    saved = _names(photo, len(predictions), out)
    if not overwrite:
        check_free(photo, len(predictions), out)
    upright = load_image(photo) if image is None else image
    picture = draw_predictions(upright, predictions)  # checks the sizes before anything is written
    out.mkdir(parents=True, exist_ok=True)
    pairs = zip(predictions, saved.masks, strict=True)
    content = {
        "image": _relative(photo, out),
        "height": upright.height,
        "width": upright.width,
        "model": model,
        "maskris": version("maskris"),
        "overlay": saved.overlay.name,
        "predictions": [{**prediction.to_dict(), "mask": path.name} for prediction, path in pairs],
    }
    # Whenever the process dies, a record on the disk names every picture that is there, so that the next call may
    # replace it: what is no longer needed goes before the old record does, and nothing comes before the new one.
    for path in _pictures(saved.json, None if overwrite else photo) - {saved.overlay, *saved.masks}:
        path.unlink(missing_ok=True)
    partial = saved.json.with_name(saved.json.name + PART)
    _write(partial, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    picture.save(saved.overlay)
    for path, prediction in zip(saved.masks, predictions, strict=True):
        Image.fromarray(prediction.mask.astype(np.uint8) * np.uint8(255)).save(path)
    partial.replace(saved.json)
    return saved


def check_free(photo: str | Path, expressions: int, out: str | Path) -> None:
    """Refuse a folder in which results for a photo would replace other files, before anything is computed.

    Args:
        photo: Path of the photo.
        expressions: How many there are.
        out: The folder.

    Raises:
        FileExistsError: If a file is in the way that an earlier call for this photo did not write, or `out` is a file.
    """
    photo, out = Path(photo).expanduser(), Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; name a folder to write to")
    saved = _names(photo, expressions, out)
    ours = _pictures(saved.json, photo) | ({saved.json} if _records(saved.json, photo) else set())
    for path in (saved.json, saved.overlay, *saved.masks):
        if path.exists() and path not in ours:
            raise FileExistsError(
                f"{path} exists and doesn't come from an earlier prediction for {photo}; choose another folder "
                "(--out), or have such files replaced (--overwrite)"
            )


def _names(photo: Path, expressions: int, out: Path) -> Saved:
    masks = tuple(out / f"{photo.stem}_mask_{i}.png" for i in range(1, expressions + 1))
    return Saved(out / f"{photo.stem}_overlay.png", masks, out / f"{photo.stem}{RECORD}")


def _relative(photo: Path, folder: Path) -> str:
    """The photo's path seen from the folder, so that both can be moved together."""
    try:
        return Path(os.path.relpath(photo.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return photo.resolve().as_posix()


def _records(path: Path, photo: Path | None) -> list[Record]:
    """Of the last call for a photo, and of one that was killed; with ``None`` for any photo."""
    found = [read_record(path), read_record(path.with_name(path.name + PART))]
    here = None if photo is None else _relative(photo, path.parent)
    return [record for record in found if record is not None and here in (None, record.image)]


def _pictures(path: Path, photo: Path | None) -> set[Path]:
    """What such calls have written."""
    return {path.parent / name for record in _records(path, photo) for name in record.pictures}


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole; a lone surrogate, from the name of a photo, is written as JSON escapes it."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8", errors="backslashreplace")
    new.replace(path)
