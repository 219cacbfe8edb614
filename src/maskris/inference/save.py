"""Predictions as files beside each other: an overlay, a mask per expression, and JSON that any COCO tool reads."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskris import __version__
from maskris.inference.image import load_image
from maskris.inference.predictor import Prediction
from maskris.inference.visualize import draw_predictions


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

    Files of an earlier call for the same photo are replaced, and mask files of it that are no longer needed removed.
    Any other file of these names is left alone, and nothing is written.

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
    masks = tuple(out / f"{photo.stem}_mask_{i}.png" for i in range(1, len(predictions) + 1))
    saved = Saved(out / f"{photo.stem}_overlay.png", masks, out / f"{photo.stem}_prediction.json")
    earlier = _earlier(saved.json, photo)
    if not overwrite:
        for path in (saved.json, saved.overlay, *masks):
            if path.exists() and path not in earlier:
                raise FileExistsError(
                    f"{path} exists and doesn't come from an earlier prediction for {photo}; "
                    "choose another folder, or overwrite it on purpose"
                )
    upright = load_image(photo) if image is None else image
    picture = draw_predictions(upright, predictions)  # checks the sizes before anything is written
    out.mkdir(parents=True, exist_ok=True)
    picture.save(saved.overlay)
    for path, prediction in zip(masks, predictions, strict=True):
        Image.fromarray(prediction.mask.astype(np.uint8) * np.uint8(255)).save(path)
    content = {
        "image": _relative(photo, out),
        "height": upright.height,
        "width": upright.width,
        "model": model,
        "maskris": __version__,
        "overlay": saved.overlay.name,
        "predictions": [
            {**prediction.to_dict(), "mask": path.name} for path, prediction in zip(masks, predictions, strict=True)
        ],
    }
    partial = saved.json.with_name(saved.json.name + ".part")  # a killed run leaves the old JSON or the new one, whole
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(saved.json)
    for path in earlier - {saved.json, saved.overlay, *masks}:
        path.unlink(missing_ok=True)
    return saved


def _relative(photo: Path, folder: Path) -> str:
    """The photo's path seen from the folder, so that both can be moved together."""
    try:
        return Path(os.path.relpath(photo.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return photo.resolve().as_posix()


def _earlier(path: Path, photo: Path) -> set[Path]:
    """The files of an earlier call for the same photo; none if the JSON is absent, foreign or about another photo."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["image"] != _relative(photo, path.parent):
            return set()
        names = [str(content["overlay"]), *(str(entry["mask"]) for entry in content["predictions"])]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    # Only names that this module gives: a damaged or hostile JSON must not make other files disappear.
    ours = [name for name in names if Path(name).name == name and name.startswith(f"{photo.stem}_")]
    return {path, *(path.parent / name for name in ours if name.endswith(".png"))}
