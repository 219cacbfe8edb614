"""The quickstart from an empty folder to its files, with a handful of steps."""

import json

import pytest

from maskris.cli.main import main
from maskris.data.shapes import writer
from maskris.data.shapes.language import vocabulary
from maskris.models.loading import load_model


def test_quickstart_makes_what_it_promises_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(writer, "IMAGES", {"train": 12, "val": 14, "testA": 3, "testB": 3, "longer": 5})
    command = ["quickstart", "--out", str(tmp_path / "q"), "--scenes", "12", "--compare", "--training.steps", "2"]
    assert main(command) == 0
    summary = json.loads((tmp_path / "q" / "summary.json").read_text())
    for scores in (summary, summary["occlusion_25"], summary["supervised"], summary["splits"]["testB"]):
        assert 0 <= scores["mIoU"] <= 1
        assert 0 <= scores["oIoU"] <= 1
        assert {name for name in scores if "@" in name} == {f"Pr@{x}" for x in ("0.5", "0.6", "0.7", "0.8", "0.9")}
    assert summary["seconds"] > 0
    assert (tmp_path / "q" / "overview.png").stat().st_size > 10_000
    model = load_model(tmp_path / "q" / "maskris")
    tokens = model.tokenizer([" ".join(vocabulary()[:20])])
    assert model.tokenizer.tokenizer.unk_token_id not in tokens.input_ids, "the recipe knows every word"

    weights = (tmp_path / "q" / "maskris" / "last" / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main(command) == 0
    assert (tmp_path / "q" / "maskris" / "last" / "model.safetensors").read_bytes() == weights
    assert "maskris predict" in capsys.readouterr().out


def test_the_number_of_steps_is_not_given_twice(tmp_path, capsys):
    assert main(["quickstart", "--out", str(tmp_path / "q"), "--minutes", "20", "--training.steps", "5"]) == 1
    assert "leave out either it or --training.steps" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(("minutes", "scenes"), [([], 2000), (["--minutes", "5"], 2000), (["--minutes", "20"], 8000)])
def test_a_longer_training_gets_more_scenes(minutes, scenes, tmp_path, monkeypatch):
    asked = []

    def stop(folder, seed, number):
        asked.append(number)
        raise ValueError("enough")

    monkeypatch.setattr(writer, "embedded_data", stop)
    assert main(["quickstart", "--out", str(tmp_path / "q"), *minutes]) == 1
    assert asked == [scenes]
