import io
import re

import numpy as np
import pytest
from hub_world import photo_bytes
from PIL import Image, ImageOps

from maskris.data.combine import coco_id
from maskris.data.readers.photos import PhotoFolder


def test_the_bytes_are_kept_and_written_once(tmp_path):
    folder, data = PhotoFolder(tmp_path / "photos"), photo_bytes()
    first = folder.add(data, ["/home/x/COCO_train2014_000000000009.jpg", "COCO_train2014_000000000009_5.jpg"])
    assert (first.name, first.height, first.width) == ("COCO_train2014_000000000009.jpg", 48, 64)
    assert folder.add(data, ["other.jpg"]) is first
    assert folder.written == [tmp_path / "photos" / first.name]
    assert folder.written[0].read_bytes() == data
    again = PhotoFolder(tmp_path / "photos")
    assert again.add(data, [first.name]) == first
    assert again.written == []


def test_photos_of_one_name_stay_apart(tmp_path):
    folder = PhotoFolder(tmp_path)
    names = {folder.add(photo_bytes(seed), ["C:\\Users\\me\\my photo.JPG"]).name for seed in range(3)}
    assert len(names) == 3
    assert all(name.startswith("my_photo-") and name.endswith(".jpg") for name in names)
    assert folder.add(photo_bytes(9, kind="WEBP"), []).name.startswith("photo-")
    assert folder.add(photo_bytes(9, kind="WEBP"), []).name.endswith(".webp")
    folder.add(photo_bytes(1), ["COCO_train2014_000000000009.jpg"])
    folder = PhotoFolder(tmp_path)
    folder.add(photo_bytes(4), ["COCO_train2014_000000000001.jpg"])
    other = folder.add(photo_bytes(5), ["COCO_train2014_000000000001.jpg"])
    assert re.fullmatch(r"COCO_train2014_000000000001_\d+\.jpg", other.name)
    assert coco_id(other.name) == 1
    assert (tmp_path / other.name).read_bytes() == photo_bytes(5)
    assert PhotoFolder(tmp_path).add(photo_bytes(5), ["COCO_train2014_000000000001.jpg"]) == other


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/", "a\x00b/\n", "ü" * 300 + ".jpg"])
def test_names_stay_in_the_folder(tmp_path, name):
    folder = PhotoFolder(tmp_path / "photos")
    photo = folder.add(photo_bytes(), [name])
    assert [path.name for path in (tmp_path / "photos").iterdir()] == [photo.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_written_upright_without_loss(tmp_path, orientation):
    folder, data = PhotoFolder(tmp_path), photo_bytes(orientation=orientation)
    photo = folder.add(data, ["COCO_train2014_000000000009.jpg"])
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    with Image.open(tmp_path / photo.name) as written:
        assert written.getexif().get(0x112, 1) == 1
        assert np.array_equal(np.asarray(written), upright)
        assert written.format == ("JPEG" if orientation == 1 else "PNG")
    assert (photo.height, photo.width) == upright.shape[:2]
    assert folder.turned == (orientation != 1)


def test_what_is_no_photo_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="can't be decoded: cannot identify"):
        PhotoFolder(tmp_path / "photos").add(b"no photo", ["a.jpg"])
    with pytest.raises(ValueError, match="truncated"):
        PhotoFolder(tmp_path / "photos").add(photo_bytes(orientation=6)[:-900], ["a.jpg"])
    assert not (tmp_path / "photos").exists()
