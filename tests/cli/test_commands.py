import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from golden import reference
from safetensors.torch import load_file

from maskris.data.table import ReferringTable
from maskris.evaluation.bootstrap import bootstrap_intervals
from maskris.evaluation.result import Evaluation
from maskris.models.loading import load_model
from maskris.training.logging import Tracker


def weights(folder):
    return load_file(folder / "last" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# prepare


def test_prepare_shows_the_counts(maskris, squares, tmp_path):
    code, out, _ = maskris("prepare", squares / "squares.jsonl", "--out", tmp_path / "t.parquet")
    assert code == 0
    assert [line.split() for line in out.splitlines() if line.startswith((" train", " val", " test"))] == [
        ["train", "6", "12", "12"],
        ["val", "2", "4", "4"],
        ["testA", "2", "4", "4"],
    ]
    assert len(ReferringTable.open(tmp_path / "t.parquet")) == 20


def test_prepare_refuses_or_sets_aside(maskris, squares, tmp_path):
    for image in squares.glob("*.png"):
        shutil.copy(image, tmp_path)
    lines = (squares / "squares.jsonl").read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {"image": "nothing.png"})
    lines[5] = json.dumps(json.loads(lines[5]) | {"split": "trian"})
    (tmp_path / "bad.jsonl").write_text("\n".join(lines))
    command = ["prepare", tmp_path / "bad.jsonl", "--out", tmp_path / "t.parquet"]
    code, out, err = maskris(*command)
    assert (code, out) == (1, "")
    assert "nothing.png" in err
    assert "trian" in err
    assert "--skip-invalid" in err
    assert not (tmp_path / "t.parquet").exists()
    code, out, _ = maskris(*command, "--skip-invalid")
    assert code == 0
    assert "2 row(s) left out" in out
    assert len(ReferringTable.open(tmp_path / "t.parquet")) == 18
    assert len((tmp_path / "t.parquet.rejects.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "splits"),
    [
        (["--dataset", "refcoco", "--split-by", "unc"], {"train", "val", "testA", "testB"}),
        (["--dataset", "refcocog", "--split-by", "google"], {"train", "val"}),
        (["--dataset", "grefcoco"], {"val"}),
    ],
)
def test_prepare_reads_folders_of_real_photos(maskris, shared, tmp_path, options, splits):
    code, out, _ = maskris(
        "prepare", shared / "data/refcoco_mini", *options, "--out", tmp_path / "t.parquet", "--no-check-images"
    )
    assert code == 0
    assert max(map(len, out.replace(str(tmp_path), "").splitlines())) <= 80
    assert set(ReferringTable.open(tmp_path / "t.parquet").splits) == splits


# train


def test_train_leaves_a_run_that_tells_what_it_was(run, recipe, table, maskris):
    assert {path.name for path in run.iterdir()} == {".lock", "last", "best", "metrics.jsonl", "recipe.yaml"}
    resolved = yaml.safe_load((run / "recipe.yaml").read_text())
    assert resolved["training"]["steps"] == 6
    assert resolved["training"]["power"] == 0.9
    assert resolved["model"]["init_args"]["vision"]["embed_dim"] == 8
    events = [json.loads(line)["event"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert events == ["train", "train", "train", "evaluate"]
    code, out, _ = maskris("train", run / "recipe.yaml", "--data", table, "--out", run)  # it is complete
    assert code == 0
    assert "Done: step 6" in out
    assert f"Next: maskris evaluate {run} --data {table} --splits val testA" in out


def test_the_same_command_gives_the_same_weights(run, recipe, table, maskris, tmp_path):
    # Also from the recipe that the run keeps, and with the overrides that it was made of.
    code, out, _ = maskris("train", run / "recipe.yaml", "--data", table, "--out", tmp_path, "--training.seed", "0")
    assert code == 0
    assert "12 referents with 12 expressions" in out
    assert same(weights(tmp_path), weights(run))
    code, *_ = maskris("train", recipe, "--data", table, "--out", tmp_path / "b", "--training.seed=1")
    assert code == 0
    assert not same(weights(tmp_path / "b"), weights(run))


def test_a_trained_model_is_tuned_further(run, recipe, table, maskris, tmp_path):
    command = ["train", recipe, "--data", table, "--training.steps=1", "--training.lr=1e-12"]
    code, _, err = maskris(*command, "--out", tmp_path / "tuned", "--training.init_from", run)
    assert code == 0
    assert f"Starts from the weights of {run}" in err
    best = load_file(run / "best" / "model.safetensors")
    tuned = weights(tmp_path / "tuned")
    assert all(torch.allclose(tuned[name], best[name], atol=1e-9) for name in best)
    code, _, err = maskris(*command, "--out", tmp_path / "other", "--training.init_from", run, "--model.width=32")
    assert code == 1
    assert f"error: {run} is another network than the model to train: " in err
    assert not (tmp_path / "other" / "last").exists()


def test_a_stopped_run_goes_on_with_the_same_command(run, recipe, table, maskris, tmp_path, monkeypatch):
    command = ["train", recipe, "--data", table, "--out", tmp_path]
    advance = Tracker.advance

    def stop(self, step):
        advance(self, step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "advance", stop)
        code, out, err = maskris(*command)
    assert code == 128 + signal.SIGTERM
    assert "Stopped by signal 15 after step 4" in err
    assert "Done" not in out
    assert maskris(*command)[0] == 0
    assert same(weights(tmp_path), weights(run))


def test_a_killed_run_goes_on_with_the_same_command(run, recipe, table, maskris, tmp_path):
    command = ["train", str(recipe), "--data", str(table), "--out", str(tmp_path / "run")]
    code = f"""
import os, signal, torch
from maskris.cli.main import main
from maskris.training.logging import Tracker
torch.set_num_threads(1)
Tracker.advance = lambda self, step: step == 5 and os.kill(os.getpid(), signal.SIGKILL)
main({command!r})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert json.loads((tmp_path / "run" / "last" / "state.json").read_text())["step"] == 4
    assert maskris(*command)[0] == 0
    assert same(weights(tmp_path / "run"), weights(run))


def test_a_refused_run_leaves_the_folder_as_it_is(run, recipe, table, maskris):
    before = (run / "recipe.yaml").read_text()
    code, _, err = maskris("train", recipe, "--data", table, "--out", run, "--training.lr", "2e-3")
    assert code == 1
    assert "lr: 0.0001 there, 0.002 now" in err
    code, _, err = maskris("train", recipe, "--data", table, "--out", run, "--model.drop_path", "0.1")
    assert code == 1
    assert "model.drop_path: 0.3 there, 0.1 now" in err or "drop_path_rate" in err
    code, _, err = maskris("train", recipe, "--data", table, "--out", run, "--data.reduced_decoding=true")
    assert code == 1
    assert "reduced_decoding: nothing there, True now" in err
    code, _, err = maskris("train", recipe, "--data", table, "--out", run, "--resume", "never")
    assert code == 1
    assert "already holds a run" in err
    assert (run / "recipe.yaml").read_text() == before


def test_train_says_what_is_missing_before_it_builds_a_model(recipe, table, maskris, tmp_path, monkeypatch):
    monkeypatch.setattr("maskris.experiments.recipe.Recipe.instantiate", lambda self: pytest.fail("a model was built"))
    command = ["train", recipe, "--data", table, "--out", tmp_path / "run"]
    code, _, err = maskris(*command, "--data.train", "testB")
    assert (code, err) == (1, "error: The data has no split testB, but train, val, testA; choose with --data.train\n")
    code, _, err = maskris(*command, "--data.validation", "testB")
    assert code == 1
    assert "choose with --data.validation (null for none)" in err
    code, _, err = maskris(*command, "--training.lrr", "3")
    assert code == 1
    assert "unknown key training.lrr; did you mean training.lr?" in err
    assert not (tmp_path / "run").exists()


def test_several_data_sets_without_the_images_of_their_other_splits(recipe, table, maskris, tmp_path):
    # The second data set evaluates on photo 0 and on photo 1 of the first.
    rows = ReferringTable.open(table)
    moved = [row | {"split": "val", "dataset": "other"} for row in rows.take([0, 2]).to_pylist()]
    ReferringTable.from_rows(moved, rows.images_root).save(tmp_path / "other.parquet")
    command = ["train", recipe, "--data", table, tmp_path / "other.parquet", "--training.steps=1"]
    assert "12 referents" in maskris(*command, "--out", tmp_path / "a")[1]
    code, out, _ = maskris(*command, "--out", tmp_path / "b", "--data.exclude_overlap=true")
    assert code == 0
    assert "8 referents with 8 expressions" in out


# evaluate


def test_evaluate_shows_tables_and_writes_rows(run, table, maskris, tmp_path):
    code, out, _ = maskris("evaluate", run, "--data", table, "--out", tmp_path / "x" / "rows.parquet", "--workers", "0")
    assert code == 0
    assert max(map(len, out.replace(str(tmp_path), "").replace(str(run), "").splitlines())) <= 80
    assert "squares testA" in out
    assert "squares train" not in out
    result = Evaluation.load(tmp_path / "x" / "rows.parquet")
    assert len(result) == 8
    assert f"{100 * result.metrics['oIoU']:.2f}" in out
    assert result.settings["truncated"] == 2


def test_evaluate_one_split_of_several_files_with_occlusion(run, table, maskris, tmp_path):
    code, out, _ = maskris(
        *("evaluate", run, "--data", table, table, "--splits", "val", "--occlusion", "1", "--occlusion-patch", "8"),
        *("--protocol", "cris", "--batch_size", "3", "--workers", "0", "--out", tmp_path / "rows.parquet"),
    )
    assert code == 0
    result = Evaluation.load(tmp_path / "rows.parquet")
    assert (len(result), result.protocol.name) == (8, "cris")
    assert "PatchOcclusion(ratio=1.0, patch_size=8" in result.settings["perturbation"]
    assert "testA" not in out


def test_evaluate_says_that_photos_were_decoded_at_a_reduced_size(run, table, maskris, tmp_path):
    command = ["evaluate", run, "--data", table, "--workers", "0", "--out", tmp_path / "rows.parquet"]
    assert "reduced size" not in maskris(*command)[1]
    plain = Evaluation.load(tmp_path / "rows.parquet")
    assert "large JPEGs decoded at a reduced size" in " ".join(maskris(*command, "--reduced-decoding")[1].split())
    reduced = Evaluation.load(tmp_path / "rows.parquet")
    assert reduced.settings == plain.settings | {"reduced_decoding": True}
    assert reduced.metrics == plain.metrics, "these photos are small"


def test_evaluate_shows_intervals_when_asked(run, table, maskris, tmp_path):
    command = ["evaluate", run, "--data", table, "--out", tmp_path / "rows.parquet", "--workers", "0"]
    assert "bootstrap" not in maskris(*command)[1]
    code, out, _ = maskris(*command, "--intervals", "--interval-unit", "image")
    assert code == 0
    _, shown = out.split("95 % bootstrap intervals over images")
    for split, part in Evaluation.load(tmp_path / "rows.parquet").parts("split").items():
        found = bootstrap_intervals(part, unit="image")["mIoU"]
        ends = [f"{100 * number:.2f}" for number in (found.value, found.low, found.high)]
        assert re.search(rf"{split} .*?mIoU +{' +'.join(ends)}", shown, re.DOTALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--splits", "testB"], "The data has no split testB, but train, val, testA; choose with --splits"),
        (["--occlusion", "2"], "The share of occluded patches lies between 0 and 1, not 2.0"),
        (["--batch-size", "0"], "A batch must hold at least one expression, not 0"),
    ],
)
def test_evaluate_says_what_is_wrong(run, table, maskris, options, message):
    assert maskris("evaluate", run, "--data", table, "--workers", "0", *options) == (1, "", f"error: {message}\n")


def test_a_model_that_is_not_there(table, maskris, tmp_path):
    assert "There is no folder" in maskris("evaluate", tmp_path / "none", "--data", table)[2]
    assert "a Hub id (owner/name)" in maskris("evaluate", "none", "--data", table)[2]
    assert "holds no model" in maskris("evaluate", tmp_path, "--data", table)[2]


# convert


def test_convert_takes_what_leaves_no_trace_in_the_weights(shared, maskris, tmp_path):
    state = reference(shared, "tiny_state.safetensors")
    torch.save({"model": state, "args": argparse.Namespace(img_size=96)}, tmp_path / "best.pth")
    (tmp_path / "vocab.txt").write_text("\n".join(reference(shared, "extras.json")["tokenizer.vocab"]))
    command = ["convert", tmp_path / "best.pth", "--tokenizer", tmp_path / "vocab.txt", "--out"]
    code, _, err = maskris(*command, tmp_path / "a")
    assert code == 1
    assert "text_heads" in err
    code, out, _ = maskris(*command, tmp_path / "a", "--text-heads", "4", "--prompt-levels", "1", "2")
    assert code == 0
    assert f"written to {tmp_path / 'a'}" in out
    model = load_model(tmp_path / "a")
    assert (model.preprocess.size, model.tokenizer.max_length) == ((96, 96), 20)
    options = ["--text-heads", "4", "--image-size", "64", "--max-tokens", "9", "--window", "4"]
    code, out, _ = maskris(*command, tmp_path / "b", *options)
    assert code == 0
    assert "resized" in out
    model = load_model(tmp_path / "b")
    assert (model.preprocess.size, model.tokenizer.max_length) == ((64, 64), 9)
    assert model.config["vision"]["window_size"] == 4


# recipes


def test_recipes_are_listed_and_printed(maskris, tmp_path, recipe):
    code, out, _ = maskris("recipes")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "refcocog-umd-maskris" in out
    text = maskris("recipes", "refcoco-maskris")[1]
    assert text.startswith("# MaskRIS on RefCOCO (unc)")
    assert yaml.safe_load(text)["training"]["epochs"] == 50  # what is printed can be redirected to a file
    code, _, err = maskris("recipes", "refcoco")
    assert code == 1
    assert "did you mean refcoco-maskris or" in err
