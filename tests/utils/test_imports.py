"""Classes of one's own on the command line: looked for where it runs, but only while they are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from maskris.utils.imports import model_class, working_folder

MODULE = """
import torch
from torch import nn
from maskris import RISModel, Supervised
from maskris.models.encoders import build_tokenizer


class Bright(RISModel):
    def __init__(self, gain: float = 1.0, tokenizer=None, max_tokens: int = 6, preprocess=None):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.set_inputs(preprocess or {"height": 16, "width": 16}, build_tokenizer(tokenizer or ["red"]), max_tokens)
        self.set_config()

    def encode_image(self, images):
        return images.mean(1, keepdim=True)

    def segment(self, features, input_ids, attention_mask, image_index):
        return self.gain * features[image_index]

    def parameter_groups(self, lr, weight_decay):
        return [{"name": "all", "params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]


class Mine(Supervised):
    pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "bright_module.py").write_text(MODULE)
    (tmp_path / "broken_module.py").write_text("import a_package_that_is_missing")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("bright_module", "broken_module"):
        sys.modules.pop(name, None)


def test_the_working_folder_is_searched_last_and_for_a_moment(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    with working_folder():
        assert sys.path == ["elsewhere", str(folder)]
    assert sys.path == ["elsewhere"]
    monkeypatch.setattr(sys, "path", [str(folder), "elsewhere"])  # as in `python -m maskris`
    with working_folder():
        assert sys.path == [str(folder), "elsewhere"]
    assert sys.path == [str(folder), "elsewhere"]


def test_model_class(folder):
    assert model_class(None) is None
    assert model_class("bright_module.Bright").__name__ == "Bright"
    assert str(folder) not in sys.path
    assert model_class("maskris.CARIS").__name__ == "CARIS"


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("Bright", ValueError, r"needs the module too, such as my_module\.Bright"),
        ("bright_modul.Bright", ValueError, "there is no module bright_modul, neither in this folder nor installed"),
        ("bright_module.Dark", ValueError, "bright_module has no subclass of RISModel under the name Dark"),
        ("bright_module.nn", ValueError, "no subclass of RISModel under the name nn"),
        ("bright_module.Mine", ValueError, "no subclass of RISModel under the name Mine"),
        ("broken_module.Bright", ModuleNotFoundError, "a_package_that_is_missing"),
    ],
)
def test_what_is_no_model_class(folder, path, error, message):
    with pytest.raises(error, match=message):
        model_class(path)


def test_a_model_and_a_method_of_ones_own_from_training_to_prediction(folder, squares, table):
    """As a user runs it: the installed command, in a folder with one module."""
    recipe = {
        "model": {"class_path": "bright_module.Bright", "init_args": {"gain": 2.0}},
        "strategy": {"class_path": "bright_module.Mine"},
        "training": {"steps": 1, "batch_size": 4, "warmup_steps": 0, "workers": 0},
        "data": {"validation": None},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    program = Path(sys.executable).with_name("maskris")
    assert program.is_file(), "the tests run in an environment where the package is installed"

    def call(*words):
        command = [str(program), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})
        return done.returncode, done.stdout, done.stderr

    code, out, err = call("train", "mine.yaml", "--data", table)
    assert code == 0, err
    assert f"Next: maskris evaluate runs/mine {table} --splits val --model-class bright_module.Bright" in out
    code, out, err = call("evaluate", "runs/mine", table, "--workers", "0")
    assert code == 1
    assert "names the class bright_module.Bright, which is no model of maskris and not imported yet" in err
    code, out, err = call("evaluate", "runs/mine", table, "--workers", "0", "--model-class", "bright_module.Bright")
    assert code == 0, err
    assert "squares val" in out
    code, out, err = call(
        "predict", squares / "0.png", "red", "--model", "runs/mine", "--model-class", "bright_module.Bright"
    )
    assert code == 0, err
