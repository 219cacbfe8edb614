"""Pictures of predictions: masks on a photo with the expressions underneath; `overview` compares models."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from maskris.inference.image import ImageSource, load_image
from maskris.inference.overlay import PALETTE, Colour, as_planes, colours_for, overlay
from maskris.inference.overview import Panel, overview
from maskris.inference.typography import INK, MUTED, width_of, wrap, write

if TYPE_CHECKING:
    from maskris.inference.predictor import Prediction

__all__ = ["PALETTE", "Panel", "draw_predictions", "legend", "overlay", "overview"]

_LEAST_WIDTH = 480  # below it a legend would be a column of single words


def draw_predictions(
    image: ImageSource, predictions: "Sequence[Prediction]", colors: Sequence[Colour] | None = None
) -> Image.Image:
    """The photo with every prediction in its colour, and a legend of expressions and scores underneath.

    Args:
        image: The photo that the predictions were made for.
        predictions: What `Predictor.predict` returned.
        colors: One per prediction; by default the palette.

    Returns:
        An RGB image; small photos are enlarged by a whole number, so that the legend has room.

    Raises:
        ValueError: If the masks are not of the photo's size, or the number of colours is wrong.
    """
    photo = load_image(image)
    planes = as_planes([prediction.mask for prediction in predictions], (photo.height, photo.width))
    factor = max(1, ceil(_LEAST_WIDTH / photo.width)) if max(photo.size) < _LEAST_WIDTH else 1
    large = photo.resize((photo.width * factor, photo.height * factor), Image.Resampling.NEAREST)
    planes = [plane.repeat(factor, 0).repeat(factor, 1) for plane in planes]
    notes = [f"{p.score:.2f}" if p.box else "not found" for p in predictions]
    return legend(overlay(large, planes, colors), [p.expression for p in predictions], colors, notes)


def legend(
    picture: Image.Image,
    labels: Sequence[str],
    colors: Sequence[Colour] | None = None,
    notes: Sequence[str] | None = None,
) -> Image.Image:
    """Put a legend under a picture.

    Args:
        picture: RGB.
        labels: One per colour; long ones are wrapped.
        colors: By default the palette.
        notes: What stands at the right of each label, such as a score.

    Returns:
        A new picture with white space below (and beside, if it is narrow) for the legend.

    Raises:
        ValueError: If the numbers of labels, colours and notes differ.
    """
    colours = colours_for(len(labels), colors)
    notes = notes or [""] * len(labels)
    if len(notes) != len(labels):
        raise ValueError(f"{len(labels)} labels need as many notes, not {len(notes)}")
    if not labels:
        return picture.copy()
    width = max(picture.width, _LEAST_WIDTH)
    size = max(16, round(width / 38))
    margin, line, swatch = round(0.8 * size), round(1.35 * size), round(0.8 * size)
    right = max(width_of(note, size) for note in notes)
    left = margin + swatch + round(0.6 * size)
    texts = [wrap(label, size, width - left - right - 2 * margin) for label in labels]
    height = margin + sum(len(text) * line + size // 3 for text in texts) + margin - size // 3
    sheet = Image.new("RGB", (width, picture.height + height), "white")
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    y = picture.height + margin
    for text, colour, note in zip(texts, colours, notes, strict=True):
        top = y + (line - swatch) // 2
        draw.rounded_rectangle((margin, top, margin + swatch, top + swatch), swatch // 5, fill=colour)
        write(draw, (width - margin, y + line // 2), note, size, MUTED, "rm")
        for row in text:
            write(draw, (left, y + line // 2), row, size, INK, "lm")
            y += line
        y += size // 3
    return sheet
