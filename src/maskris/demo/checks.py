"""Checks of what visitors of the demo send: photos and expressions within limits, each refusal with a remedy."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from maskris.inference.image import load_image
from maskris.inference.visualize import PALETTE

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats of Pillow that uploads are tried as. Not all that it has: for EPS it starts another program."""


class RefusedError(ValueError):
    """An upload or text beyond the limits; the message is for the visitor, and names nothing of this machine."""


@dataclass(frozen=True)
class Limits:
    """Limits on one request.

    Attributes:
        megabytes: Largest file, in units of 2^20 bytes.
        pixels: Largest photo, width times height.
        expressions: Most expressions; not more than there are colors in the palette.
        characters: Longest expression.

    Raises:
        ValueError: If one is not positive, there are more expressions than colors, or Pillow would open no photo of so
            many pixels.
    """

    megabytes: float = 20.0
    pixels: int = 25_000_000
    expressions: int = len(PALETTE)
    characters: int = 200

    def __post_init__(self) -> None:
        """Check the values, which come from the command line."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"The limit on {name} must be positive, not {value}")
        if self.expressions > len(PALETTE):
            raise ValueError(f"There are colors for {len(PALETTE)} expressions, not for {self.expressions}")
        if Image.MAX_IMAGE_PIXELS is not None and self.pixels > 2 * Image.MAX_IMAGE_PIXELS:
            raise ValueError(
                f"The limit on pixels must be at most {2 * Image.MAX_IMAGE_PIXELS:,}, not {self.pixels:,}: Pillow "
                "opens no larger photo, lest a small file unpack to gigabytes"
            )

    @property
    def bytes(self) -> int:
        """Largest file in bytes."""
        return int(self.megabytes * 2**20)

    def __str__(self) -> str:
        """As the page shows them."""
        return (
            f"Photos up to {self.megabytes:g} MB and {_million(self.pixels)} pixels; up to {self.expressions} "
            f"expressions of {self.characters} characters."
        )


def read_photo(path: Path, name: str, limits: Limits) -> Image.Image:
    """An upload as an upright RGB photo; its size is checked before anything is decoded.

    Args:
        path: The file.
        name: The visitor's name for it, for messages.
        limits: On bytes and pixels.

    Raises:
        RefusedError: If it is no photo, is damaged, has colors of a rare kind, or exceeds a limit.
    """
    try:
        size = path.stat().st_size
    except OSError:
        raise RefusedError("The photo is no longer here; please upload it again") from None
    if size == 0:
        raise RefusedError(f"{name} is empty: the file has no bytes. Was it copied completely?")
    if size > limits.bytes:
        most = f"at most {limits.megabytes:g} MB can be taken"
        raise RefusedError(f"{name} has {size / 2**20:.1f} MB; {most}. Shrink it first")
    most = f"at most {_million(limits.pixels)} can be taken"
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height <= limits.pixels:
                try:
                    return load_image(image)
                except ValueError:  # what is damaged is an OSError there
                    refusal = (
                        "has pixels of a kind that can't be read here, such as measured values instead of colors. "
                        "Save it as an ordinary JPEG or PNG first"
                    )
            else:
                refusal = f"has {image.width:,} x {image.height:,} pixels; {most}. Shrink it first"
    except UnidentifiedImageError:
        advice = "JPEG, PNG, WebP, GIF, BMP and TIFF work"
        if name.lower().endswith((".heic", ".heif")):
            advice = "Phones can save JPEG instead of HEIC: in the camera's settings, or by sharing the photo"
        refusal = f"is not a photo that can be read here. {advice}"
    except Image.DecompressionBombError:  # more than Pillow would ever open
        refusal = f"has far too many pixels; {most}"
    except Exception:  # decoders raise anything at damaged files
        refusal = "can't be decoded: the file is damaged or cut off. Try to copy it again"
    raise RefusedError(f"{name} {refusal}")


def read_expressions(text: str, limits: Limits) -> tuple[str, ...]:
    """The expressions of a text box, one per line; white space is tidied, empty lines and repetitions are left out.

    Raises:
        RefusedError: If there are none, too many, or one is too long.
    """
    lines = ("".join(letter if letter.isprintable() else " " for letter in line) for line in text.splitlines())
    expressions = tuple(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not expressions:
        raise RefusedError("Say what to look for, one expression per line, such as: the man on the left")
    if (number := len(expressions)) > limits.expressions:
        raise RefusedError(f"These are {number} expressions; at most {limits.expressions} at once, one per line")
    for number, length in enumerate(map(len, expressions), start=1):
        if length > limits.characters:
            most = f"at most {limits.characters}. A short phrase works best"
            raise RefusedError(f"Expression {number} has {length} characters; {most}")
    return expressions


def safe_name(name: str | None) -> str:
    """A visitor's file name without folders and without characters that a file system or a page could stumble over."""
    last = re.split(r"[/\\]", name or "")[-1]
    tidy = re.sub(r"[^\w. ()+-]+", "_", unicodedata.normalize("NFC", last)).strip("._ ")
    stem, dot, ending = tidy.rpartition(".")
    if not dot:
        stem, ending = tidy, ""
    return f"{stem[:60].strip('._ ') or 'photo'}{dot}{ending.strip('_ ')[:8].rstrip('_ ')}"


def _million(number: int) -> str:
    return f"{number / 1e6:g} million" if number >= 1_000_000 else f"{number:,}"
