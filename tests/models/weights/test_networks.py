"""Published files of LAVT, CRIS and ETRIS become folders that give the golden logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskris.models.loading import load_model
from maskris.models.weights.convert import convert_checkpoint
from maskris.models.weights.networks import NETWORKS, kind_of
from maskris.models.weights.options import ConversionOptions

# Where the golden files lie, what shapes do not tell, and how far float32 may lie from them (see the parity tests).
CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "lavt": ("lavt/lavt_tiny", {"text_heads": 4}, 6e-3),
    "cris": ("cris/cris_tiny", {}, 1e-4),
    "etris": ("etris/etris_tiny", {}, 1e-4),
    "etris vit": ("etris/etris_vit_tiny", {}, 1e-4),
}


def golden(shared: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Weights in float32, tensors and configuration."""
    folder = shared / "reference"
    state = {key: value.float() for key, value in load_file(folder / f"{CASES[name][0]}_state.safetensors").items()}
    case = load_file(folder / f"{CASES[name][0]}_case1.safetensors")
    return state, case, json.loads((folder / f"{CASES[name][0]}_case1.json").read_text())


@pytest.fixture
def tokenizers(tmp_path: Path) -> dict[str, str]:
    """A vocabulary for BERT, and CLIP's byte pairs without any merge."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red"]) + "\n")
    from maskris.models.encoders.tokenizers import build_clip_tokenizer

    build_clip_tokenizer(["red", "man"]).save_pretrained(tmp_path / "clip")
    return {"lavt": str(tmp_path / "vocab.txt"), "clip": str(tmp_path / "clip")}


@pytest.mark.parametrize("name", CASES)
def test_a_published_file_becomes_a_folder_with_the_same_logits(
    name: str, shared: Path, tmp_path: Path, tokenizers: dict[str, str]
) -> None:
    state, case, about = golden(shared, name)
    _, options, tolerance = CASES[name]
    tokenizer = tokenizers["lavt" if name == "lavt" else "clip"]
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, tmp_path / "a.pth")
    side = about["size"]
    report = convert_checkpoint(
        tmp_path / "a.pth", tmp_path / "out", options=ConversionOptions(tokenizer=tokenizer, image_size=side, **options)
    )
    assert report.kind == name.split()[0]
    assert NETWORKS[report.kind].label in str(report)
    model = load_model(tmp_path / "out")
    assert model.preprocess.size == (side, side)
    assert model.tokenizer.max_length == NETWORKS[report.kind].max_tokens
    assert model.tokenizer.keep_end_token is (report.kind in ("cris", "etris")), "as it was evaluated"
    ids = case["input_ids"].long()
    visible = case["attention_mask"].long() if "attention_mask" in case else (ids != 0).long()
    with torch.no_grad():
        logits = model.segment(model.encode_image(case["image"]), ids, visible, torch.arange(len(ids)))
    expected = case["logits_low" if name == "lavt" else "logits"]
    assert logits.shape == expected.shape
    assert (logits - expected).abs().max().item() <= tolerance


def test_a_text_encoder_beside_the_network_joins_it(shared: Path, tmp_path: Path, tokenizers: dict[str, str]) -> None:
    state, *_ = golden(shared, "lavt")
    bert = {key.removeprefix("text_encoder."): value for key, value in state.items() if key.startswith("text_encoder.")}
    assert bert
    rest = {key: value for key, value in state.items() if not key.startswith("text_encoder.")}
    torch.save({"model": rest, "bert_model": bert, "optimizer": {}}, tmp_path / "a.pth")
    options = ConversionOptions(tokenizer=tokenizers["lavt"], text_heads=4)
    convert_checkpoint(tmp_path / "a.pth", tmp_path / "two", options=options)
    save_file(state, tmp_path / "b.safetensors")
    convert_checkpoint(tmp_path / "b.safetensors", tmp_path / "one", options=options)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("maskris/keys_swin_b", "maskris"),
        ("lavt/keys_lavt_one_swin_tiny", "lavt"),
        ("cris/keys_cris_r50", "cris"),
        ("etris/keys_etris_r101", "etris"),
        ("etris/keys_etris_v16", "etris"),
    ],
)
def test_real_files_are_recognized_by_their_names(folder: str, kind: str, shared: Path) -> None:
    keys = json.loads((shared / "reference" / f"{folder}.json").read_text())["keys"]
    assert kind_of({key["name"]: torch.empty(0) for key in keys}) == kind
