"""Photos of every kind as upright 8-bit RGB, the input of the predictor and of the pictures."""

import difflib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from maskris.data.orientation import exif_orientation, turn_upright
from maskris.data.preprocess import to_rgb

ImageSource = str | Path | Image.Image | np.ndarray
"""A path, a PIL image, or an array ``[h, w]``, ``[h, w, 1]``, ``[h, w, 3]`` (RGB) or ``[h, w, 4]`` (RGBA)."""

_FLOAT_SLACK = 1e-3  # resizing filters overshoot [0, 1] a little
_WANTED = "expected [height, width, 3] uint8 (or one gray plane, RGBA, uint16, or floats in [0, 1])"
_LARGER = "Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file"


def load_image(source: ImageSource) -> Image.Image:
    """A photo as an image viewer shows it.

    EXIF orientation is applied. Gray, palette, CMYK and 16-bit images become RGB; 16 bits are scaled by the range of
    their type, so that a dark scan stays dark. Transparent pixels are laid over white, the page on which cut-outs are
    seen: merely dropping the transparency would uncover whatever color is stored under it, often black or rubbish.
    Of an animation the first frame is taken. A color profile is not applied, as in training.

    Args:
        source: A path; a PIL image (left as it is); or an array: uint8 in [0, 255], uint16 in [0, 65535], bool, or
            floats in [0, 1], in the shapes of `ImageSource`.

    Returns:
        An RGB image that is upright for everybody: loading it once more doesn't turn it again. It shares no memory with
        `source`, except that an upright RGB image of PIL is returned as is.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the file is no image, or is damaged or cut off.
        ValueError: If it has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (a small file may unpack to gigabytes), or
            an array has an unusable shape, type or range.
        TypeError: If `source` is something else.
    """
    if isinstance(source, (str, Path)):
        with _open(Path(source)) as image:
            return _upright_rgb(image, str(source))
    if isinstance(source, Image.Image):
        return _upright_rgb(source, "the image")
    if isinstance(source, np.ndarray):
        return _upright_rgb(_from_array(source), "the array")
    tensor = ": turn a tensor [3, h, w] into an array with tensor.permute(1, 2, 0).cpu().numpy()"
    hint = tensor if hasattr(source, "detach") else ""
    raise TypeError(f"An image is a path, a PIL image or a NumPy array, not a {type(source).__name__}{hint}")


def orientation_of(source: ImageSource) -> int:
    """The EXIF orientation that `load_image` applies, from 1 (upright as it is stored) to 8.

    See `exif_orientation`; it is 1 for arrays.

    Args:
        source: As for `load_image`, which raises the errors too.
    """
    if isinstance(source, (str, Path)):
        with _open(Path(source)) as image:
            return orientation_of(image)
    return exif_orientation(source) if isinstance(source, Image.Image) else 1


def _open(path: Path) -> Image.Image:
    path = path.expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no photo {path}{_suggestion(path)}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a photo; give one file in it")
    try:
        image = Image.open(path)
    except UnidentifiedImageError as error:
        hint = "convert it to JPEG or PNG first"
        if path.suffix.lower() in (".heic", ".heif"):
            hint = "convert it to JPEG, or install pillow-heif and call pillow_heif.register_heif_opener()"
        what = "is empty" if path.stat().st_size == 0 else "is not an image of a kind that Pillow can read"
        raise OSError(f"{path} {what}; {hint}") from error
    except Image.DecompressionBombError as error:  # more than twice the limit: PIL doesn't even open it
        raise ValueError(f"{path} is too large: {error}. {_LARGER}") from error
    except PermissionError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"Can't decode {path}: the file is damaged or cut off ({error})") from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        image.close()
        raise ValueError(f"{path} is too large: {image.width} x {image.height} pixels, at most {limit}. {_LARGER}")
    return image


def _suggestion(path: Path) -> str:
    if str(path).startswith(("http:/", "https:/")):
        return ": it's an address; download the photo first"
    if not path.parent.is_dir():
        return f": there is no folder {path.parent} either"
    close = difflib.get_close_matches(path.name, sorted(file.name for file in path.parent.iterdir()), n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise OSError(f"Can't decode {name}: the file is damaged or cut off ({error})") from error
    if image.width == 0 or image.height == 0:
        raise ValueError(f"{name} has no pixels: its size is {image.width} x {image.height}")
    try:
        return turn_upright(_rgb(image), exif_orientation(image))
    except ValueError as error:
        raise ValueError(f"{name} has the color mode {image.mode}, which can't become RGB: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    keyed = "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")  # one color, or palette entries
    if keyed or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        above = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return to_rgb(_from_array(np.asarray(image)) if image.mode == "F" else image)


def _from_array(array: np.ndarray) -> Image.Image:
    shape, given = list(array.shape), f"got {list(array.shape)} {array.dtype}"
    if array.ndim == 4:
        raise ValueError(f"One photo at a time, please: {_WANTED}, {given}; pass array[0]")
    if array.ndim not in (2, 3) or shape[2:] not in ([], [1], [3], [4]):
        first = array.ndim == 3 and shape[0] in (1, 3, 4)
        hint = "; the channels come first here: use array.transpose(1, 2, 0)" if first else ""
        raise ValueError(f"This array is no photo: {_WANTED}, {given}{hint}")
    if array.size == 0:
        raise ValueError(f"This array has no pixels: {_WANTED}, {given}")
    if shape[2:] == [1]:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(_to_uint8(array, given)))


def _to_uint8(array: np.ndarray, given: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if array.dtype == np.uint8:
        return array.copy()
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return (array / 257).round().astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"Pixels of this type are ambiguous: {_WANTED}, {given}; convert with array.astype(np.uint8)")
    low, high = float(array.min()), float(array.max())  # NaN if any pixel is
    if not (low >= -_FLOAT_SLACK and high <= 1 + _FLOAT_SLACK):
        hint = "; divide by 255" if 1 < high <= 255 and low >= 0 else ""
        raise ValueError(f"Floats must lie in [0, 1], but these reach from {low:g} to {high:g}: {_WANTED}{hint}")
    return (array.astype(np.float64).clip(0, 1) * 255).round().astype(np.uint8)
