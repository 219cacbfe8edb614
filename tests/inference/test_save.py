"""The files of a prediction say what was predicted, and no other file suffers."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

import maskris
from maskris.inference.batch_inputs import read_rows
from maskris.inference.image import load_image
from maskris.inference.save import check_free, save_predictions


@pytest.fixture
def predictions(predictor, photo):
    return predictor.predict(["the red one", "the blue thing", "green"], image=photo)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_files_say_what_was_predicted(predictions, photo, tmp_path):
    out = tmp_path / "new" / "out"
    saved = save_predictions(photo, predictions, out, model="tiny")
    assert saved.folder == out / "scene"
    assert names(out / "scene") == ["mask_1.png", "mask_2.png", "mask_3.png", "overlay.png", "prediction.json"]
    content = json.loads(saved.json.read_text(encoding="utf-8"))
    entries = content.pop("predictions")
    assert content == {
        "image": "../../../scene.png", "height": 48, "width": 64, "orientation": 1, "model": "tiny",
        "maskris": maskris.__version__, "overlay": "overlay.png",
    }  # fmt: skip
    for entry, prediction, path in zip(entries, predictions, saved.masks, strict=True):
        pixels = np.asarray(Image.open(path))
        assert entry["mask_file"] == path.name
        assert np.array_equal(pixels, prediction.mask * np.uint8(255))
        assert np.array_equal(coco.decode(entry["segmentation"]) != 0, prediction.mask)
        assert entry["expression"] == prediction.expression
        assert entry["score"] == prediction.score
        assert entry["area"] == prediction.mask.sum()
    assert entries[0]["box"] == list(predictions[0].box)
    assert entries[2]["box"] is None
    assert load_image(saved.overlay).width >= 480


def test_own_files_are_replaced_and_stale_masks_removed(predictions, photo, tmp_path):
    out = tmp_path / "out"
    save_predictions(photo, predictions, out, model="first")
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copytree(out, moved / "out")
    shutil.copy(photo, moved / photo.name)
    for folder in (tmp_path, moved):  # the photo and its results may move together
        saved = save_predictions(folder / photo.name, predictions[1:2], folder / "out", model="second")
        assert names(folder / "out") == ["scene"]
        assert names(saved.folder) == ["mask_1.png", "overlay.png", "prediction.json"]
        assert json.loads(saved.json.read_text())["model"] == "second"
        assert np.array_equal(np.asarray(Image.open(saved.masks[0])) > 0, predictions[1].mask)


@pytest.mark.parametrize("name", ["mask_2.png", "overlay.png", "prediction.json"])
def test_files_of_unknown_origin_are_left_alone(predictions, photo, tmp_path, name):
    folder = tmp_path / "out" / "scene"
    folder.mkdir(parents=True)
    (folder / name).write_text("{}")
    with pytest.raises(FileExistsError, match=r"out/scene exists .* or have it replaced \(--overwrite\)"):
        save_predictions(photo, predictions, tmp_path / "out", model="tiny")
    assert names(folder) == [name]
    assert (folder / name).read_text() == "{}"
    save_predictions(photo, predictions, tmp_path / "out", model="tiny", overwrite=True)
    assert len(names(folder)) == 5


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "mask_x.png", "deep/mask_1.png", "mask_1.png/a"])
def test_other_files_stay_whatever_is_wanted(predictions, photo, tmp_path, name, overwrite):
    folder = save_predictions(photo, predictions[:0], tmp_path / "out", model="first").folder
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("precious")
    with pytest.raises(FileExistsError, match=rf"other files than results \({name.split('/')[0]}\); choose another"):
        save_predictions(photo, predictions, tmp_path / "out", model="second", overwrite=overwrite)
    assert (folder / name).read_text() == "precious"
    assert json.loads((folder / "prediction.json").read_text())["model"] == "first"


def test_two_photos_of_one_name_do_not_share_files(predictions, photo, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photo, other / photo.name)
    save_predictions(photo, predictions, tmp_path / "out", model="tiny")
    with pytest.raises(FileExistsError, match="another folder"):
        save_predictions(other / photo.name, predictions, tmp_path / "out", model="tiny")


def test_with_overwrite_the_results_of_another_photo_go_as_a_whole(predictions, photo, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photo, other / photo.name)
    save_predictions(photo, predictions, tmp_path / "out", model="tiny")
    save_predictions(other / photo.name, predictions[:1], tmp_path / "out", model="tiny", overwrite=True)
    assert names(tmp_path / "out" / "scene") == ["mask_1.png", "overlay.png", "prediction.json"]


def test_the_check_before_computing_refuses_what_saving_would(predictions, photo, tmp_path):
    check_free(photo, tmp_path / "out")
    saved = save_predictions(photo, predictions[:2], tmp_path / "out", model="tiny")
    check_free(photo, tmp_path / "out")
    with pytest.raises(FileExistsError, match=r"scene exists and doesn't come from an earlier prediction"):
        check_free(tmp_path / "other" / photo.name, tmp_path / "out")
    check_free(tmp_path / "other" / photo.name, tmp_path / "out", overwrite=True)
    (saved.folder / "mask_3.png.txt").write_text("of somebody else")
    with pytest.raises(FileExistsError, match=r"mask_3\.png\.txt"):
        check_free(photo, tmp_path / "out")
    with pytest.raises(FileExistsError, match="is a file; name another folder"):
        check_free(photo, photo)
    (tmp_path / "scene").write_text("a file of the name of the folder")
    with pytest.raises(FileExistsError, match="is a file; name another folder"):
        check_free(photo, tmp_path)


class Killed(BaseException):
    """The process ends."""


@pytest.fixture
def die_after(monkeypatch):
    """The process is killed after so many changes of the disk; half of a picture may be written."""

    def arrange(changes):
        def counted(change):
            def call(self, *args, **options):
                nonlocal changes
                if changes <= 0:
                    if change is Image.Image.save and changes == 0:
                        args[0].write_bytes(b"half")
                    changes = -1
                    raise Killed
                changes -= 1
                return change(self, *args, **options)

            return call

        monkeypatch.setattr(Path, "rename", counted(Path.rename))
        monkeypatch.setattr(Path, "mkdir", counted(Path.mkdir))
        monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        monkeypatch.setattr(Image.Image, "save", counted(Image.Image.save))

    return arrange


@pytest.mark.parametrize("changes", range(14))
@pytest.mark.parametrize(("before", "now"), [(0, 3), (3, 1), (1, 3)])
def test_what_a_killed_call_leaves_is_no_photo_and_blocks_nothing(
    predictions, photo, tmp_path, die_after, monkeypatch, before, now, changes
):
    out = tmp_path / "out"
    if before:
        save_predictions(photo, predictions[:before], out, model="first")
    with suppress(Killed):
        die_after(changes)
        save_predictions(photo, predictions[:now], out, model="second")
        assert changes >= 1 + now + 2
    monkeypatch.undo()
    assert [row.given["image"] for row in read_rows(tmp_path, ["x"])] == ["scene.png"]
    check_free(photo, out)
    save_predictions(photo, predictions[:2], out, model="third")
    assert names(out) == ["scene"]
    assert names(out / "scene") == ["mask_1.png", "mask_2.png", "overlay.png", "prediction.json"]


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_a_photo_whose_name_is_no_text(predictions, photo, tmp_path):
    odd = photo.with_name("photo\udce9.png")
    photo.rename(odd)
    for _ in range(2):
        saved = save_predictions(odd, predictions, tmp_path / "out", model="tiny")
    assert json.loads(saved.json.read_text(encoding="utf-8"))["image"] == "../../photo\udce9.png"


def test_nothing_is_written_for_masks_of_another_photo(predictions, painted, tmp_path):
    Image.fromarray(painted(20, 20)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"\[48, 64\]"):
        save_predictions(tmp_path / "small.png", predictions, tmp_path / "out", model="tiny")
    assert not (tmp_path / "out").exists()


def test_expressions_in_any_language_and_none(predictor, photo, tmp_path):
    with pytest.warns(UserWarning, match="not in this model's vocabulary"):
        found = predictor.predict(["\u5de6\u8fb9\u7684 \u201cred\u201d"], image=photo)
    saved = save_predictions(photo, found, tmp_path / "out", model="m", image=predictor.image)
    assert json.loads(saved.json.read_text(encoding="utf-8"))["predictions"][0]["expression"] == found[0].expression
    assert found[0].expression in saved.json.read_text(encoding="utf-8"), "for people's eyes"
    assert save_predictions(photo, [], tmp_path / "out", model="m").masks == ()
    assert names(saved.folder) == ["overlay.png", "prediction.json"]
