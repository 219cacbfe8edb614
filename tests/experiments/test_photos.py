"""The recipe for photos, end to end on real ones: prepare, fine-tune, save, load, evaluate, predict."""

import json

import numpy as np
import pytest
import torch
from packaged_encoders import require_photos
from tiny import single_thread

from maskris.data.prepare import prepare_dataset
from maskris.data.table import ReferringTable
from maskris.evaluation.evaluator import evaluate
from maskris.experiments.recipe import Recipe
from maskris.experiments.run import train
from maskris.inference.predictor import Predictor
from maskris.models.loading import load_model

PHOTOS = 6
OVERRIDES = [  # smaller and shorter, on photos that are seen again and again
    "--model.preprocess.height=128",
    "--model.preprocess.width=128",
    "--training.steps=60",
    "--training.warmup_steps=5",
    "--training.batch_size=3",
    "--training.referents_per_image=2",
    "--training.log_every=10",
]


@pytest.fixture
def few(shared, tmp_path):
    """Some photos of COCO and what is said about them."""
    require_photos()
    file = tmp_path / "refcoco.parquet"
    prepare_dataset(shared / "data" / "refcoco_mini", file, dataset="refcoco", check_images=False, progress=False)
    table = ReferringTable.open(file).split("train")
    return table.take(np.concatenate(table.by_image()[:PHOTOS]))


@pytest.fixture
def one_thread():
    with single_thread():
        yield


def test_a_few_photos_are_learned(few, tmp_path, one_thread):
    torch.manual_seed(0)
    untrained, _ = Recipe("photos-supervised", OVERRIDES).instantiate()
    before = evaluate(untrained, few, progress=False).metrics["mIoU"]
    train("photos-supervised", few, tmp_path / "run", overrides=OVERRIDES, progress=False)
    model = load_model(tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "train"]
    found = evaluate(model, few, "original", progress=False)
    assert losses[-1] < 0.6 * losses[0]
    assert found.metrics["mIoU"] > before + 0.25

    predictor, rows, at = Predictor(model), found.rows.to_pylist(), 0
    for i in range(len(few)):
        for prediction in predictor.predict(list(few.expressions(i)), image=few.image_path(i)):
            row, truth = rows[at], few.mask(i).astype(bool)
            assert row["expression"] == prediction.expression
            # Another number of expressions at once rounds otherwise, which now and then turns a pixel.
            assert row["intersection"] == pytest.approx((prediction.mask & truth).sum(), abs=4)
            assert row["union"] == pytest.approx((prediction.mask | truth).sum(), abs=4)
            at += 1
    assert at == len(rows)
