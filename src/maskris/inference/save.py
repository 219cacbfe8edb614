"""Predictions for one photo as a folder: an overlay, a mask per expression, and JSON that any COCO tool reads."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from maskris.inference.image import load_image, orientation_of
from maskris.inference.predictor import Prediction
from maskris.inference.visualize import draw_predictions
from maskris.utils.files import atomic_folder, read_json, recover_folder

PREDICTION = "prediction.json"
"""Name of the JSON, by which a folder of results is known."""

_WRITTEN = re.compile(r"prediction\.json|overlay\.png|mask_\d+\.png")


@dataclass(frozen=True)
class Saved:
    """The files that `save_predictions` wrote; `masks` in the order of the predictions."""

    folder: Path
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
    orientation: int | None = None,
    overwrite: bool = False,
) -> Saved:
    """Write what was predicted for one photo into a folder of its own.

    For ``cat.jpg`` the folder is ``out/cat``. It holds ``overlay.png`` (all masks, with a legend), ``mask_1.png``, ...
    (per expression, 255 inside and 0 outside) and ``prediction.json``: the photo's path relative to the JSON, its
    height, width and EXIF orientation, the model, the version of this package, and for each expression its score, box
    (x, y, width, height, or null), area, RLE (``segmentation``) and mask file. All sizes and masks are those of the
    upright photo, its EXIF orientation applied.

    The folder of an earlier call for the same photo is replaced as a whole. If it holds anything else, nothing is
    written.

    Args:
        photo: Path of the photo that the predictions were made for.
        predictions: What `Predictor.predict` returned for a list.
        out: Folder to write to; made if it is missing.
        model: Name of the model, e.g. `Predictor.name`.
        image: The photo, if it is loaded already (`Predictor.image`).
        orientation: EXIF's, by which it was turned; by default that of the file.
        overwrite: Also replace results for another photo, or damaged ones.

    Raises:
        FileExistsError: If the folder holds something that must not be replaced, see `check_free`.
        ValueError: If the masks are not of the photo's size.
        OSError: If the photo can't be read or a file can't be written.
    """
    folder = check_free(photo, out, overwrite=overwrite)
    photo = Path(photo).expanduser()
    upright = load_image(photo) if image is None else image
    picture = draw_predictions(upright, predictions)  # checks the sizes before anything is written
    masks = {f"mask_{i}.png": prediction for i, prediction in enumerate(predictions, start=1)}
    content = {
        "image": _relative(photo, folder),
        "height": upright.height,
        "width": upright.width,
        "orientation": orientation_of(photo) if orientation is None else orientation,
        "model": model,
        "maskris": version("maskris"),
        "overlay": "overlay.png",
        "predictions": [{**prediction.to_dict(), "mask_file": name} for name, prediction in masks.items()],
    }
    with atomic_folder(folder) as new:
        picture.save(new / "overlay.png")
        for name, prediction in masks.items():
            mask_image(prediction).save(new / name)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        # A lone surrogate, from the name of a photo, is written as JSON escapes it.
        (new / PREDICTION).write_text(text, encoding="utf-8", errors="backslashreplace")
    return Saved(folder, folder / "overlay.png", tuple(folder / name for name in masks), folder / PREDICTION)


def check_free(photo: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """The folder for the results of a photo, refused before anything is computed if they would replace something else.

    Arguments are those of `save_predictions`.

    Raises:
        ValueError: If the photo has a name like ``...png``, which is none for a folder.
        FileExistsError: If a file has the name of a folder, or the photo's folder holds other files than results, or
            results for another photo (unless they may be overwritten).
    """
    photo, out = Path(photo).expanduser(), Path(out).expanduser()
    if photo.stem in (".", ".."):
        raise ValueError(f"{photo.name} leaves no name for the folder of its results; rename the photo")
    folder = out / photo.stem
    for path in (out, folder):
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"{path} is a file; name another folder to write to (--out)")
    recover_folder(folder)
    files = sorted(folder.iterdir()) if folder.exists() else []
    if foreign := [path.name for path in files if not _WRITTEN.fullmatch(path.name) or path.is_dir()]:
        raise FileExistsError(f"{folder} holds other files than results ({foreign[0]}); choose another folder (--out)")
    if files and not overwrite and _photo_of(folder) != _relative(photo, folder):
        raise FileExistsError(
            f"{folder} exists and doesn't come from an earlier prediction for {photo}; choose another folder (--out), "
            "or have it replaced (--overwrite)"
        )
    return folder


def is_saved(folder: Path) -> bool:
    """Whether a folder holds what `save_predictions` wrote."""
    return _photo_of(folder) is not None


def mask_image(prediction: Prediction) -> Image.Image:
    """The mask as a gray picture: 255 inside, 0 outside."""
    return Image.fromarray(prediction.mask).convert("L")


def _photo_of(folder: Path) -> str | None:
    """The photo whose results a folder holds, as `_relative` gives it; ``None`` if it holds none, or damaged ones."""
    try:
        content: dict[str, Any] = read_json(folder / PREDICTION)
        return str(content["image"]) if "maskris" in content else None
    except (OSError, ValueError, KeyError):
        return None


def _relative(photo: Path, folder: Path) -> str:
    """The photo's path seen from the folder, so that both can be moved together."""
    try:
        return Path(os.path.relpath(photo.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return photo.resolve().as_posix()
