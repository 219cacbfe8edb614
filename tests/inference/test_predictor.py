"""The right pixels at the photo's size, and each photo encoded once."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from maskris.data.masks import encode, from_segmentation
from maskris.data.table import ReferringTable
from maskris.evaluation.evaluator import evaluate
from maskris.evaluation.protocol import Protocol
from maskris.inference.predictor import Prediction, Predictor

sizes = st.integers(1, 90)


def test_a_photo_of_the_input_size_gives_the_exact_mask(predictor, painted):
    pixels = painted(24, 32, red=(3, 5, 11, 20), blue=(12, 0, 24, 32))
    predictor.set_image(pixels)
    red = predictor.predict("the red one")
    assert red.mask.dtype == bool
    assert red.probability.dtype == np.float32
    assert np.array_equal(red.mask, pixels[..., 0] > 0)
    assert red.box == (5.0, 3.0, 15.0, 8.0)
    inside, outside = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4))  # logit 8 (1 - 0.5) and 8 (0 - 0.5)
    np.testing.assert_allclose(red.probability, np.where(pixels[..., 0] > 0, inside, outside), atol=1e-3)
    assert red.score == pytest.approx(inside, abs=1e-3)
    assert red.expression == "the red one"
    assert not red.truncated


def test_nothing_found(predictor, painted):
    prediction = predictor.predict("green", image=painted(10, 10, red=(0, 0, 5, 5)))
    assert not prediction.mask.any()
    assert prediction.box is None
    assert prediction.score == 0.0
    assert json.loads(json.dumps(prediction.to_dict()))["box"] is None


@given(st.sampled_from(["stretch", "letterbox"]), st.sampled_from([1, 2]), sizes, sizes, st.data())
def test_masks_have_the_photos_size_and_lie_at_the_right_pixels(
    color_model, painted, resize, channels, height, width, data
):
    column = data.draw(st.integers(0, width))
    row = data.draw(st.integers(0, height))
    model = color_model((30, 40), channels, resize)
    photo = painted(height, width, red=(0, 0, height, column), blue=(row, 0, height, width))
    predictor = Predictor(model).set_image(photo)
    left, below = predictor.predict(["the red thing", "the blue thing"])
    assert left.mask.shape == left.probability.shape == below.mask.shape == (height, width)
    scale = min(30 / height, 40 / width)
    h, w = (30, 40) if resize == "stretch" else (height * scale, width * scale)
    # A letterbox fades into what surrounds it, over a pixel of the coarser grid.
    edge = 0 if resize == "stretch" else math.ceil(max(1, 1 / scale)) + 1
    # Resizing there and back may blur an edge by a pixel or two of the coarser grid; beyond that nothing may move.
    slack = math.ceil(2 * max(1, width / w)) + 1
    assert left.mask[edge : height - edge, edge : max(0, column - slack)].all()
    assert not left.mask[:, column + slack :].any()
    slack = math.ceil(2 * max(1, height / h)) + 1
    assert below.mask[row + slack : height - edge, edge : max(0, width - edge)].all()
    assert not below.mask[: max(0, row - slack)].any()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_run_lengths_decode_to_the_mask(height, width, seed):
    rng = np.random.default_rng(seed)
    probability = rng.random((height, width), dtype=np.float32)
    prediction = Prediction("x", probability > 0.5, probability, None, 0.5)
    rle = json.loads(json.dumps(prediction.to_dict()))["segmentation"]
    assert rle["size"] == [height, width]
    assert isinstance(rle["counts"], str)
    assert np.array_equal(coco.decode(rle) != 0, prediction.mask)
    assert from_segmentation(rle, height, width) == prediction.rle()["counts"].encode()
    assert prediction.to_dict()["area"] == int((probability > 0.5).sum())


def test_a_photo_is_encoded_once(predictor, model, photo):
    predictor.set_image(photo)
    assert model.encoded == 1
    for expression in ("red", ["red", "blue"], "the green one"):
        predictor.predict(expression)
    assert model.encoded == 1
    predictor.predict("red", image=photo)
    assert model.encoded == 2
    predictor.predict("blue")
    assert model.encoded == 2, "the photo given to predict stays set"


def test_a_list_equals_single_expressions_in_portions_of_any_size(model, photo):
    expressions = ["red", "the blue thing left of the one", "green", "the red one", "blue"]
    together = Predictor(model, batch_size=2).predict(expressions, image=photo)
    assert model.portions == [2, 2, 1]
    single = Predictor(model).set_image(photo)
    for expression, prediction in zip(expressions, together, strict=True):
        alone = single.predict(expression)
        assert prediction.expression == expression
        np.testing.assert_allclose(prediction.probability, alone.probability, atol=1e-6, rtol=0)
        assert np.array_equal(prediction.mask, alone.mask)
        assert prediction.box == alone.box
    assert single.predict([]) == []


def test_results_can_be_taken_one_by_one(predictor, model, photo):
    stream = predictor.stream(["red", "blue"], photo)
    assert model.encoded == 1
    assert model.portions == []
    predictor.set_image(np.zeros((5, 5, 3), np.uint8))  # the stream keeps its own photo
    assert [prediction.mask.shape for prediction in stream] == [(48, 64)] * 2
    with pytest.raises(ValueError, match="empty"):
        predictor.stream([""])  # at the call, not when results are taken


def test_the_orientation_of_a_photo_is_respected(predictor, painted, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rows run from the right to the left of the scene
    Image.fromarray(painted(20, 40, red=(0, 0, 20, 10))).save(tmp_path / "a.png", exif=exif)
    mask = predictor.predict("red", image=tmp_path / "a.png").mask
    assert mask.shape == (40, 20)
    assert mask[:9].all()
    assert not mask[11:].any()


def test_the_threshold_is_strict_and_recorded(predictor, painted):
    pixels = painted(24, 32, red=(0, 0, 24, 16))
    pixels[:, 16:, 0] = 102  # brightness 0.4: logit -0.8, probability 0.31
    predictor.set_image(pixels)
    assert predictor.predict("red").mask.sum() == 24 * 16
    low = predictor.predict("red", threshold=0.3)
    assert low.mask.all()
    assert low.threshold == low.to_dict()["threshold"] == 0.3
    assert low.score == pytest.approx((1 / (1 + math.exp(-4)) + 1 / (1 + math.exp(0.8))) / 2, abs=1e-3)
    level = float(predictor.predict("red").probability[0, 31])
    assert not predictor.predict("red", threshold=level).mask[0, 31]
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="threshold"):
            predictor.predict("red", threshold=wrong)


def test_every_module_returns_to_its_mode_and_no_graph_is_kept(predictor, model, photo):
    model.train()
    trained = predictor.predict("red", image=photo)
    assert model.training
    assert model.dropout.training
    model.eval()
    again = predictor.predict("red", image=photo)
    assert not model.dropout.training
    assert np.array_equal(trained.probability, again.probability), "dropout was off"
    assert not predictor._features["pixels"].requires_grad


def test_masks_are_those_that_evaluation_counts(color_model, painted, tmp_path):
    pixels = painted(51, 77, red=(10, 13, 40, 60), blue=(0, 40, 33, 77))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    truth = pixels[..., 0] > 0
    row = {
        "dataset": "toy", "split_by": "", "split": "val", "image_id": 1, "ref_id": 1, "ann_ids": [1], "ann_id": 1,
        "category": "shape", "image": "a.png", "height": 51, "width": 77, "expressions": ["red", "the blue one"],
        "kinds": ["", ""], "mask": encode(truth), "mask_source": "annotated", "mask_origin": "",
        "box": [13.0, 10.0, 47.0, 30.0], "area": int(truth.sum()), "source": "toy.json", "source_sha256": "0" * 64,
    }  # fmt: skip
    for resize in ("stretch", "letterbox"):
        model = color_model((24, 32), resize=resize)
        table = ReferringTable.from_rows([row], tmp_path)
        rows = evaluate(model, table, Protocol(resolution="original"), progress=False).rows
        predictions = Predictor(model).predict(["red", "the blue one"], image=tmp_path / "a.png")
        assert rows["prediction_pixels"].to_pylist() == [int(p.mask.sum()) for p in predictions]
        assert rows["intersection"].to_pylist() == [int((p.mask & truth).sum()) for p in predictions]
        np.testing.assert_allclose(rows["score"].to_numpy(), [p.score for p in predictions], atol=1e-5)


def test_questions_that_cannot_be_answered(predictor, model, photo):
    with pytest.raises(RuntimeError, match=r"set_image\(photo\) first"):
        predictor.predict("red")
    predictor.set_image(photo)
    for empty in ("", "  \n"):
        with pytest.raises(ValueError, match="Expression 1 is empty"):
            predictor.predict(empty)
    with pytest.raises(ValueError, match="Expression 2 is empty"):
        predictor.predict(["red", ""], image=photo)
    with pytest.raises(ValueError, match=r"Expression 2 holds a lone surrogate \(\\ud83d in 'the \\ud83d'\)"):
        predictor.predict(["red", "the \ud83d"])
    with pytest.raises(TypeError, match="Expression 2 is a int"):
        predictor.predict(["red", 3])
    assert model.encoded == 1, "checked before the costly part"
    with pytest.raises(FileNotFoundError):
        predictor.set_image(photo.with_name("absent.png"))
    with pytest.raises(RuntimeError, match="No image is set"):
        predictor.predict("red")  # not silently the previous photo


def test_settings_are_checked(model):
    with pytest.raises(ValueError, match="precision must be fp32, bf16, fp16"):
        Predictor(model, precision="half")
    with pytest.raises(ValueError, match="batch_size"):
        Predictor(model, batch_size=0)


def test_lost_and_unknown_words_are_said_once(predictor, photo):
    predictor.set_image(photo)
    long = "the red thing left of the blue one left of the green one"
    with pytest.warns(UserWarning, match="longer than the 10 tokens") as caught:
        prediction = predictor.predict(long)
    assert caught[0].filename == __file__
    assert prediction.truncated
    with pytest.warns(UserWarning, match="'a red zebra' has words"):
        predictor.predict(["red", "a red zebra"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [p.truncated for p in predictor.predict([long, "a red zebra"])] == [True, False]


def test_other_precisions_give_float32_probabilities(model, photo):
    exact = Predictor(model).predict("red", image=photo)
    rough = Predictor(model, "cpu", "bf16").predict("red", image=photo)
    assert rough.probability.dtype == np.float32
    np.testing.assert_allclose(rough.probability, exact.probability, atol=0.02)


def test_saved_models_are_found(model, monkeypatch, photo):
    asked = []
    monkeypatch.setattr("maskris.inference.predictor.load_model", lambda *given: asked.append(given) or model)
    predictor = Predictor.from_pretrained("runs/shapes", "cpu", model_class=type(model))
    assert asked == [("runs/shapes", type(model))]
    assert predictor.name == "runs/shapes"
    assert Predictor(model).name == "ColorModel"
    assert predictor.device == torch.device("cpu")
    assert predictor.predict("red", image=photo).box is not None


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model"):
        Predictor.from_pretrained(tmp_path)
