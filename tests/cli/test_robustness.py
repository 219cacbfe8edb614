"""`maskris robustness`: several checkpoints, tables and pictures; the same command goes on."""

import json
import shutil

import pytest


@pytest.fixture
def other(run, tmp_path):
    """The run's model with other weights, as of another seed."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "other"
    shutil.copytree(run / "last", folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value * 1.01 for name, value in weights.items()}, folder / "model.safetensors")
    return folder


def test_seeds_are_grouped_and_the_same_command_goes_on(maskris, run, other, table, tmp_path):
    out = tmp_path / "out"
    words = ["robustness", run, other, "--names", "mine", "mine", "--data", table, "--out", out, "--workers", 0]
    words += ["--splits", "val", "testA", "--families", "occlusion", "--device", "cpu"]
    code, text, _ = maskris(*words)
    assert code == 0
    assert "patches-8 25%" in text
    assert " ± " in text
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        "robustness.md", "summary.json", "results.csv", "curves.png", "summary.png",
    }  # fmt: skip
    folders = [path for path in out.iterdir() if path.is_dir()]
    assert len(folders) == 2
    numbers = json.loads((out / "summary.json").read_text())
    assert len(numbers["mine"]["families"]["occlusion"]["mIoU"]["values"]) == 2

    files = {path: path.stat().st_mtime_ns for folder in folders for path in folder.glob("*.parquet")}
    assert len(files) == 2 * 4
    page = (out / "robustness.md").read_bytes()
    code, *_ = maskris(*words)
    assert code == 0
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    assert (out / "robustness.md").read_bytes() == page

    code, _, err = maskris(*words, "--seed", 1)
    assert code == 1
    assert "belongs to another run:\n  seed: 0 there, 1 now" in err


def test_two_methods_without_matplotlib(maskris, run, other, table, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    words = ["--data", table, "--out", tmp_path / "out", "--workers", 0, "--families", "context", "--metric", "mIoU"]
    code, text, _ = maskris("robustness", run, other, *words)
    assert code == 0
    assert "No pictures: they need matplotlib" in text
    assert not list((tmp_path / "out").glob("*.png"))
    assert "other - whole" in (tmp_path / "out" / "robustness.md").read_text()


def test_what_is_wrong_is_said(maskris, run, table, tmp_path):
    words = ["--data", table, "--out", tmp_path / "out", "--workers", 0]
    for extra, message in {
        ("--names", "a", "b"): "--names gives 2 names to 1 checkpoints",
        ("--families", "sound"): "no family sound, but occlusion",
        ("--splits", "test"): "The data has no split test",
    }.items():
        code, _, err = maskris("robustness", run, *words, *extra)
        assert code == 1
        assert message in err
    code, _, err = maskris("robustness", run, run / "last", *words, "--names", "a", "a", "--families", "context")
    assert code == 1
    assert "has the same weights as another checkpoint of the name a" in err
