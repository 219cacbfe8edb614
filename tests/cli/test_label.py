"""``maskris label``: from phrases without masks to a table that a model learns from."""

import json

import pytest

from maskris.data.table import ReferringTable
from maskris.models.loading import load_model


@pytest.fixture
def maskless(maskris, squares, tmp_path):
    """The squares without masks in train."""
    lines = [json.loads(line) for line in (squares / "squares.jsonl").read_text().splitlines()]
    for line in lines:
        if line["split"] == "train":
            line.pop("mask")
            line["mask_source"] = "none"
    (tmp_path / "phrases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["prepare", tmp_path / "phrases.jsonl", "--images", squares, "--out", tmp_path / "phrases.parquet"]
    code, _, err = maskris(*words)
    assert code == 0, err
    return tmp_path / "phrases.parquet"


def test_from_phrases_to_a_trained_model(maskris, run, recipe, maskless, tmp_path):
    """A run labels, another model learns from its masks and is validated on annotated ones; both say so."""
    words = ["label", maskless, "--teacher", run, "--out", tmp_path / "pseudo.parquet", "--device", "cpu"]
    code, text, err = maskris(*words, "--rule", "peak:0.9")
    assert code == 0, err
    text = " ".join(text.split())
    assert "with a mask 12" in text
    assert f"Written: {tmp_path / 'pseudo.parquet'}" in text
    assert f"Look through them before training: {tmp_path / 'pseudo.html'}" in text
    before, after = ReferringTable.open(maskless), ReferringTable.open(tmp_path / "pseudo.parquet")
    assert set(before.split("train").column("mask_source")) == {"none"}
    made = after.split("train")
    assert len(made) == 12
    (origin,) = set(made.column("mask_origin"))
    assert origin.startswith(f"{run.name} ")
    assert origin.endswith("; mean; peak:0.9")
    assert after.split("val").arrow.equals(before.split("val").arrow)
    code, text, err = maskris("train", recipe, "--data", tmp_path / "pseudo.parquet", "--out", tmp_path / "student")
    assert code == 0, err
    assert f"Training: the masks of 12 of 12 referents are pseudo masks, made by a model ({origin})" in text
    assert load_model(tmp_path / "student")
    state = json.loads((tmp_path / "student" / "last" / "state.json").read_text())
    assert state["run"]["mask_origins"] == [origin]


def test_options(maskris, run, maskless, tmp_path):
    pytest.importorskip("skimage")
    words = ["label", maskless, "--teacher", run, "--out", tmp_path / "pseudo.parquet", "--device", "cpu"]
    words += ["--rule", "peak:0.5", "--superpixels", 20, "--select", "agreement", "--no-page"]
    code, text, err = maskris(*words, "--min-score", 0.5, "--missing", "keep", "--splits", "train", "val")
    assert code == 0, err
    assert "agreement; 20 superpixels, peak:0.5; score at least 0.5" in " ".join(text.split())
    assert not (tmp_path / "pseudo.html").exists()
    table = ReferringTable.open(tmp_path / "pseudo.parquet")
    assert len(table) == 20
    assert set(table.split(["train", "val"]).column("mask_source")) <= {"pseudo", "none"}
    assert set(table.split("testA").column("mask_source")) == {"annotated"}


def test_what_is_wrong_is_said(maskris, run, maskless, tmp_path):
    def error(*words):
        code, _, err = maskris("label", *words)
        assert code != 0
        return err

    assert "is read and would be replaced" in error(maskless, "--teacher", run, "--out", maskless)
    assert "must end in .parquet" in error(maskless, "--teacher", run, "--out", tmp_path / "a.json")
    out = ["--out", tmp_path / "a.parquet"]
    assert "There is no folder caris-refcoco-combned; did you mean" in error(
        maskless, "--teacher", "caris-refcoco-combned", *out
    )
    assert "A rule is threshold:T or peak:F" in error(maskless, "--teacher", run, "--rule", "0.5", *out)
    assert "no split test, but train, val, testA" in error(maskless, "--teacher", run, "--splits", "test", *out)
    assert not (tmp_path / "a.parquet").exists()
