"""``maskris predict``: one photo, a folder of them, or rows of a file."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from PIL import Image

from maskris.cli.predict import _in_order
from maskris.inference.batch_results import BatchResults


def records(folder):
    """The results in the order of the rows."""
    return sorted(lines(folder), key=lambda record: record["row"])


def lines(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


ORDER = '\nThe order is: maskris predict MODEL photo.jpg "PHRASE"\n'


@pytest.fixture
def rows(squares, tmp_path):
    """Two phrases about each of three photos, the photos taking turns."""
    listed = [f"{photo}.png,the {color} square" for color in ("red", "blue") for photo in range(3)]
    (tmp_path / "rows.csv").write_text("\n".join(["image,expression", *listed]))
    return tmp_path / "rows.csv"


def test_one_photo_gives_one_mask_for_each_phrase(run, squares, maskris, tmp_path):
    phrases = ["the red square", "the blue square [bold]"]
    code, out, err = maskris("predict", run, squares / "0.png", *phrases, "--out", tmp_path / "p")
    assert code == 0
    files = {path.name for path in (tmp_path / "p" / "0").iterdir()}
    assert files == {"overlay.png", "mask_1.png", "mask_2.png", "prediction.json"}
    assert all(str(tmp_path / "p" / "0" / name) in out for name in files)
    assert all(phrase in out for phrase in phrases)
    assert err.startswith("warning: The expression 'the blue square [bold]' ")
    content = json.loads((tmp_path / "p" / "0" / "prediction.json").read_text())
    assert [entry["expression"] for entry in content["predictions"]] == phrases
    assert Image.open(tmp_path / "p" / "0" / "mask_2.png").size == (40, 32)


def test_what_is_wrong_with_one_photo(run, squares, maskris, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "is not an image" in maskris("predict", run, squares / "tiny.yaml", "x")[2]
    assert "There is no photo" in maskris("predict", run, "none.jpg", "x")[2]
    assert "Expression 2 is empty" in maskris("predict", run, squares / "0.png", "x", " ")[2]
    assert "Say what to look for: maskris predict" in maskris("predict", run, squares / "0.png")[2]
    for option in ("--masks", "--overlays", "--retry-errors", "--images=x"):
        err = maskris("predict", run, squares / "0.png", "x", option)[2]
        assert f"{option.split('=')[0]} is for a folder of photos or a file of rows, not for a single photo" in err


def test_without_a_model_it_is_the_released_one(squares, maskris, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = maskris("predict", squares / "0.png", "the man on the left", "dog")
    assert code == 0
    assert out.startswith("No model was named, so it is caris-refcoco-combined (`maskris models` lists others)\n")
    assert "caris-refcoco-combined: CARIS, Swin-B, trained on RefCOCO, RefCOCO+ and RefCOCOg\n" in err
    assert "huggingface.co/saliu/CARIS/combined/refcocom.pth (907 MB, license MIT)" in err
    content = json.loads((tmp_path / "predictions" / "0" / "prediction.json").read_text())
    assert content["model"] == "caris-refcoco-combined"
    assert [one["expression"] for one in content["predictions"]] == ["the man on the left", "dog"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, err = maskris("predict", squares / "0.png", "dog", "--out", "again")
    assert code == 0
    assert "huggingface.co" not in err, "it is fetched once"


def test_a_released_model_by_its_place_or_by_the_option(squares, maskris, hub, tmp_path):
    photo = squares / "0.png"
    assert maskris("predict", "caris-refcoco", photo, "dog", "--out", tmp_path / "a")[0] == 0
    assert maskris("predict", photo, "dog", "--model", "caris-refcoco", "--out", tmp_path / "b")[0] == 0
    first, second = (json.loads((tmp_path / one / "0" / "prediction.json").read_text()) for one in "ab")
    assert first["model"] == second["model"] == "caris-refcoco"
    assert first["predictions"] == second["predictions"]
    assert hub.fetched("refcoco.pth") == 1
    code, _, err = maskris("predict", "caris-refcocco", photo, "dog")
    assert (code, err) == (1, "error: There is no folder caris-refcocco; did you mean caris-refcoco?" + ORDER)
    code, _, err = maskris("predict", "the red man", squares / "0.png")
    assert code == 1
    assert err.startswith("error: There is no folder the red man; a model is a folder, a name of `maskris models` or a")
    assert err.endswith(ORDER)


def test_which_word_is_the_model(run, squares, rows, tmp_path, monkeypatch):
    """The first one, unless it is a source and the one after it a phrase."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "dog"):
        (tmp_path / folder).mkdir()
    shutil.copy(squares / "0.png", tmp_path / "photo.png")
    (tmp_path / "weights.pth").touch()
    model, phrases = str(run), ["the man", "dog"]
    for first, second, rest, expected in (
        (model, "photo.png", phrases, (model, "photo.png", phrases)),
        (model, "photos", phrases, (model, "photos", phrases)),
        (model, "rows.csv", [], (model, "rows.csv", [])),
        (model, "dog", [], (model, "dog", [])),
        ("caris-refcoco", "photo.png", phrases, ("caris-refcoco", "photo.png", phrases)),
        ("owner/name", "photo.png", phrases, ("owner/name", "photo.png", phrases)),
        ("weights.pth", "photo.png", phrases, ("weights.pth", "photo.png", phrases)),
        ("photo.png", "the man", ["dog"], (None, "photo.png", phrases)),
        ("photo.png", "dog", [], (None, "photo.png", ["dog"])),  # though there is a folder of this name
        ("photo.png", "a/b//c", ["."], (None, "photo.png", ["a/b//c", "."])),
        ("photo.png", "the sign a.jpg", [], (None, "photo.png", ["the sign a.jpg"])),
        ("photo.png", None, [], (None, "photo.png", [])),
        ("missing.JPG", "the man", [], (None, "missing.JPG", ["the man"])),
        ("photos", "the man", [], (None, "photos", ["the man"])),
        ("rows.csv", None, [], (None, "rows.csv", [])),
    ):
        found = _in_order(first, second, rest)
        assert (found[0], str(found[1]), found[2]) == expected, (first, second)
    for first, second, message in (
        (
            "photo.png",
            "other.png",
            "photo.png is no model, and other.png is no phrase but a file or folder; the order is",
        ),
        (
            "photos",
            "dog",
            "photos holds no model, and dog is no phrase but a file or folder; the order is MODEL SOURCE",
        ),
        ("photos", "photo.png", "photos holds no model, and photo.png is no phrase"),
        ("photos", "missing.png", "photos holds no model, and missing.png is no phrase"),
        (model, None, f'Say where to look: maskris predict {model} photo.jpg "the man on the left"'),
        ("caris-refcoco", None, "Say where to look: maskris predict caris-refcoco photo.jpg"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            _in_order(first, second, [])


def test_what_is_wrong_is_said_before_anything_is_fetched(squares, maskris, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "There is no photo none.jpg" in maskris("predict", "none.jpg", "x")[2]
    assert "Say what to look for: maskris predict" in maskris("predict", squares / "0.png")[2]
    assert "Say what to look for in the photos of" in maskris("predict", squares)[2]
    assert hub.asked == []


def test_results_of_one_photo_are_replaced_and_are_no_photos(run, squares, maskris, monkeypatch, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(squares / "0.png", tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    command = ["predict", run, "a/0.png", "the red square"]
    assert [maskris(*command)[0], maskris(*command)[0]] == [0, 0]
    command[2] = "b/0.png"
    with monkeypatch.context() as patch:
        patch.setattr("maskris.models.loading.load_model", lambda *_: pytest.fail("a model was loaded"))
        code, _, err = maskris(*command)
    assert code == 1
    assert "predictions/0 exists and doesn't come from an earlier prediction for b/0.png" in err
    assert maskris(*command, "--overwrite")[0] == 0
    assert json.loads((tmp_path / "predictions" / "0" / "prediction.json").read_text())["image"] == "../../b/0.png"
    assert maskris("predict", run, ".", "the red square", "--out", "many")[0] == 0
    assert [one["image"] for one in records(tmp_path / "many")] == ["a/0.png", "b/0.png"]
    code, _, err = maskris("predict", run, "a", "the red square", "--out", "a")
    assert code == 1
    assert "a is the folder of the photos and can't be that of the results; choose another one, such as a/pred" in err
    assert os.listdir(tmp_path / "a") == ["0.png"]  # noqa: PTH208
    assert "--overwrite is for a single photo" in maskris("predict", run, "a", "x", "--overwrite")[2]


def test_rows_of_a_file(run, squares, rows, maskris, tmp_path):
    command = ["predict", run, rows, "--images", squares, "--out", tmp_path / "out", "--masks", "--overlays"]
    code, out, err = maskris(*command)
    assert (code, err) == (0, "")
    assert out.startswith("6 of 6 rows done in ")
    found = records(tmp_path / "out")
    assert [(one["row"], one["image"]) for one in found] == [(i, f"{i % 3}.png") for i in range(6)]
    assert Image.open(tmp_path / "out" / found[4]["mask_file"]).size == (40, 32)
    assert Image.open(tmp_path / "out" / found[4]["overlay_file"]).width >= 480
    assert (tmp_path / "out" / "masks" / "0004-1-the_blue_square.png").is_file()
    assert maskris(*command)[1].startswith("0 of 6 rows done after 6 of an earlier call")
    code, _, err = maskris(*command, "--threshold", "0.4")
    assert code == 1
    assert "the threshold: 0.5 there, 0.4 now" in err


def test_photos_of_a_folder_with_each_phrase(run, squares, maskris, tmp_path, monkeypatch):
    for number in (0, 1):
        (tmp_path / "photos" / "deep").mkdir(parents=True, exist_ok=True)
        shutil.copy(squares / f"{number}.png", tmp_path / "photos" / ("deep/1.png" if number else "0.png"))
    monkeypatch.chdir(tmp_path / "photos")  # the results lie among the photos
    for expected in ("4 of 4 rows done in", "0 of 4 rows done after 4 of an earlier call"):
        code, out, _ = maskris("predict", run, ".", "the red square", "the left", "--overlays")
        assert code == 0
        assert expected in out
    found = records(tmp_path / "photos" / "predictions")
    assert [(one["image"], one["expression"]) for one in found] == [
        (photo, phrase) for photo in ("0.png", "deep/1.png") for phrase in ("the red square", "the left")
    ]
    code, _, err = maskris("predict", run, ".")
    assert code == 1
    assert "Say what to look for in the photos of ." in err


def test_failed_rows_are_told_and_can_be_done_again(run, squares, rows, maskris, tmp_path):
    shutil.copy(squares / "0.png", tmp_path)
    shutil.copy(squares / "1.png", tmp_path)
    command = ["predict", run, rows, "--out", tmp_path / "out"]
    code, out, _ = maskris(*command)
    assert code == 1
    assert "2 of them failed" in out
    assert f"{rows}, line 4: There is no photo {tmp_path / '2.png'}" in out
    shutil.copy(squares / "2.png", tmp_path)
    assert maskris(*command)[0] == 1
    code, out, _ = maskris(*command, "--retry-errors")
    assert (code, out.split(" in ")[0]) == (0, "2 of 6 rows done after 4 of an earlier call")
    assert not any("error" in one for one in records(tmp_path / "out"))


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_names_of_files_that_are_no_text_are_told(run, squares, maskris, tmp_path):
    (tmp_path / "photo\udce9.png").write_text("no photo")
    code, out, err = maskris("predict", run, tmp_path, "the red square", "--out", tmp_path / "out")
    assert (code, err) == (1, "")
    assert f"row 0 (photo\\udce9.png, 'the red square'): {tmp_path}/photo\\udce9.png is not an image" in out


def test_a_signal_ends_it_in_good_order(run, squares, rows, maskris, tmp_path, monkeypatch):
    command = ["predict", run, rows, "--images", squares, "--out"]
    assert maskris(*command, tmp_path / "whole")[0] == 0
    append = BatchResults.append

    def stop(self, records):
        append(self, records)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(BatchResults, "append", stop)
        code, out, _ = maskris(*command, tmp_path / "out")
    assert code == 128 + signal.SIGTERM
    assert "2 of 6 rows done" in out
    assert "Stopped by signal 15; the same command goes on from there" in out
    assert [one["row"] for one in lines(tmp_path / "out")] == [0, 3]
    assert maskris(*command, tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == (tmp_path / "whole" / "results.jsonl").read_bytes()


def test_a_killed_run_goes_on_with_the_same_command(run, squares, rows, maskris, tmp_path):
    command = ["predict", str(run), str(rows), "--images", str(squares), "--out"]
    code = f"""
import os, signal, torch
from maskris.cli.main import main
from maskris.cli.predict import _in_order
from maskris.inference.batch_results import BatchResults
torch.set_num_threads(1)
append = BatchResults.append
def kill(self, records):
    append(self, records[:1])
    with self.file.open("ab") as output:
        output.write(b'{{"row": 3, "im')
    os.kill(os.getpid(), signal.SIGKILL)
BatchResults.append = kill
main({[*command, str(tmp_path / "out")]!r})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "out" / "results.jsonl").read_bytes().endswith(b'\n{"row": 3, "im')
    assert maskris(*command, tmp_path / "whole")[0] == 0
    code, out, _ = maskris(*command, tmp_path / "out")
    assert (code, out.split(" in ")[0]) == (0, "5 of 6 rows done after 1 of an earlier call")
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == (tmp_path / "whole" / "results.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows; each one needs an image and an expression"),
        ("image;expression\na.png;x", "line 1: the columns are separated by semicolons; save the file with commas"),
        ("photo,expression\na.png,x", "line 1: no column 'image' among 'photo', 'expression'"),
    ],
)
def test_unusable_files_are_explained_before_a_model_is_loaded(maskris, tmp_path, text, message, monkeypatch):
    monkeypatch.setattr("maskris.models.loading.load_model", lambda *_: pytest.fail("a model was loaded"))
    (tmp_path / "rows.csv").write_text(text)
    code, _, err = maskris("predict", "owner/name", tmp_path / "rows.csv", "--out", tmp_path / "out")
    assert code == 1
    assert message in err
    assert not (tmp_path / "out").exists()
    err = maskris("predict", "owner/name", tmp_path / "rows.csv", "the man")[2]
    assert "The phrases stand in" in err


@pytest.mark.parametrize("square", [False, True])
def test_photos_that_a_camera_stored_turned(run, squares, maskris, tmp_path, square):
    """Their overlays are those of the upright photo, alone and in a folder."""
    upright, exif = Image.open(squares / "0.png"), Image.Exif()
    if square:  # where a photo that is turned twice has the right size
        upright = upright.crop((0, 0, 32, 32))
    exif[0x0112] = 6
    for name, photo, more in (
        ("upright", upright, {}),
        ("turned", upright.transpose(Image.Transpose.ROTATE_90), {"exif": exif}),
    ):
        (tmp_path / name).mkdir()
        photo.save(tmp_path / name / "a.png", **more)
        command = ["the red square", "--out"]
        assert maskris("predict", run, tmp_path / name / "a.png", *command, tmp_path / name / "one")[0] == 0
        assert maskris("predict", run, tmp_path / name, *command, tmp_path / name / "all", "--overlays")[0] == 0
    for drawn in ("one/a/overlay.png", f"all/{records(tmp_path / 'upright' / 'all')[0]['overlay_file']}"):
        turned, expected = (Image.open(tmp_path / name / drawn) for name in ("turned", "upright"))
        assert turned.size == expected.size
        assert turned.tobytes() == expected.tobytes()
