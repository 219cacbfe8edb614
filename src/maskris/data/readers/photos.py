"""Photos that a file of annotations holds itself, written out beside the table."""

import hashlib
import io
import re
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from maskris.data.orientation import exif_orientation, turn_upright
from maskris.utils.files import atomic_file

_COCO_NAME = re.compile(r"(COCO_(?:train|val)2014_\d{12}|\d{12})(?:_\d+)?(\.(?:jpe?g|png))", re.IGNORECASE)
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg"}
_KEPT_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif")


@dataclass(frozen=True)
class WrittenPhoto:
    """A photo in the folder.

    Attributes:
        name: Of its file.
        height: As it stands upright.
        width: As it stands upright.
        orientation: EXIF's number of how it was turned; 1 if it wasn't.
    """

    name: str
    height: int
    width: int
    orientation: int

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width as it was stored, before it was turned."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


class PhotoFolder:
    """A folder of photos out of a file, each written once.

    The bytes are those of the file. A photo that its EXIF data turn is stored upright as PNG, without loss: whoever
    made masks of it with `datasets` saw it upright, and training takes photos as they are stored. Names of COCO are
    kept (by them, photos are known to be the same as those of other data sets); others get a part of the content's
    hash, since photos of any origin may share a name. So does one of COCO's whose name is that of another photo in the
    folder, as a number behind it, which COCO's own names of objects have too.

    Args:
        folder: It is made with the first photo. What is in it stays, and is used again where the content is the same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []
        self.turned = 0
        self._known: dict[bytes, WrittenPhoto] = {}

    def add(self, data: bytes, names: Sequence[str]) -> WrittenPhoto:
        """Write a photo, unless it is there.

        Args:
            data: The contents of its file.
            names: What it may be called; the first of COCO's names is taken, or else the first.

        Raises:
            ValueError: If it can't be decoded.
        """
        digest = hashlib.sha256(data).digest()
        if digest not in self._known:
            self._known[digest] = self._add(data, digest.hex(), names)
        return self._known[digest]

    def remove(self, used: Set[Path] = frozenset()) -> None:
        """Remove what was written, but for the files that are used."""
        for path in self.written:
            if path not in used:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # there are others in it
            self.folder.rmdir()

    def _add(self, data: bytes, digest: str, names: Sequence[str]) -> WrittenPhoto:
        try:
            data, kind, size, orientation = _upright(data)
        except Exception as error:  # damaged files make the decoders raise all kinds of errors
            raise ValueError(f"the photo can't be decoded: {error}") from error
        self.turned += orientation != 1
        candidates = [self.folder / name for name in _names(names, digest, kind)]
        path = next((one for one in candidates if not one.exists() or _holds(one, data)), candidates[-1])
        if not _holds(path, data):
            with atomic_file(path, "wb") as file:
                file.write(data)
            self.written.append(path)
        return WrittenPhoto(path.name, size[1], size[0], orientation)


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _upright(data: bytes) -> tuple[bytes, str, tuple[int, int], int]:
    """A photo as it is to be written, its format, width and height, and the orientation that it had."""
    with Image.open(io.BytesIO(data)) as image:
        orientation = exif_orientation(image)
        if orientation == 1:
            return data, str(image.format), image.size, 1
        picture = turn_upright(image, orientation)
    stream = io.BytesIO()
    plain = picture if picture.mode in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA") else picture.convert("RGB")
    plain.save(stream, "PNG")
    return stream.getvalue(), "PNG", picture.size, orientation


def _names(names: Sequence[str], digest: str, kind: str) -> list[str]:
    """What the file may be called: the last belongs to this content alone."""
    plain = [PurePosixPath(name.replace("\\", "/")).name for name in names]
    suffix = _SUFFIXES.get(kind, f".{kind.lower()}")
    for match in map(_COCO_NAME.fullmatch, plain):
        if match:
            ending = suffix if kind == "PNG" else match[2]
            return [match[1] + ending, f"{match[1]}_{int(digest[:10], 16)}{ending}"]
    stem = re.sub(r"[^\w.-]+", "_", Path(plain[0]).stem).strip("._")[:80] if plain else ""
    given = Path(plain[0]).suffix.lower() if plain else ""
    kept = given if given in _KEPT_SUFFIXES and kind != "PNG" else suffix
    return [f"{stem or 'photo'}-{digest[:12]}{kept}"]
