"""Models and methods of one's own on the command line, in the folder where it runs and inside the package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from maskris import load_model, models

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
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    assert f"Next: maskris evaluate runs/mine --data {table} --splits val --model-class bright_module.Bright" in out
    code, out, err = call("evaluate", "runs/mine", "--data", table, "--workers", "0")
    assert code == 1
    assert "names the class bright_module.Bright, which is no model of maskris and not imported yet" in err
    code, out, err = call(
        "evaluate", "runs/mine", "--data", table, "--workers", "0", "--model-class", "bright_module.Bright"
    )
    assert code == 0, err
    assert "squares val" in out
    code, out, err = call("predict", "runs/mine", squares / "0.png", "red", "--model-class", "bright_module.Bright")
    assert code == 0, err


def test_a_model_inside_the_package_is_one_file(maskris, folder, table, monkeypatch):
    """It trains, saves and loads without an entry in any list, and its checkpoint needs no --model-class."""
    package = folder / "package"
    package.mkdir()
    (folder / "bright_module.py").rename(package / "bright.py")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(package)])
    monkeypatch.delitem(sys.modules, "maskris.models.bright", raising=False)
    recipe = {
        "model": {"class_path": "maskris.models.bright.Bright", "init_args": {"gain": 2.0}},
        "strategy": {"class_path": "maskris.Supervised"},
        "training": {"steps": 1, "batch_size": 4, "warmup_steps": 0, "workers": 0},
        "data": {"validation": None},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe))
    code, out, err = maskris("train", "mine.yaml", "--data", table)
    assert code == 0, err
    monkeypatch.delitem(sys.modules, "maskris.models.bright")
    code, out, err = maskris("evaluate", "runs/mine", "--data", table, "--workers", "0")
    assert code == 0, err
    assert "squares val" in out
    assert type(load_model("runs/mine")).__name__ == "Bright"
