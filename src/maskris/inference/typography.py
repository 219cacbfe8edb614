"""Text on pictures: fonts that are always there, widths and wrapping."""

import unicodedata
from functools import lru_cache

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK = "#1f2328"
"""Colour of text."""
MUTED = "#6b7280"
"""Colour of what matters less."""

# PIL's own font has no letter beyond ASCII; for others the first of these that the machine has and that knows them all.
_OTHER_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "PingFang.ttc",
)


def font_for(text: str, size: float) -> tuple[Font, str]:
    """A font of `size` pixels for a text, and the text as the font can write it.

    The font is PIL's own one, so that pictures look the same on every machine, unless the text needs letters that it
    lacks. If no font has them, accents are dropped rather than shown as boxes.
    """
    own = _own(size)
    if _knows(own, text):
        return own, text
    for name in _OTHER_FONTS:
        if (other := _other(name, size)) is not None and _knows(other, text):
            return other, text
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return own, plain


def width_of(text: str, size: float) -> float:
    """Width of one line in pixels."""
    font, text = font_for(text, size)
    return float(font.getlength(text))


def write(
    draw: ImageDraw.ImageDraw, position: tuple[float, float], text: str, size: float, colour: str, anchor: str
) -> None:
    """Write one line; `anchor` says which point of it lies at `position`, as in PIL ("la" = left, top)."""
    font, text = font_for(text, size)
    draw.text(position, text, fill=colour, font=font, anchor=anchor)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Break a text into lines.

    Args:
        text: Any white space counts as a space.
        size: Font size in pixels.
        width: Most pixels of a line; a word that is wider is broken.

    Returns:
        At least one line.
    """
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


@lru_cache(maxsize=32)
def _own(size: float) -> Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)
def _other(name: str, size: float) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _knows(font: Font, text: str) -> bool:
    return all(_draws(font, letter) for letter in set(text) if not letter.isspace())


@lru_cache(maxsize=4096)
def _draws(font: Font, letter: str) -> bool:
    """Whether a letter differs from the box that stands for an unknown one."""
    return bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))
