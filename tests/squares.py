"""A data set of colored squares, a recipe that trains on it in a second, and a run of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import SWIN, bert, single_thread

from maskris.cli.main import main

BERT = bert(40)
WORDS = ["the", "red", "blue", "square", "left", "right"]
RECIPE = {
    "model": {
        "class_path": "maskris.CARIS",
        "init_args": {
            "vision": SWIN,
            "text": BERT,
            "width": 16,
            "layers": 1,
            "heads": 2,
            "points": 2,
            "tokenizer": WORDS,
            "max_tokens": 6,
            "preprocess": {"height": 64, "width": 64},
        },
    },
    "strategy": {"class_path": "maskris.MaskRIS", "init_args": {"image": {"patch_size": 8}}},
    "training": {"steps": 6, "batch_size": 4, "warmup_steps": 2, "workers": 0, "save_every": 2, "log_every": 2},
    "data": {"test": ["val", "testA"]},
}


@pytest.fixture(autouse=True)
def single_threaded():
    with single_thread():
        yield


@pytest.fixture(scope="session")
def squares(tmp_path_factory) -> Path:
    """JSON Lines: two squares on each of ten photos, one expression about each, seven words in the last."""
    folder = tmp_path_factory.mktemp("squares")
    lines = []
    for number in range(10):
        pixels = np.full((32, 40, 3), 90, dtype=np.uint8)
        split = "train" if number < 6 else "val" if number < 8 else "testA"
        for side, (x, color) in enumerate((("left", (255, 0, 0)), ("right", (0, 0, 255)))):
            x0, y0 = 3 + 20 * side, 2 + number
            pixels[y0 : y0 + 12, x0 : x0 + 12] = color
            polygon = [x0, y0, x0 + 12, y0, x0 + 12, y0 + 12, x0, y0 + 12]
            words = f"the {('red', 'blue')[side]} square {x}" + (" of the left" if number == 9 else "")
            lines.append({"image": f"{number}.png", "mask": [polygon], "expressions": [words], "split": split})
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "squares.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture(scope="session")
def table(squares) -> Path:
    assert main(["prepare", str(squares / "squares.jsonl"), "--out", str(squares / "squares.parquet")]) == 0
    return squares / "squares.parquet"


@pytest.fixture(scope="session")
def recipe(squares) -> Path:
    (squares / "tiny.yaml").write_text("# A tiny model.\n" + yaml.safe_dump(RECIPE))
    return squares / "tiny.yaml"


@pytest.fixture(scope="session")
def run(table, recipe, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", str(recipe), "--data", str(table), "--out", str(out)]) == 0
    torch.set_num_threads(threads)
    return out


@pytest.fixture
def maskris(capsys):
    """Runs the command line in this process: exit code, standard output, standard error."""

    def call(*words):
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call
