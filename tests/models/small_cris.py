"""CRIS small enough to be built in a blink, and the golden files of the official one."""

import json
from pathlib import Path
from typing import Any

import torch
from models import literal_cris
from safetensors.torch import load_file
from torch import Tensor

from maskris.models.cris.model import CRIS
from maskris.models.weights.convert import load_official

WORDS = ["the", "red", "blue", "circle", "square", "left", "right", "of"]


def golden(shared: Path, name: str) -> Any:
    """A reference file of the official CRIS; weights in fp32."""
    path = shared / "reference" / "cris" / name
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}


def arguments(c: dict[str, Any]) -> dict[str, Any]:
    """Of `CRIS`, for a configuration of the golden file or of `literal_cris`."""
    same = ("fpn_out", "num_layers", "num_head", "dim_ffn", "dropout")
    return {
        "clip": c["clip"],
        **{key: c["cfg"][key] for key in same},
        "max_tokens": c["cfg"]["word_len"],
        "tokenizer": ["a"],
        "preprocess": {"height": 64, "width": 64},
    }


def tiny_cris(shared: Path, **changes: Any) -> CRIS:
    """The tiny CRIS of the golden file with the golden weights, in evaluation mode."""
    config = golden(shared, "config.json")["configurations"]["cris_tiny"]["config"]
    model = CRIS(**(arguments(config) | changes))
    load_official(model, golden(shared, "cris_tiny_state.safetensors"))
    return model.eval()


def configuration(clip: dict[str, Any] | None = None, **cfg: Any) -> dict[str, Any]:
    """A configuration as the golden file has it, yet smaller; the arguments change it."""
    encoders: dict[str, Any] = {"embed_dim": 24, "image_resolution": 64, "vocab_size": 20, "transformer_width": 32}
    encoders |= {"vision_layers": [1, 1, 2, 1], "vision_width": 4, "vision_patch_size": None}
    encoders |= {"transformer_layers": 2} | (clip or {})
    width, embed, text = encoders["vision_width"], encoders["embed_dim"], encoders["transformer_width"]
    values = {"word_len": 10, "word_dim": embed, "vis_dim": text, "fpn_in": [width * 8, width * 16, embed]}
    values |= {"fpn_out": [16, text, 40], "num_layers": 1, "num_head": 4, "dim_ffn": 16, "dropout": 0.1}
    return {"clip": encoders, "cfg": values | cfg}


def small_cris(seed: int = 0, **changes: Any) -> CRIS:
    """In evaluation mode, with weights under which everything matters; every call with one seed gives the same ones."""
    c = configuration()
    model = CRIS(**(arguments(c) | {"tokenizer": WORDS} | changes))
    load_official(model, literal_cris.random_weights(c, seed))
    return model.eval()


def logits_of(model: CRIS, images: Tensor, ids: Tensor) -> Tensor:
    """Of one expression for each image; padding has id 0."""
    return model.segment(model.encode_image(images), ids, (ids != 0).long(), torch.arange(len(ids)))
