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
    """

    megabytes: float = 20.0
    pixels: int = 25_000_000
    expressions: int = len(PALETTE)
    characters: int = 200

    def __post_init__(self) -> None:
        """Check the values, which come from the command line.

        Raises:
            ValueError: If one is not positive, there are more expressions than colors, or Pillow would open no photo
                of so many pixels.
        """
        for name in ("megabytes", "pixels", "expressions", "characters"):
            if not getattr(self, name) > 0:
                raise ValueError(f"The limit on {name} must be positive, not {getattr(self, name)}")
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
        raise RefusedError(
            f"{name} has {size / 2**20:.1f} MB; at most {limits.megabytes:g} MB can be taken. Shrink it first"
        )
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > limits.pixels:
                raise RefusedError(
                    f"{name} has {image.width:,} x {image.height:,} pixels; at most {_million(limits.pixels)} can be "
                    "taken. Shrink it first"
                )
            return _upright(image, name)
    except RefusedError:
        raise
    except UnidentifiedImageError:
        raise RefusedError(f"{name} is not a photo that can be read here. {_advice(name)}") from None
    except Image.DecompressionBombError:  # more than Pillow would ever open
        raise RefusedError(f"{name} has far too many pixels; at most {_million(limits.pixels)} can be taken") from None
    except Exception:  # decoders raise anything at damaged files
        raise RefusedError(f"{name} can't be decoded: the file is damaged or cut off. Try to copy it again") from None


def _upright(image: Image.Image, name: str) -> Image.Image:
    try:
        return load_image(image)
    except ValueError:  # what is damaged is an OSError there
        raise RefusedError(
            f"{name} has pixels of a kind that can't be read here, such as measured values instead of colors. Save it "
            "as an ordinary JPEG or PNG first"
        ) from None


def read_expressions(text: str, limits: Limits) -> tuple[str, ...]:
    """The expressions of a text box, one per line; white space is tidied, empty lines and repetitions are left out.

    Raises:
        RefusedError: If there are none, too many, or one is too long.
    """
    lines = (" ".join(_printable(line).split()) for line in text.splitlines())
    expressions = tuple(dict.fromkeys(line for line in lines if line))
    if not expressions:
        raise RefusedError("Say what to look for, one expression per line, such as: the man on the left")
    if len(expressions) > limits.expressions:
        raise RefusedError(
            f"These are {len(expressions)} expressions; at most {limits.expressions} at once, one per line"
        )
    for number, expression in enumerate(expressions, 1):
        if len(expression) > limits.characters:
            raise RefusedError(
                f"Expression {number} has {len(expression)} characters; at most {limits.characters}. "
                "A short phrase works best"
            )
    return expressions


def safe_name(name: str | None) -> str:
    """A visitor's file name without folders and without characters that a file system or a page could stumble over."""
    last = re.split(r"[/\\]", name or "")[-1]
    tidy = re.sub(r"[^\w. ()+-]+", "_", unicodedata.normalize("NFC", last)).strip("._ ")
    stem, dot, ending = tidy.rpartition(".")
    if not dot:
        stem, ending = tidy, ""
    return f"{stem[:60].strip('._ ') or 'photo'}{dot}{ending[:8]}"


def _printable(text: str) -> str:
    return "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in text)


def _advice(name: str) -> str:
    if name.lower().endswith((".heic", ".heif")):
        return "Phones can save JPEG instead of HEIC: in the camera's settings, or by sharing the photo"
    return "JPEG, PNG, WebP, GIF, BMP and TIFF work"


def _million(number: int) -> str:
    return f"{number / 1e6:g} million" if number >= 1_000_000 else f"{number:,}"
