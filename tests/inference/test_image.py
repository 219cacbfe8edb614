"""Photos of every kind become what a person sees."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from maskris.data.masks import decode, encode
from maskris.data.orientation import turn_mask
from maskris.inference.image import load_image, orientation_of

RNG = np.random.default_rng(0)
UPRIGHT = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def stored(upright, orientation):
    """Pixels as the EXIF standard says a camera stores them: which visual side row 0 and column 0 lie at."""
    row, column = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    pixels = upright if row in ("top", "bottom") else upright.swapaxes(0, 1)
    if row in ("bottom", "right"):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if column in ("bottom", "right") else pixels


def pixels_of(image):
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_every_orientation_becomes_upright(tmp_path, orientation, kind):
    image = Image.fromarray(np.ascontiguousarray(stored(UPRIGHT, orientation)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{kind}"
    image.save(path, exif=exif, **({"lossless": True} if kind == "webp" else {}))
    assert np.array_equal(pixels_of(load_image(path)), UPRIGHT)
    with Image.open(path) as opened:  # not loaded yet
        assert np.array_equal(pixels_of(load_image(opened)), UPRIGHT)
    applied = orientation_of(path)
    assert applied == (1 if kind == "tiff" else orientation), "PIL turns a TIFF itself"
    with Image.open(path) as opened:
        pixels = np.asarray(opened)
    mask = UPRIGHT[:, :, 0] > 128
    counts, height, width = turn_mask(encode(mask), *mask.shape, applied, back=True)
    assert np.array_equal(decode(counts, height, width), pixels[:, :, 0] > 128)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_jpeg(tmp_path, orientation):
    quadrants = np.kron(np.array([[0, 80], [160, 240]], dtype=np.uint8), np.ones((16, 24), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored(quadrants, orientation))).save(tmp_path / "a.jpg", exif=exif)
    loaded = pixels_of(load_image(tmp_path / "a.jpg")).astype(int)
    assert loaded.shape == (32, 48, 3)
    assert np.abs(loaded - quadrants[..., None]).max() <= 4


def tagged(path, upright, orientation, metadata):
    """Save a photo as a camera stores it, its orientation told in EXIF or in XMP."""
    image, more = Image.fromarray(np.ascontiguousarray(stored(upright, orientation))), {}
    xmp = f'<rdf:Description tiff:Orientation="{orientation}"/>'
    if metadata == "exif":
        more["exif"] = Image.Exif()
        more["exif"][0x0112] = orientation
    elif path.suffix == ".png":
        more["pnginfo"] = PngInfo()
        more["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    elif path.suffix == ".tiff":
        more["tiffinfo"] = {700: xmp.encode()}
    else:
        more["xmp"] = xmp.encode()
    if path.suffix == ".webp":
        more["lossless"] = True
    image.save(path, **more)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("metadata", ["exif", "xmp"])
@pytest.mark.parametrize("kind", ["png", "tiff", "webp", "jpg"])
@pytest.mark.parametrize("shape", [(5, 7, 3), (6, 6, 3)])
def test_a_loaded_photo_is_not_turned_again(tmp_path, orientation, metadata, kind, shape):
    photo = RNG.integers(0, 256, shape, dtype=np.uint8)
    tagged(tmp_path / f"a.{kind}", photo, orientation, metadata)
    once = load_image(tmp_path / f"a.{kind}")
    if kind != "jpg":  # which changes the values
        assert np.array_equal(pixels_of(once), photo)
    assert once.size == (shape[1], shape[0])
    assert np.array_equal(pixels_of(load_image(once)), pixels_of(once))
    with Image.open(tmp_path / f"a.{kind}") as opened:
        opened.load()
        before = dict(opened.info)
        assert np.array_equal(pixels_of(load_image(load_image(opened))), pixels_of(once))
        assert opened.info == before, "the caller's image keeps its metadata"


def test_damaged_exif_does_not_hide_a_photo(tmp_path):
    Image.fromarray(UPRIGHT).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    assert np.array_equal(pixels_of(load_image(str(tmp_path / "a.png"))), UPRIGHT)


def test_grey_palette_and_one_bit():
    gray = np.array([[0, 100], [200, 255]], dtype=np.uint8)
    assert np.array_equal(pixels_of(load_image(Image.fromarray(gray))), gray[..., None].repeat(3, 2))
    palette = Image.fromarray(UPRIGHT).quantize(256)
    assert np.array_equal(pixels_of(load_image(palette)), np.asarray(palette.convert("RGB")))
    assert pixels_of(load_image(Image.fromarray(gray > 100))).tolist() == [[[0] * 3] * 2, [[255] * 3] * 2]


def test_transparent_pixels_are_seen_over_white():
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = (0, 255, 51)  # a fifth
    expected = [[255, 255, 255], [200, 0, 0], [244, 204, 204]]
    assert pixels_of(load_image(rgba))[0].tolist() == expected
    assert pixels_of(load_image(Image.fromarray(rgba)))[0].tolist() == expected
    la = Image.fromarray(np.array([[[50, 0], [50, 255]]], dtype=np.uint8), "LA")
    assert pixels_of(load_image(la))[0].tolist() == [[255] * 3, [50] * 3]


def test_one_transparent_color(tmp_path):
    gray = np.array([[7, 90]], dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / "key.png", transparency=7)
    assert pixels_of(load_image(tmp_path / "key.png"))[0].tolist() == [[255] * 3, [90] * 3]
    palette = Image.fromarray(gray).convert("P")
    palette.save(tmp_path / "palette.gif", transparency=7)
    assert pixels_of(load_image(tmp_path / "palette.gif"))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path, kind):
    values = np.array([[0, 257, 30000, 65535]], dtype=np.uint16)
    expected = [0, 1, 117, 255]  # 30000 / 257 = 116.7
    Image.fromarray(values).save(tmp_path / f"a.{kind}")
    assert pixels_of(load_image(tmp_path / f"a.{kind}"))[0, :, 0].tolist() == expected
    assert pixels_of(load_image(values))[0, :, 2].tolist() == expected
    dark = np.full((2, 2), 400, dtype=np.uint16)
    assert pixels_of(load_image(dark)).max() == 2, "a dark scan stays dark"


def test_cmyk(tmp_path):
    cmyk = Image.merge("CMYK", [Image.new("L", (16, 16), value) for value in (0, 255, 255, 0)])
    assert pixels_of(load_image(cmyk))[0, 0].tolist() == [255, 0, 0]
    cmyk.save(tmp_path / "a.jpg", quality=95)
    assert np.abs(pixels_of(load_image(tmp_path / "a.jpg"))[8, 8].astype(int) - [255, 0, 0]).max() <= 4


def test_float_arrays_and_float_images():
    values = np.array([[0, 0.5, 1.0, 1.0004]], dtype=np.float32)
    assert pixels_of(load_image(values))[0, :, 0].tolist() == [0, 128, 255, 255]
    assert pixels_of(load_image(Image.fromarray(values)))[0, :, 1].tolist() == [0, 128, 255, 255]
    assert pixels_of(load_image(values.astype(np.float16)[..., None].repeat(3, 2))).shape == (1, 4, 3)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (1,), (3,), (4,)]), st.integers(0, 2**32 - 1))
def test_arrays_of_every_shape(height, width, channels, seed):
    array = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    if channels == (4,):
        array[..., 3] = 255
    copy = array.copy()
    pixels = pixels_of(load_image(array))
    expected = array[..., :3] if array.ndim == 3 else array[..., None]
    assert np.array_equal(pixels, np.broadcast_to(expected, (height, width, 3)))
    array[:] = 0
    assert np.array_equal(pixels, np.broadcast_to(copy[..., :3] if copy.ndim == 3 else copy[..., None], pixels.shape))


def test_a_missing_file_and_what_is_meant(tmp_path, photo):
    with pytest.raises(FileNotFoundError, match=r"no photo .*scenee\.png; did you mean .*scene\.png\?"):
        load_image(tmp_path / "scenee.png")
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_image(tmp_path / "nowhere" / "scene.png")
    with pytest.raises(FileNotFoundError, match="download"):
        load_image("https://example.org/scene.png")
    with pytest.raises(IsADirectoryError, match="a folder, not a photo"):
        load_image(tmp_path)


def test_a_file_that_is_no_image(tmp_path):
    (tmp_path / "notes.jpg").write_text("words")
    with pytest.raises(OSError, match=r"notes\.jpg is not an image.*convert it"):
        load_image(tmp_path / "notes.jpg")
    (tmp_path / "empty.png").touch()
    with pytest.raises(OSError, match=r"empty\.png is empty"):
        load_image(tmp_path / "empty.png")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(OSError, match="pillow-heif"):
        load_image(tmp_path / "phone.heic")


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.95])  # in the header and in the pixels
def test_a_file_that_is_cut_off(tmp_path, kind, kept):
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, kind)
    path = tmp_path / "cut.img"
    path.write_bytes(buffer.getvalue()[: int(kept * len(buffer.getvalue()))])
    with pytest.raises(OSError, match=r"cut\.img: the file is damaged or cut off"):
        load_image(path)


def test_a_photo_with_too_many_pixels(tmp_path, monkeypatch):
    Image.new("L", (50, 50)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    assert load_image(tmp_path / "large.png").size == (50, 50)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # PIL refuses twice of it itself
    with pytest.raises(ValueError, match=r"large\.png is too large.*MAX_IMAGE_PIXELS"):
        load_image(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # and only warns below
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(ValueError, match=r"50 x 50 pixels, at most 2000\. Shrink it"),
    ):
        load_image(tmp_path / "large.png")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 20, 30), np.uint8), r"channels come first.*transpose\(1, 2, 0\)"),
        (np.zeros((1, 20, 30, 3), np.uint8), r"One photo at a time.*array\[0\]"),
        (np.zeros((20, 30, 2), np.uint8), r"\[height, width, 3\] uint8.*got \[20, 30, 2\] uint8"),
        (np.zeros(20, np.uint8), "no photo"),
        (np.zeros((0, 30, 3), np.uint8), "no pixels"),
        (np.zeros((20, 30, 3), np.int64), r"int64; convert with array\.astype\(np\.uint8\)"),
        (np.full((20, 30, 3), 200.0), r"reach from 200 to 200.*divide by 255"),
        (np.full((20, 30, 3), -0.5), r"reach from -0\.5"),
        (np.full((20, 30, 3), np.nan), "nan"),
        (np.full((20, 30, 3), "a"), "ambiguous"),
    ],
)
def test_arrays_that_are_no_photos(array, message):
    with pytest.raises(ValueError, match=message):
        load_image(array)


def test_other_things_are_no_photos():
    with pytest.raises(TypeError, match="not a NoneType"):
        load_image(None)
    with pytest.raises(TypeError, match=r"permute\(1, 2, 0\)"):
        load_image(torch.zeros(3, 4, 4))
