import struct
import unicodedata
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskris.demo.checks import Limits, RefusedError, read_expressions, read_photo, safe_name

LIMITS = Limits(megabytes=0.1, pixels=10_000)
PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width, height):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def refused(path, name="cat.png", limits=LIMITS):
    with pytest.raises(RefusedError) as caught:
        read_photo(path, name, limits)
    assert str(path.parent) not in str(caught.value)  # a visitor isn't told where files lie
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_photos_of_all_usual_kinds_are_taken_whatever_they_are_called(tmp_path, kind):
    pixels = np.zeros((8, 12, 3), dtype=np.uint8)
    pixels[:, 6:] = 255
    Image.fromarray(pixels).save(tmp_path / "upload", kind)
    photo = read_photo(tmp_path / "upload", "upload", LIMITS)
    assert (photo.mode, photo.size) == ("RGB", (12, 8))
    assert np.abs(np.asarray(photo).astype(int) - pixels).max() < 40  # JPEG


def test_photos_become_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_photo(tmp_path / "a.jpg", "a.jpg", LIMITS).size == (8, 12)


def test_what_is_no_photo_is_refused(tmp_path):
    file = tmp_path / "cat.png"
    file.write_text("I am a cat")
    assert refused(file) == "cat.png is not a photo that can be read here. JPEG, PNG, WebP, GIF, BMP and TIFF work"
    assert "JPEG instead of HEIC" in refused(file, "IMG_1.HEIC")
    file.write_bytes(b"")
    assert refused(file).startswith("cat.png is empty")
    file.unlink()
    assert refused(file) == "The photo is no longer here; please upload it again"


def test_no_other_program_is_started_for_a_photo(tmp_path):
    # Pillow hands EPS to Ghostscript.
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with Image.open(tmp_path / "a.eps") as image:
        assert image.format == "EPS"
    assert "not a photo that can be read here" in refused(tmp_path / "a.eps")


def test_damaged_photos_are_refused(tmp_path):
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)).save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:3000])
    assert refused(tmp_path / "cut.png", "cut.png").startswith("cut.png can't be decoded: the file is damaged")


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"IHDR", b"\0\0\0\x08"),
        header(8, 8) + chunk(b"pHYs", b"\0"),
        header(8, 8) + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**21))),  # a bomb of text
    ],
    ids=["size", "resolution", "text"],
)
def test_damaged_headers_are_refused(tmp_path, chunks):
    (tmp_path / "a.png").write_bytes(PNG + chunks)
    assert refused(tmp_path / "a.png").startswith("cat.png can't be decoded: the file is damaged")


@pytest.mark.parametrize("error", [RuntimeError, IndexError, struct.error, OverflowError, MemoryError])
def test_whatever_a_decoder_raises_is_explained(tmp_path, monkeypatch, error):
    def fail(image):
        raise error("/a/path/of/this/machine")

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    assert "can't be decoded" in refused(tmp_path / "a.png")


def test_measured_values_are_no_photo(tmp_path):
    Image.fromarray(np.full((8, 8), 300, dtype=np.float32)).save(tmp_path / "depth.tif")
    said = refused(tmp_path / "depth.tif", "depth.tif")
    assert said.startswith("depth.tif has pixels of a kind that can't be read here")
    assert said.endswith("Save it as an ordinary JPEG or PNG first")


def test_large_files_are_refused_before_they_are_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x" * (LIMITS.bytes + 1))
    assert refused(tmp_path / "a.png") == "cat.png has 0.1 MB; at most 0.1 MB can be taken. Shrink it first"


def bomb(width, height):
    """A PNG whose header promises pixels that its few bytes don't hold: who decodes it, fails."""
    return PNG + header(width, height) + chunk(b"IDAT", b"xxxx")


@pytest.mark.parametrize(("side", "said"), [(101, "101 x 101 pixels; at most 10,000"), (60_000, "far too many pixels")])
def test_many_pixels_are_refused_before_they_are_decoded(tmp_path, side, said):
    (tmp_path / "a.png").write_bytes(bomb(side, side))
    assert said in refused(tmp_path / "a.png")


def test_expressions_are_lines():
    text = "  the man  on\tthe left \n\n his dog\r\nhis dog\n"
    assert read_expressions(text, LIMITS) == ("the man on the left", "his dog")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Say what to look for"),
        (" \n \x00\u200b\n", "Say what to look for"),
        ("\n".join("abcdefgh"), "These are 8 expressions; at most 7"),
        ("cat\n" + "x" * 201, "Expression 2 has 201 characters; at most 200"),
    ],
)
def test_expressions_that_are_refused(text, said):
    with pytest.raises(RefusedError, match=said):
        read_expressions(text, LIMITS)


@given(st.text(max_size=300))
def test_whatever_is_typed_is_refused_or_within_the_limits(text):
    try:
        expressions = read_expressions(text, LIMITS)
    except RefusedError:
        return
    assert 0 < len(expressions) <= 7
    for expression in expressions:
        assert expression == expression.strip()
        assert 0 < len(expression) <= 200
        assert not any(unicodedata.category(letter).startswith("C") for letter in expression)


@given(st.text(max_size=300))
def test_names_are_harmless(name):
    safe = safe_name(name)
    assert 0 < len(safe) < 70
    assert not set(safe) & set("/\\<>\"'&:;|*?\x00\n")
    assert not safe.startswith((".", " "))
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("cat.jpg", "cat.jpg"),
        ("Größe 1 (2).JPG", "Größe 1 (2).JPG"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.png", "a.png"),
        ("<img src=x onerror=alert(1)>.png", "img src_x onerror_alert(1).png"),
        (".htaccess", "htaccess"),
        ("", "photo"),
        (None, "photo"),
        ("x" * 300 + ".jpeg", "x" * 60 + ".jpeg"),
        ("a.__1234567'8", "a.1234567"),
    ],
)
def test_names(name, safe):
    assert safe_name(name) == safe


def test_limits_are_told_and_checked():
    told = "Photos up to 20 MB and 25 million pixels; up to 7 expressions of 200 characters."
    assert str(Limits()) == told
    for wrong in ({"megabytes": 0}, {"pixels": -1}, {"characters": 0}, {"megabytes": float("nan")}):
        with pytest.raises(ValueError, match="must be positive"):
            Limits(**wrong)
    most = 2 * Image.MAX_IMAGE_PIXELS
    assert Limits(pixels=most).pixels == most
    with pytest.raises(ValueError, match=f"at most {most:,}, not 200,000,000: Pillow opens no larger photo"):
        Limits(pixels=200_000_000)
    with pytest.raises(ValueError, match="colors for 7 expressions, not for 8"):
        Limits(expressions=8)
