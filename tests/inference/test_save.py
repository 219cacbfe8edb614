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
from maskris.inference.batch_inputs import open_rows
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
    assert names(out) == [
        "scene_mask_1.png", "scene_mask_2.png", "scene_mask_3.png", "scene_overlay.png", "scene_prediction.json",
    ]  # fmt: skip
    content = json.loads(saved.json.read_text(encoding="utf-8"))
    entries = content.pop("predictions")
    assert content == {
        "image": "../../scene.png", "height": 48, "width": 64, "model": "tiny", "maskris": maskris.__version__,
        "overlay": "scene_overlay.png",
    }  # fmt: skip
    for entry, prediction, path in zip(entries, predictions, saved.masks, strict=True):
        pixels = np.asarray(Image.open(path))
        assert entry["mask"] == path.name
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
    (out / "scene_mask_4.png").write_bytes(b"of somebody else")
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copytree(out, moved / "out")
    shutil.copy(photo, moved / photo.name)
    for folder in (tmp_path, moved):  # the photo and its results may move together
        saved = save_predictions(folder / photo.name, predictions[1:2], folder / "out", model="second")
        assert names(folder / "out") == [
            "scene_mask_1.png", "scene_mask_4.png", "scene_overlay.png", "scene_prediction.json",
        ]  # fmt: skip
        assert json.loads(saved.json.read_text())["model"] == "second"
        assert np.array_equal(np.asarray(Image.open(saved.masks[0])) > 0, predictions[1].mask)


@pytest.mark.parametrize("name", ["scene_mask_2.png", "scene_overlay.png", "scene_prediction.json"])
def test_foreign_files_are_left_alone(predictions, photo, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("{}")
    with pytest.raises(FileExistsError, match=name):
        save_predictions(photo, predictions, out, model="tiny")
    assert names(out) == [name]
    assert (out / name).read_text() == "{}"
    save_predictions(photo, predictions, out, model="tiny", overwrite=True)
    assert len(names(out)) == 5


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
    assert names(tmp_path / "out") == ["scene_mask_1.png", "scene_overlay.png", "scene_prediction.json"]


def test_the_check_before_computing_refuses_what_saving_would(predictions, photo, tmp_path):
    check_free(photo, 3, tmp_path / "out")
    save_predictions(photo, predictions[:2], tmp_path / "out", model="tiny")
    check_free(photo, 3, tmp_path / "out")
    (tmp_path / "out" / "scene_mask_3.png").write_text("of somebody else")
    check_free(photo, 2, tmp_path / "out")
    with pytest.raises(
        FileExistsError, match=r"scene_mask_3\.png exists .* or have such files replaced \(--overwrite\)"
    ):
        check_free(photo, 3, tmp_path / "out")
    with pytest.raises(FileExistsError, match="is a file; name a folder"):
        check_free(photo, 3, photo)


class Killed(BaseException):
    """The process ends."""


@pytest.fixture
def die_after(monkeypatch):
    """The process is killed after so many changes of the disk; half of a picture may be written."""

    def arrange(changes):
        def counted(change):
            def call(self, *args, **options):
                nonlocal changes
                if changes == 0:
                    if change is Image.Image.save:
                        args[0].write_bytes(b"half")
                    raise Killed
                changes -= 1
                return change(self, *args, **options)

            return call

        monkeypatch.setattr(Path, "replace", counted(Path.replace))
        monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
        monkeypatch.setattr(Image.Image, "save", counted(Image.Image.save))

    return arrange


@pytest.mark.parametrize("changes", range(9))
@pytest.mark.parametrize(("before", "now"), [(0, 3), (3, 1), (1, 3)])
def test_what_a_killed_call_leaves_is_no_photo_and_blocks_nothing(
    predictions, photo, tmp_path, die_after, monkeypatch, before, now, changes
):
    folder = tmp_path / "out"
    if before:
        save_predictions(photo, predictions[:before], folder, model="first")
    with suppress(Killed):
        die_after(changes)
        save_predictions(photo, predictions[:now], folder, model="second")
        assert changes >= 1 + now + 2 + max(0, before - now)
    monkeypatch.undo()
    photos = open_rows(tmp_path, ["x"])
    assert [photos[number].image for number in range(len(photos))] == ["scene.png"]
    check_free(photo, 3, folder)
    save_predictions(photo, predictions[:2], folder, model="third")
    assert names(folder) == ["scene_mask_1.png", "scene_mask_2.png", "scene_overlay.png", "scene_prediction.json"]


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_a_photo_whose_name_is_no_text(predictions, photo, tmp_path):
    odd = photo.with_name("photo\udce9.png")
    photo.rename(odd)
    for _ in range(2):
        saved = save_predictions(odd, predictions, tmp_path / "out", model="tiny")
    assert json.loads(saved.json.read_text(encoding="utf-8"))["image"] == "../photo\udce9.png"


def test_a_hostile_json_removes_nothing(predictions, photo, tmp_path):
    out = tmp_path / "out"
    saved = save_predictions(photo, predictions, out, model="tiny")
    victims = [tmp_path / "scene_mask_9.png", out / "holiday.png", out / "scene_notes.txt"]
    for victim in victims:
        victim.write_text("precious")
    content = json.loads(saved.json.read_text())
    content["predictions"] += [{"mask": name} for name in ("../scene_mask_9.png", "holiday.png", "scene_notes.txt")]
    saved.json.write_text(json.dumps(content))
    save_predictions(photo, predictions, out, model="tiny")
    assert all(victim.read_text() == "precious" for victim in victims)


def test_nothing_is_written_for_masks_of_another_photo(predictions, painted, tmp_path):
    Image.fromarray(painted(20, 20)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"\[48, 64\]"):
        save_predictions(tmp_path / "small.png", predictions, tmp_path / "out", model="tiny")
    assert not (tmp_path / "out").exists()


def test_expressions_in_any_language_and_none(predictor, photo, tmp_path):
    with pytest.warns(UserWarning, match="never seen"):
        found = predictor.predict(["\u5de6\u8fb9\u7684 \u201cred\u201d"], image=photo)
    saved = save_predictions(photo, found, tmp_path / "out", model="m", image=predictor.image)
    assert json.loads(saved.json.read_text(encoding="utf-8"))["predictions"][0]["expression"] == found[0].expression
    assert save_predictions(photo, [], tmp_path / "out", model="m").masks == ()
    assert names(tmp_path / "out") == ["scene_overlay.png", "scene_prediction.json"]
