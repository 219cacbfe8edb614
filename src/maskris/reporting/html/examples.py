"""The pictures of a report: what the models find for the expressions that were chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from maskris.data.table import ReferringTable
from maskris.evaluation.binarization import binarize
from maskris.evaluation.protocol import Protocol
from maskris.inference.image import load_image
from maskris.inference.predictor import Predictor
from maskris.inference.visualize import inner_edge, resized_mask, spotlight
from maskris.models.base import RISModel
from maskris.reporting.html.contents import Example, Gallery, Picture, Report
from maskris.reporting.html.selection import disagreements, extremes
from maskris.reporting.plots import SERIES
from maskris.utils.process import Precision

SIDE = 320
"""Greatest width and height of a picture in pixels."""

_TRUTH = (28, 27, 25)


class _Asked(NamedTuple):
    """An expression that is shown, with its row of the table and its IoUs by the number of the model."""

    expression: str
    place: int
    iou: Mapping[int, float | None]


def draw_galleries(
    report: Report,
    table: ReferringTable,
    count: int,
    *,
    device: str | None = None,
    precision: Precision = "fp32",
    model_class: type[RISModel] | str | None = None,
) -> list[Gallery]:
    """Best, median and worst expressions, and those on which the first two models disagree; only these are predicted.

    The table is what all models of the report were evaluated on; each group has `count` expressions, fewer where there
    are too few. The other arguments are those of `write_report`.
    """
    chosen = _choose(report, count)
    asked = _look_up(report, table, [row for rows in chosen.values() for row in rows])
    protocol = next(iter(report.evaluations.values())).protocol
    masks = []
    for subject in report.subjects:  # one after the other: two large models need not fit at once
        predictor = Predictor.from_pretrained(subject.record.folder, device, precision, model_class=model_class)
        masks.append(_predict(predictor, table, asked, protocol))
    examples = {row: _example(table, one, [found[row] for found in masks], report.names) for row, one in asked.items()}
    return [Gallery(caption, [examples[row] for row in rows]) for caption, rows in chosen.items()]


def _choose(report: Report, count: int) -> dict[str, list[int]]:
    """Captions with rows of the evaluations."""
    evaluations = list(report.evaluations.values())
    best, median, worst = extremes(evaluations, count)
    iou = "mean IoU of the models" if len(evaluations) > 1 else "IoU"
    chosen = {
        f"Best: the expressions with the highest {iou}; among equals the most confident.": best,
        f"Median: the expressions whose {iou} is nearest to the median.": median,
        f"Worst: the expressions with the lowest {iou}; among equals the most confident.": worst,
    }
    if len(evaluations) > 1:
        a, b, *_ = report.names
        for pair, rows in zip(((a, b), (b, a)), disagreements(evaluations[0], evaluations[1], count), strict=True):
            chosen[f"Disagreement: where {pair[0]} is furthest ahead of {pair[1]} in IoU."] = rows
    return chosen


def _look_up(report: Report, table: ReferringTable, rows: list[int]) -> dict[int, _Asked]:
    names = ("dataset", "split_by", "split", "image_id", "ref_id")
    places = {key: i for i, key in enumerate(zip(*map(table.column, names), strict=True))}
    values = {i: one.rows.take(rows).to_pylist() for i, one in report.evaluations.items()}
    asked = {}
    for row, *own in zip(rows, *values.values(), strict=True):
        place = places[tuple(own[0][name] for name in names)]
        asked[row] = _Asked(own[0]["expression"], place, {i: one["iou"] for i, one in zip(values, own, strict=True)})
    return asked


def _predict(
    predictor: Predictor, table: ReferringTable, asked: Mapping[int, _Asked], protocol: Protocol
) -> dict[int, np.ndarray]:
    """Masks ``[h, w]`` at the photos' size under the protocol's rule, by row; each photo is encoded once."""
    rule = replace(protocol, map="probability", all_negative="empty")  # of scores, an argmax or a share of the peak too
    masks, current = {}, None
    for row, one in sorted(asked.items(), key=lambda item: str(table.image_path(item[1].place))):
        photo = table.image_path(one.place)
        found = predictor.predict(one.expression, None if photo == current else photo)
        current = photo
        mask = binarize(torch.from_numpy(found.probability)[None], rule)[0].numpy()
        masks[row] = mask & (mask.sum() >= protocol.minimum_pixels)
    return masks


def _example(table: ReferringTable, asked: _Asked, masks: Sequence[np.ndarray], names: Sequence[str]) -> Example:
    """Photo, truth and what each model found."""
    path = table.image_path(asked.place)
    photo = load_image(path)
    large, size = enlarge(photo)
    truth = resized_mask(table.mask(asked.place), large.size)
    asked_for = f"“{asked.expression}”"
    nothing = "" if truth.any() else ", nothing"
    pictures = [
        Picture("photo", f"Photo {path.name}", jpeg(large), size),
        Picture(f"truth{nothing}", f"Truth for {asked_for}{nothing}", jpeg(spotlight(large, truth, _TRUTH, 5)), size),
    ]
    for i, mask in enumerate(masks):
        drawn = np.array(spotlight(large, resized_mask(mask, large.size), SERIES[i % len(SERIES)], 9))
        drawn[inner_edge(truth, 5)] = 255
        drawn[inner_edge(truth, 3)] = _TRUTH
        name = names[i] if len(names) > 1 else "prediction"
        alt = f"Prediction of {names[i]} for {asked_for}" + ("" if mask.any() else ", nothing found")
        pictures.append(Picture(name, alt, jpeg(Image.fromarray(drawn)), size, i, asked.iou.get(i)))
    return Example(asked.expression, f"{table.row(asked.place).split}, {path.name}", pictures)


def enlarge(photo: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """A photo at twice the size at which it is shown, which smooths the edges drawn on it, and that size."""
    scale = min(SIDE / photo.width, SIDE / photo.height)
    scale = int(scale) if scale >= 2 else scale  # small pictures grow by whole numbers
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    double = (2 * size[0], 2 * size[1])
    return photo.resize(double, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS), size


def jpeg(picture: Image.Image) -> bytes:
    """At half the size; colors at full resolution, for thin colored lines would blur."""
    file = BytesIO()
    picture.reduce(2).save(file, "JPEG", quality=85, subsampling=0, optimize=True)
    return file.getvalue()
