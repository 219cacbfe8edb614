"""Pictures of predictions: masks on a photo, a legend underneath, and text in any script that the machine has."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

from maskris.data.masks import box_of
from maskris.inference.image import ImageSource, load_image
from maskris.inference.predictor import Prediction

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442")
"""Colors that stay apart for color-blind eyes (Okabe and Ito, 2008)."""

INK, MUTED = "#1f2328", "#6b7280"
"""Colors of text, and of text that matters less."""

Color = str | tuple[int, int, int]
"""A name or hex code of PIL, or red, green and blue in [0, 255]."""

Masks = np.ndarray | Sequence[np.ndarray]
"""One mask ``[h, w]``, or several ``[N, h, w]``; nonzero means inside."""

_LEAST_WIDTH = 480  # below it a legend would be a column of single words


def draw_predictions(
    image: ImageSource, predictions: Sequence[Prediction], colors: Sequence[Color] | None = None
) -> Image.Image:
    """The photo with every prediction in its color, and a legend of expressions and scores underneath.

    Args:
        image: The photo that the predictions were made for.
        predictions: What `Predictor.predict` returned.
        colors: One per prediction; by default the palette.

    Returns:
        An RGB image; small photos are enlarged by a whole number, so that the legend has room.

    Raises:
        ValueError: If the masks are not of the photo's size, or the number of colors is wrong.
    """
    photo = load_image(image)
    planes = as_planes([prediction.mask for prediction in predictions], (photo.height, photo.width))
    factor = ceil(_LEAST_WIDTH / photo.width) if max(photo.size) < _LEAST_WIDTH else 1
    large = ImageOps.scale(photo, factor, Image.Resampling.NEAREST)
    planes = [plane.repeat(factor, 0).repeat(factor, 1) for plane in planes]
    notes = [f"{p.score:.2f}" if p.box else "not found" for p in predictions]
    return legend(overlay(large, planes, colors), [p.expression for p in predictions], colors, notes)


def overlay(
    image: ImageSource, masks: Masks, colors: Sequence[Color] | None = None, alpha: float = 0.5, outline: bool = True
) -> Image.Image:
    """Color masks on a photo; pixels outside all masks keep their values.

    Args:
        image: The photo, as for `load_image`.
        masks: ``[N, h, w]`` or ``[h, w]``, of the size of the upright photo. Later ones lie above earlier ones.
        colors: One per mask; by default `PALETTE`, again from its start when it ends.
        alpha: Opacity of the color in [0, 1].
        outline: Draw the inner edge of each mask in its full color, as wide as the photo's size calls for.

    Returns:
        A new RGB image of the photo's size.

    Raises:
        ValueError: If sizes or numbers don't fit, a color is unknown, or `alpha` lies outside [0, 1].
    """
    photo = load_image(image)
    planes = as_planes(masks, (photo.height, photo.width))
    drawn = list(zip(planes, colors_for(len(planes), colors), strict=True))
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is an opacity in [0, 1], not {alpha}")
    pixels = np.array(photo, dtype=np.float32)  # [h, w, 3]
    for plane, color in drawn:
        pixels[plane] += alpha * (np.array(color, dtype=np.float32) - pixels[plane])
    if outline:  # after all fills, so that no mask buries the edge of another
        width = max(1, round(max(photo.size) / 200))
        for plane, color in drawn:
            pixels[inner_edge(plane, width)] = color
    return Image.fromarray(pixels.round().astype(np.uint8))


def spotlight(photo: Image.Image, mask: np.ndarray, color: Color, width: int = 2) -> Image.Image:
    """An RGB photo that fades outside a ``[h, w]`` bool mask, whose inner edge, `width` pixels wide, gets a color.

    Unlike `overlay` it leaves the referent its colors, which matter where expressions name colors.
    """
    pixels = np.array(photo, dtype=np.float32)  # [h, w, 3]
    gray = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    faded = 0.55 * gray[..., None] + 0.45 * pixels  # half of the color,
    faded = 255 - 0.4 * (255 - faded)  # and a veil of white
    pixels[~mask] = faded[~mask]
    pixels[inner_edge(mask, width)] = colors_for(1, [color])[0]
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def as_planes(masks: Masks, size: tuple[int, int]) -> list[np.ndarray]:
    """Masks as a list of ``[h, w]`` bool arrays; a ValueError if one is not of height and width `size`."""
    several = [masks] if isinstance(masks, np.ndarray) and masks.ndim == 2 else masks
    planes = [np.asarray(mask) != 0 for mask in several]
    for i, plane in enumerate(planes):
        if plane.shape != size:
            raise ValueError(
                f"Mask {i + 1} is of size {list(plane.shape)}, but the upright photo has {list(size)} (height, width)"
            )
    return planes


def colors_for(number: int, colors: Sequence[Color] | None = None) -> list[tuple[int, int, int]]:
    """RGB of so many colors: those given, or the palette over and over; a ValueError if they are fewer or unknown."""
    if colors is None:
        colors = [PALETTE[i % len(PALETTE)] for i in range(number)]
    if isinstance(colors, str) or len(colors) != number:
        raise ValueError(f"colors needs one color per mask: {number}, not {colors!r}")
    rgb = [ImageColor.getrgb(color) if isinstance(color, str) else tuple(color) for color in colors]
    return [(c[0], c[1], c[2]) for c in rgb]


def inner_edge(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a ``[h, w]`` bool mask that are within `width` of its outside or the photo's border."""
    edge = np.zeros_like(mask)
    x, y, w, h = map(int, box_of(mask))
    part = np.s_[y : y + h, x : x + w]  # a small mask on a large photo is quick
    inside = np.pad(mask[part], 1)
    for step in range(width):  # 4 and 8 neighbors in turn: the line is as wide on slopes as on straight edges
        shrunk = inside & np.roll(inside, 1, 0) & np.roll(inside, -1, 0)  # what is rolled in is the padding
        across = shrunk if step % 2 else inside
        inside = shrunk & np.roll(across, 1, 1) & np.roll(across, -1, 1)
    edge[part] = mask[part] & ~inside[1:-1, 1:-1]
    return edge


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another width and height, its pixels square where it grows much."""
    how = Image.Resampling.NEAREST if size[0] >= 4 * mask.shape[1] else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(size, how)) > 127


def legend(
    picture: Image.Image,
    labels: Sequence[str],
    colors: Sequence[Color] | None = None,
    notes: Sequence[str] | None = None,
) -> Image.Image:
    """Put a legend under a picture.

    The new picture has white space for it below, and beside if it is narrow.

    Args:
        picture: RGB.
        labels: One per color; long ones are wrapped.
        colors: By default the palette.
        notes: Text at the right of each label, such as a score.

    Raises:
        ValueError: If the numbers of labels, colors and notes differ.
    """
    colors = colors_for(len(labels), colors)
    notes = notes or [""] * len(labels)
    if len(notes) != len(labels):
        raise ValueError(f"{len(labels)} labels need as many notes, not {len(notes)}")
    if not labels:
        return picture.copy()
    width = max(picture.width, _LEAST_WIDTH)
    size = max(16, round(width / 38))
    margin, line, swatch = round(0.8 * size), line_height(size), round(0.8 * size)
    right = max(width_of(note, size) for note in notes)
    left = margin + swatch + round(0.6 * size)
    texts = [wrap(label, size, width - left - right - 2 * margin) for label in labels]
    height = margin + sum(len(text) * line + size // 3 for text in texts) + margin - size // 3
    sheet = Image.new("RGB", (width, picture.height + height), "white")
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    y = picture.height + margin
    for text, color, note in zip(texts, colors, notes, strict=True):
        top = y + (line - swatch) // 2
        draw.rounded_rectangle((margin, top, margin + swatch, top + swatch), swatch // 5, fill=color)
        write(draw, (width - margin, y + line // 2), [note], size, MUTED, "rm")
        write(draw, (left, y + line // 2), text, size, INK, "lm")
        y += len(text) * line + size // 3
    return sheet


def write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], lines: Sequence[str], size: float, color: str, anchor: str
) -> None:
    """Write lines below each other; `anchor` is the point of the first that lies at `at`, as in PIL (la: left, top)."""
    for i, line in enumerate(lines):
        font, text = font_for(line, size)
        draw.text((at[0], at[1] + i * line_height(size)), text, fill=color, font=font, anchor=anchor)


def line_height(size: float) -> int:
    """Pixels from one line of text to the next."""
    return round(1.35 * size)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Break a text into lines of at most `width` pixels, at least one; a word that is wider is broken."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if width_of(joined, size) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and width_of(lines[-1] + letter, size) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def width_of(text: str, size: float) -> float:
    """Width of one line in pixels."""
    font, text = font_for(text, size)
    return float(font.getlength(text))


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# PIL's own font, the first, has no letter beyond ASCII; for others, what the machine has of these.
_FONTS = (
    "", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc",
    "msyh.ttc", "PingFang.ttc",
)  # fmt: skip


def font_for(text: str, size: float) -> tuple[_Font, str]:
    """A font of `size` pixels for a text, and the text as the font can write it.

    The font is PIL's own one, so that pictures look the same on every machine, unless the text needs letters that it
    lacks. If no font has them, accents are dropped rather than shown as boxes.
    """
    fonts = [font for name in _FONTS if (font := _font(name, size)) is not None]
    for font in fonts:
        if all(_draws(font, letter) for letter in set(text) if not letter.isspace()):
            return font, text
    return fonts[0], "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


@lru_cache(maxsize=64)
def _font(name: str, size: float) -> _Font | None:
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _draws(font: _Font, letter: str) -> bool:
    """Whether a letter differs from the box that stands for an unknown one."""
    return bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))
