"""ETRIS small enough to be built in a blink, and the golden files of the official one."""

import json
from pathlib import Path
from typing import Any

import torch
from models import literal_etris
from safetensors.torch import load_file
from torch import Tensor, nn

from maskris.models.etris.model import ETRIS
from maskris.models.weights.convert import load_official

WORDS = ["the", "red", "blue", "circle", "square", "left", "right", "of"]
KINDS = ("etris_tiny", "etris_vit_tiny")


def golden(shared: Path, name: str) -> Any:
    """A reference file of the official ETRIS; weights in fp32."""
    path = shared / "reference" / "etris" / name
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}


def arguments(c: dict[str, Any]) -> dict[str, Any]:
    """Of `ETRIS`, for a configuration of the golden files or of `literal_etris`."""
    cfg, clip = c["cfg"], dict(c["clip"])
    if literal_etris.is_vit(c):
        clip["image_resolution"] = cfg["input_size"]
    same = ("ladder_dim", "nhead", "multi_stage", "stride", "num_layers", "num_head", "dim_ffn", "dropout")
    size = cfg["input_size"]
    return {
        "clip": clip,
        **{key: cfg[key] for key in same},
        "max_tokens": cfg["word_len"],
        "tokenizer": ["a"],
        "preprocess": {"height": size, "width": size},
    }


def tiny_etris(shared: Path, kind: str, **changes: Any) -> ETRIS:
    """The tiny ETRIS of the golden files with the golden weights, in evaluation mode."""
    config = golden(shared, "config.json")["configurations"][kind]["config"]
    model = ETRIS(**(arguments(config) | changes))
    load_official(model, golden(shared, f"{kind}_state.safetensors"))
    return model.eval()


def configuration(vit: bool = False, text_layers: int = 3, **cfg: Any) -> dict[str, Any]:
    """A configuration as the golden files have it, yet smaller; `cfg` changes it."""
    clip = {"embed_dim": 24, "image_resolution": 64, "vocab_size": 20, "transformer_width": 32}
    clip |= {"vision_layers": 3, "vision_width": 128, "vision_patch_size": 16} if vit else {}
    clip |= {"transformer_layers": text_layers}
    if not vit:
        clip |= {"vision_layers": [1, 1, 2, 1], "vision_width": 4, "vision_patch_size": None}
    channels = [128, 128] if vit else [32, 64]
    values = {"word_len": 10, "ladder_dim": 8, "nhead": 2, "multi_stage": 3, "stride": [1, 1, 1] if vit else [2, 1, 2]}
    values |= {"fpn_in": [*channels, 24], "fpn_out": [0, 32, 0], "num_layers": 1, "num_head": 4, "dim_ffn": 16}
    return {"clip": clip, "cfg": {**values, "dropout": 0.1, "input_size": 64, **cfg}}


def small_etris(vit: bool = False, seed: int = 0, **changes: Any) -> ETRIS:
    """In evaluation mode, with weights under which everything matters; every call with one seed gives the same ones."""
    c = configuration(vit)
    model = ETRIS(**(arguments(c) | {"tokenizer": WORDS} | changes))
    if not changes.keys() & {"clip", "ladder_dim", "multi_stage"}:
        load_official(model, literal_etris.random_weights(c, seed))
    return model.eval()


def without_dropout(model: nn.Module) -> nn.Module:
    """Training mode with every dropout off, as the golden gradients were taken."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def logits_of(model: ETRIS, images: Tensor, ids: Tensor) -> Tensor:
    """Of one expression for each image; padding has id 0."""
    return model.segment(model.encode_image(images), ids, (ids != 0).long(), torch.arange(len(ids)))
