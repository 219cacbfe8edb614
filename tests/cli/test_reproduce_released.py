"""`maskris reproduce --released`: the table that a user sees, and the exit code."""

import json
from dataclasses import replace

import pytest
from models.small import small_caris

from maskris.models.weights.released import PublishedResult, Released


@pytest.fixture
def index(monkeypatch, tmp_path):
    """`here` segments squares somehow, `gone` can't be had; both have claims about the squares' val."""
    claims = PublishedResult("squares", "", "oIoU", {"val": 99.99, "testA": 0.0})
    here = Released("here", "Small", "maskris", "MIT", "https://a.b", None, None, "maskris", "sent", (claims,))
    entries = {"here": here, "gone": replace(here, name="gone", title="Gone")}
    for module in ("experiments.authors_claims", "experiments.released_reproduction", "models.weights.released"):
        monkeypatch.setattr(f"maskris.{module}.released_models", lambda: entries)

    def folder(name):
        if name == "gone":
            raise OSError("no network: maskris models gone --from FILE")
        return tmp_path / name

    small_caris(preprocess={"height": 64, "width": 64}).save_pretrained(tmp_path / "here")
    monkeypatch.setattr("maskris.experiments.released_reproduction.released_folder", folder)


def test_the_table_the_files_and_the_exit_code(maskris, index, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--data", table, "--workers", "0", "--resamples", "20"]
    code, shown, err = maskris("reproduce", "--released", "here", "--splits", "val", *options)
    assert code == 0, err
    text = " ".join(shown.split())
    assert "differs: by more than 0.1 points (squares val oIoU)" in text
    assert "not run: left out by --splits (squares testA oIoU)" in text
    assert "All that was measured under the protocol maskris" in text
    assert "Written: reproductions/here/reproduction.json, reproductions/here/reproduction.md" in text
    assert max(len(line) for line in shown.splitlines() if "reproductions/" not in line) <= 80
    assert "| squares val oIoU | 99.99 | " in (tmp_path / "reproductions/here/reproduction.md").read_text()

    code, shown, err = maskris("reproduce", "--released", "all", *options)
    assert code == 1  # because one could not be had; the other was measured
    assert "not run: no network: maskris models gone --from FILE (all)" in " ".join(shown.split())
    content = json.loads((tmp_path / "reproductions/reproduction.json").read_text())
    assert content["failed"] == {"gone": "no network: maskris models gone --from FILE"}
    assert [one["verdict"] for one in content["findings"] if one["claim"]["released"] == "gone"] == ["not run"] * 2
    assert all(one["measured"] is not None for one in content["findings"] if one["claim"]["released"] == "here")


def test_a_wrong_name_is_an_error_that_says_what_was_meant(maskris, index, table):
    code, out, err = maskris("reproduce", "--released", "hear", "--data", table)
    assert (code, out) == (1, "")
    assert "There is no released checkpoint 'hear'; did you mean here?" in err
