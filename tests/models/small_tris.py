"""The golden files of the official TRIS: its two stages, its scorer and one of its training runs."""

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from maskris.batch import Batch
from maskris.models.base import RISModel
from maskris.models.tris.model import TRIS
from maskris.models.tris_localizer import TRISLocalizer
from maskris.models.weights.convert import load_official

Model = TypeVar("Model", bound=RISModel)


def golden(shared: Path, name: str) -> Any:
    """A reference file of TRIS; weights and inputs in fp32, ids as int64."""
    path = shared / "reference" / "weak" / name
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return {key: value.float() if value.is_floating_point() else value.long() for key, value in load_file(path).items()}


def far(ours: Tensor, official: Tensor) -> float:
    """The largest difference, relative to the largest value where that exceeds 1."""
    assert ours.shape == official.shape
    return (ours.double() - official.double()).abs().max().item() / max(1.0, official.abs().max().item())


_CLIP = {"embed_dim": 256, "vision_layers": [1] * 4, "vision_width": 8, "vocab_size": 60, "attention_pool": False}
_CLIP |= {"transformer_width": 64, "transformer_layers": 2}
WORDS = ["the", "red", "blue", "circle", "square", "left", "right", "of"]
ARGUMENTS: dict[str, Any] = {
    "clip": _CLIP,
    "tokenizer": WORDS,
    "max_tokens": 12,
    "preprocess": {"height": 64, "width": 96},
}


def tiny_localizer(shared: Path, **changes: Any) -> TRISLocalizer:
    """The tiny first stage of the golden files with the golden weights, in evaluation mode."""
    model = TRISLocalizer(**ARGUMENTS | {"width": 32} | changes)
    load_official(model, golden(shared, "tris_stage1_state.safetensors"))
    return model.eval()


def tiny_tris(shared: Path, **changes: Any) -> TRIS:
    """The tiny second stage; its backbone is that of the first."""
    model = TRIS(**ARGUMENTS | {"widths": [8, 16, 32, 64]} | changes)
    load_official(model, second_stage(shared))
    return model.eval()


def second_stage(shared: Path) -> dict[str, Tensor]:
    """Official names of the whole second stage."""
    first = golden(shared, "tris_stage1_state.safetensors")
    backbone = {name: value for name, value in first.items() if name.startswith("backbone.")}
    head: dict[str, Tensor] = golden(shared, "tris_stage2_head_state.safetensors")
    return backbone | head


def as_batch(images: Tensor, ids: Tensor, **more: Tensor) -> Batch:
    """One expression for each image; padding has id 0."""
    return Batch(images, ids, (ids != 0).long(), torch.arange(len(ids)), **more)


def small_tris(seed: int = 0) -> TRIS:
    """In evaluation mode, with weights under which everything matters."""
    torch.manual_seed(seed)
    return _lively(TRIS(**ARGUMENTS, widths=[8, 16, 32, 64]))


def small_localizer(seed: int = 0) -> TRISLocalizer:
    """In evaluation mode, with weights under which everything matters."""
    torch.manual_seed(seed)
    return _lively(TRISLocalizer(**ARGUMENTS, width=32))


def _lively(model: Model) -> Model:
    for name, parameter in model.named_parameters():
        if "bn3" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("bn3.weight") else 0.0, std=0.1)
        elif "clip.text" in name:
            parameter.data *= 2
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # statistics of one batch, or the maps would shrink from layer to layer
    ids = torch.randint(1, 50, (4, 12))
    with torch.no_grad():
        model.train()(as_batch(torch.randn(4, 3, 64, 96), ids))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()
