"""Both stages of TRIS by their recipes, in small: without masks, then on pseudo masks; stopped and gone on with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from squares import WORDS

from maskris import evaluate, load_model, train
from maskris.data.table import ReferringTable
from maskris.training.trainer import Trainer

CLIP = {"embed_dim": 16, "vision_layers": [1, 1, 1, 1], "vision_width": 4, "vocab_size": 24}
CLIP |= {"transformer_width": 16, "transformer_layers": 1}
SCORER = CLIP | {"vision_layers": 1, "vision_width": 16, "vision_patch_size": 16, "image_resolution": 32}
SMALL = {"clip": CLIP, "tokenizer": WORDS, "max_tokens": 8, "preprocess": {"height": 64, "width": 64}}
TRAINING = {"epochs": None, "steps": 3, "batch_size": 4, "workers": 0, "save_every": 1, "log_every": 1}


def options(**sections: dict[str, Any]) -> list[str]:
    return [f"--{name}.{key}={json.dumps(v)}" for name, values in sections.items() for key, v in values.items()]


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if line["event"] == "train"]


@pytest.fixture
def annotated(table: Path) -> ReferringTable:
    return ReferringTable.open(table)


def changed(table: ReferringTable, **values: object) -> ReferringTable:
    """The table with other values in the rows to train on."""
    rows = [row | (values if row["split"] == "train" else {}) for row in table.to_pylist()]
    return ReferringTable.from_rows(rows, table.images_root)


def test_the_first_stage_learns_without_masks(annotated: ReferringTable, tmp_path: Path) -> None:
    pairs = changed(annotated, mask_source="none", mask=b"")
    overrides = options(model=SMALL | {"width": 16}, strategy={"scorer": SCORER}, training=TRAINING)
    overrides += ["--training.evaluate_every=null", "--data.text=null"]
    whole = train("tris-localize", pairs, tmp_path / "whole", overrides=overrides, progress=False)
    logged = losses(tmp_path / "whole")
    assert len(logged) == 3
    assert all(0 < line["text"] < 100 for line in logged)
    assert whole.metrics["mIoU"] >= 0
    assert {"PointM", "PointIt"} <= set(whole.metrics), "peaks are what a localizer is judged by"

    # The scorer is in no checkpoint; built anew, it is the same.
    halves = tmp_path / "halves"
    with pytest.MonkeyPatch.context() as patch:
        done = Trainer._train_step
        patch.setattr(Trainer, "_train_step", lambda self, *rest: done(self, *rest) or self.state.step == 2)
        assert train("tris-localize", pairs, halves, overrides=overrides, progress=False).step == 2
    assert train("tris-localize", pairs, halves, overrides=overrides, progress=False).step == 3
    one, two = (load_file(folder / "last" / "model.safetensors") for folder in (tmp_path / "whole", halves))
    assert one.keys() == two.keys()
    assert not any("scorer" in name or "judge" in name for name in one)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("method", ["supervised", "maskris"])
def test_the_second_stage_learns_from_pseudo_masks(annotated: ReferringTable, tmp_path: Path, method: str) -> None:
    pseudo = changed(annotated, mask_source="pseudo", mask_origin="made up")
    overrides = options(model=SMALL | {"widths": [4, 4, 8, 8]}, training=TRAINING)
    overrides += ["--training.evaluate_every=null", "--data.text=null"]
    result = train(f"tris-refcoco-{method}", pseudo, tmp_path / method, overrides=overrides, progress=False)
    logged = losses(tmp_path / method)
    assert len(logged) == 3
    terms = {"supervised": {"supervised"}, "maskris": {"clean", "distorted"}}[method]
    assert all(set(line) == terms and min(line.values()) > 0 for line in logged)
    assert result.step == 3
    model = load_model(tmp_path / method)
    found = evaluate(model, annotated.split("val"), "tris", workers=0, progress=False)
    assert found.metrics["mIoU"] == pytest.approx(result.metrics["mIoU"])
