import json
import threading
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from colors import ColorWords
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco

from maskris.demo.checks import Limits, RefusedError
from maskris.demo.service import STEPS, PredictionService, ThresholdedMask, at_page_size, public_name
from maskris.inference.predictor import Prediction, Predictor
from maskris.inference.visualize import PALETTE


@pytest.fixture
def predictor():
    return Predictor(ColorWords(), name="mine")


@pytest.fixture
def service(predictor):
    return PredictionService(predictor)


@pytest.fixture
def photo(tmp_path):
    """48 x 80: red at the left, bright above and dull below; blue at the right."""
    pixels = np.zeros((48, 80, 3), dtype=np.uint8)
    pixels[8:24, 8:32, 0] = 255
    pixels[24:40, 8:32, 0] = 150
    pixels[8:40, 48:72, 2] = 255
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


@settings(max_examples=30)
@given(arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32)), st.integers(0, STEPS - 1))
def test_every_threshold_gives_what_the_probabilities_would(probability, step):
    threshold = step / STEPS
    exact = Prediction("x", probability > 0.5, probability, None, 0.0)
    cut = ThresholdedMask.of(exact, ()).at(threshold)
    mask = probability > threshold
    assert np.array_equal(cut.mask, mask)
    assert cut.threshold == threshold
    assert cut.score == pytest.approx(probability[mask].mean(dtype=np.float64) if mask.any() else 0.0)
    assert (cut.box is None) == (not mask.any())


@pytest.mark.parametrize("threshold", [0.0, 0.07, 0.29, 0.5, 0.57, 0.9, 0.99])
def test_answers_are_those_of_predict(service, predictor, photo, threshold):
    words = ["the red square", "blue and red", "green"]
    expected = predictor.predict(words, image=photo, threshold=threshold)
    response = service.respond(service.request(photo, "scene.png", "\n".join(words)))
    for ours, theirs in zip(response.predictions(threshold), expected, strict=True):
        assert np.array_equal(ours.mask, theirs.mask)
        assert (ours.expression, ours.box, ours.threshold) == (theirs.expression, theirs.box, theirs.threshold)
        assert ours.score == pytest.approx(theirs.score)
        assert ours.rle() == theirs.rle()


@pytest.mark.parametrize(("threshold", "step"), [(0.29, 29), (0.295, 30), (-1, 0), (5, 99)])
def test_thresholds_are_rounded_to_hundredths(threshold, step):
    prediction = Prediction("x", np.ones((1, 1), bool), np.ones((1, 1), np.float32), None, 1.0)
    assert ThresholdedMask.of(prediction, ()).at(threshold).threshold == step / STEPS


def test_the_network_runs_once_for_a_photo_and_never_for_a_threshold(service, predictor, photo):
    model = predictor.model
    first = service.request(photo, "scene.png", "red")
    for threshold in (0.2, 0.5, 0.9):
        service.respond(first).predictions(threshold)
    assert (model.encoded, model.asked) == (1, 1)
    service.respond(service.request(photo, "another name.png", "blue"))  # other words, the same photo
    assert (model.encoded, model.asked) == (1, 2)
    service.respond(service.request(photo, "scene.png", " red \n"))  # asked before
    assert (model.encoded, model.asked) == (1, 2)


def test_what_was_let_go_is_computed_again(predictor, photo, tmp_path):
    service = PredictionService(predictor, photos=1, responses=1)
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "other.png")
    first, second = (service.request(path, "x.png", "red") for path in (photo, tmp_path / "other.png"))
    before = service.respond(first).predictions(0.5)[0]
    service.respond(second)
    after = service.respond(first).predictions(0.5)[0]
    assert predictor.model.encoded == 3
    assert np.array_equal(before.mask, after.mask)


