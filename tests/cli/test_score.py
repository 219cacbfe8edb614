"""``maskris score``: from prepared data to predictions to the tables of an evaluation."""

import json

import numpy as np
import pytest
import torch

from maskris.data.table import open_tables
from maskris.evaluation.result import Evaluation
from maskris.models.loading import load_model


@pytest.fixture(scope="module")
def predicted(run, table, tmp_path_factory):
    """Masks of two models for all but the training split, and what `maskris evaluate` says of the models."""
    from maskris.cli.main import main

    folder = tmp_path_factory.mktemp("predicted")
    for seed, name in enumerate(("first", "second")):
        model = load_model(run)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():  # six steps of training find nothing yet
                parameter += 0.5 * parameter.std().nan_to_num() * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(folder / f"model-{name}")
        words = [str(folder / f"model-{name}"), "--device", "cpu"]
        assert main(["predict", *words, str(table), "--out", str(folder / name)]) == 0
        words += ["--protocol", "original", "--out", str(folder / f"{name}.parquet"), "--workers", "0"]
        assert main(["evaluate", *words, "--data", str(table)]) == 0
    return folder


def test_the_numbers_are_those_of_evaluate(maskris, predicted, table, tmp_path):
    out = tmp_path / "rows.parquet"
    words = ["score", predicted / "first", table, "--out", out, "--intervals", "--resamples", 50]
    code, text, err = maskris(*words, "--against", predicted / "second")
    assert code == 0, err
    assert "model first; masks from RLE (8)" in text
    assert "By length" in text
    assert "95 % bootstrap intervals over images" in text
    assert "first and second" in text
    assert f"One row per expression: {out}" in text
    ours, theirs = Evaluation.load(out), Evaluation.load(predicted / "first.parquet")
    assert 0 < ours.metrics["mIoU"] < 1
    assert ours.metrics == theirs.metrics
    assert ours.rows.drop_columns("score").equals(theirs.rows.drop_columns("score"))
    # Rows of an evaluation can stand on the other side, and those of its own model don't differ from it.
    code, text, err = maskris(*words, "--against", predicted / "first.parquet")
    assert code == 0, err
    shown = text[text.index("first and ") :]
    differences = [line.split()[-3:] for line in shown.splitlines() if "0.00" in line]
    assert differences == [["0.00"] * 3] * 16  # eight metrics of two splits


def test_rows_of_predictions_are_reported(maskris, predicted, table, tmp_path):
    for name in ("first", "second"):
        assert maskris("score", predicted / name, table, "--out", tmp_path / f"{name}.parquet")[0] == 0
    both = [tmp_path / "first.parquet", tmp_path / "second.parquet"]
    words = ["report", *both, "--out", tmp_path / "r.html", "--resamples", 50]
    code, _, err = maskris(*words)
    assert code == 0, err
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<title>first and second</title>" in page
    code, text, err = maskris(*words, "--data", table, "--names", "a", "b")
    assert code == 0, err
    assert "No pictures: rows have no masks" in text


def test_predictions_are_training_data(maskris, predicted, table, tmp_path):
    file = predicted / "first" / "results.jsonl"
    words = ["--images", table.parent, "--out", tmp_path / "pseudo.parquet", "--skip-invalid"]
    assert maskris("prepare", file, *words)[0] == 0
    pseudo = open_tables([tmp_path / "pseudo.parquet"])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    found = [line for line in lines if line["area"]]
    assert [(one.expressions[0], one.area) for one in pseudo] == [(one["expression"], one["area"]) for one in found]
    assert set(pseudo.column("mask_source")) == {"pseudo"}
    digest = json.loads((predicted / "first" / "batch.json").read_text())["model_sha256"][:12]
    assert set(pseudo.column("mask_origin")) == {f"model-first {digest}; threshold:0.5"}


def test_what_is_wrong_is_said(maskris, predicted, table, tmp_path):
    lines = (predicted / "first" / "results.jsonl").read_text().splitlines()
    (tmp_path / "some.jsonl").write_text("\n".join(lines[1:]))
    code, _, err = maskris("score", tmp_path / "some.jsonl", table)
    assert code == 1
    assert "1 problem(s): 1 x missing row" in err
    assert "--missing miss counts missing rows as misses" in err
    code, text, _ = maskris("score", tmp_path / "some.jsonl", table, "--missing", "miss")
    assert code == 0
    assert "1 expressions without a prediction count as misses" in " ".join(text.split())
    assert maskris("score", predicted / "first", table, "--splits", "val")[0] == 0
    assert "predicted at a probability" not in text
    err = maskris("score", predicted / "first", table, "--protocol", "maskris")[2]
    assert "--input-size 448" in err
    err = maskris("score", predicted / "first", table, "--out", tmp_path)[2]
    assert "is a folder; name a file" in err
    text = maskris("score", predicted / "first", table, "--protocol", "cris")[1]
    assert "the masks were cut at a probability of 0.5, not at 0.35" in " ".join(text.split())


def test_masks_of_zero_and_255_are_said(maskris, table, tmp_path):
    from PIL import Image

    rows = open_tables([table]).split("val")
    for i, one in enumerate(rows):
        Image.fromarray(rows.mask(i).astype(np.uint8) * 255).save(tmp_path / f"{one.ref_id}_0.png")
    code, text, err = maskris("score", tmp_path, table, "--splits", "val", "--name", "theirs")
    assert code == 0, err
    assert "model theirs; masks from pixels of 0 and 255 (4)" in " ".join(text.split())
    assert "100.00" in text
