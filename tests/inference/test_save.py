"""The files of a prediction say what was predicted, and no other file suffers."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

import maskris
from maskris.inference.image import load_image
from maskris.inference.save import save_predictions


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