def test_visitors_at_the_same_time_get_their_own_answers(service, predictor, tmp_path):
    requests = []
    for i in range(12):
        pixels = np.zeros((64, 64, 3), dtype=np.uint8)
        pixels[5 * i : 5 * i + 5, :, i % 3] = 255
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        requests.append(service.request(tmp_path / f"{i}.png", "x.png", ("red", "green", "blue")[i % 3]))
    answers = {}

    def visit(i):
        for threshold in (0.5, 0.9):
            answers[i] = service.respond(requests[i]).predictions(threshold)[0]

    visitors = [threading.Thread(target=visit, args=(i % 12,)) for i in range(36)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert predictor.model.encoded <= 24  # eight photos are kept
    for i in range(12):
        assert answers[i].box == (0.0, 5.0 * i, 64.0, 5.0)


def test_predictions_of_several_visitors_leave_the_given_predictor_alone(service, predictor, photo):
    service.respond(service.request(photo, "scene.png", "red"))
    assert predictor.image is None


def test_words_that_the_model_has_never_seen_are_named(service, photo):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the page tells it, not the log
        response = service.respond(
            service.request(photo, "a.png", "the purple square\nred\nred red red red red red red red red")
        )
    assert [mask.unknown for mask in response.masks] == [("purple",), (), ()]
    assert [mask.truncated for mask in response.masks] == [False, False, True]


def test_the_picture_has_each_mask_in_its_color(service, photo):
    response = service.respond(service.request(photo, "a.png", "red\nblue"))
    picture = np.asarray(response.picture(response.predictions(0.5))).astype(int)
    assert picture.shape == (288, 480, 3)  # six times as large
    shown = np.asarray(response.shown).astype(int)
    for (row, column), color in (((16, 20), PALETTE[0]), ((16, 60), PALETTE[1])):
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        blend = (shown[6 * row, 6 * column] + rgb) / 2
        assert np.abs(picture[6 * row, 6 * column] - blend).max() <= 1
    assert np.array_equal(picture[:40], shown[:40])


@pytest.mark.parametrize(
    ("size", "shown"),
    [((64, 64), (512, 512)), ((480, 10), (480, 10)), ((4000, 1000), (1280, 320)), ((5000, 1), (1280, 1))],
)
def test_the_size_on_the_page(size, shown):
    assert at_page_size(Image.new("RGB", size)).size == shown


def test_masks_of_large_photos_are_shown_where_they_are(service, tmp_path):
    pixels = np.zeros((1000, 2560, 3), dtype=np.uint8)
    pixels[400:600, 1000:1500, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "large.png")
    response = service.respond(service.request(tmp_path / "large.png", "large.png", "red"))
    predictions = response.predictions(0.5)
    changed = (np.asarray(response.picture(predictions)) != np.asarray(response.shown)).any(2)
    ys, xs = np.nonzero(changed)
    x, y, width, height = predictions[0].box
    assert np.allclose(
        [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.array([x, y, x + width, y + height]) / 2, atol=1
    )


def test_downloads_are_what_predict_writes(service, predictor, photo, tmp_path):
    request = service.request(photo, "<b>my scene</b>.png", "red\nblue")
    out = tmp_path / "out"
    out.mkdir()
    file = service.download(request, 0.9, "json", out)
    archive = service.download(request, 0.9, "zip", out)
    assert {file, archive} == set(out.iterdir())
    content = json.loads(file.read_text(encoding="utf-8"))
    assert (content["height"], content["width"], content["model"]) == (48, 80, "mine")
    expected = predictor.predict(["red", "blue"], image=photo, threshold=0.9)
    folder = archive.stem.removesuffix("_masks")
    with zipfile.ZipFile(archive) as files:
        names = {name for name in files.namelist() if not name.endswith("/")}
        assert names == {f"{folder}/{name}" for name in ("prediction.json", "overlay.png", "mask_1.png", "mask_2.png")}
        assert json.loads(files.read(f"{folder}/prediction.json")) == content
        for entry, prediction in zip(content["predictions"], expected, strict=True):
            assert np.array_equal(coco.decode(entry["segmentation"]), prediction.mask)
            assert entry["threshold"] == 0.9
            assert entry["score"] == pytest.approx(prediction.score)
            assert entry["box"] == list(prediction.box)
            with files.open(f"{folder}/{entry['mask_file']}") as mask:
                assert np.array_equal(np.asarray(Image.open(mask)), prediction.mask * np.uint8(255))


@pytest.mark.parametrize("there", [True, False])
def test_downloads_do_not_tell_where_the_model_lies(predictor, photo, tmp_path, there):
    predictor.name = str(tmp_path / "runs" / "mine")
    if there:
        (tmp_path / "runs" / "mine").mkdir(parents=True)
    service = PredictionService(predictor)
    file = service.download(service.request(photo, "a.png", "red"), 0.5, "json", tmp_path)
    assert json.loads(file.read_text(encoding="utf-8"))["model"] == "runs/mine"


def test_public_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "latest").symlink_to("mine")
    for name, public in (
        ("someone/caris-refcoco", "someone/caris-refcoco"),
        ("CARIS", "CARIS"),
        ("mine", f"{tmp_path.name}/mine"),
        ("latest", f"{tmp_path.name}/mine"),
        ("../../gone/runs/mine", "runs/mine"),
        ("/gone", "gone"),
    ):
        assert public_name(name) == public


def test_a_photo_that_is_gone_is_told(service, photo, tmp_path):
    request = service.request(photo, "a.png", "red")
    photo.unlink()
    for act in (
        lambda: service.respond(request),
        lambda: service.request(photo, "a.png", "red"),
        lambda: service.download(request, 0.5, "zip", tmp_path),
    ):
        with pytest.raises(RefusedError, match="no longer here"):
            act()


def test_limits_hold_whoever_asks(predictor, photo):
    service = PredictionService(predictor, Limits(pixels=100))
    with pytest.raises(RefusedError, match="at most 100 can be taken"):
        service.respond(service.request(photo, "a.png", "red"))
    assert replace(Limits(), pixels=100) == service.limits


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photos_that_a_camera_stored_turned(service, photo, tmp_path, orientation):
    """They are answered, shown and downloaded like the upright photo."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    Image.open(photo).transpose(turn).save(tmp_path / "turned.png", exif=exif)
    expected, turned = (service.request(path, "a.png", "red\nblue") for path in (photo, tmp_path / "turned.png"))
    pictures = [
        service.respond(request).picture(service.respond(request).predictions(0.5)) for request in (expected, turned)
    ]
    assert pictures[1].size == pictures[0].size
    assert pictures[1].tobytes() == pictures[0].tobytes()
    contents = []
    for request in (expected, turned):
        (folder := tmp_path / request.path.stem).mkdir()
        with zipfile.ZipFile(service.download(request, 0.5, "zip", folder)) as files:
            contents.append({name: files.read(name) for name in files.namelist()})
    said = [json.loads(content.pop("a/prediction.json")) for content in contents]
    assert [one.pop("orientation") for one in said] == [1, orientation]
    assert said[1] == said[0]
    assert contents[1] == contents[0]
