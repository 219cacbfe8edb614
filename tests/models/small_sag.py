"""The tiny SaG of the golden files, and how its official weights are called here."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from maskris.models.sag import SaG

VISION = {"width": 24, "layers": 2, "heads": 3, "patch_size": 16, "grid": 6}
TEXT = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "vocab_size": 60, "max_position_embeddings": 24,
}  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(55))]

_CROSS = "encoders.img_enc.set_pred_module.agg.agg_blocks.0"
_PREFIXES = {
    "encoders.img_enc.img_backbone": "vision",
    "encoders.img_enc.spm_1x1": "image_proj",
    "encoders.img_enc.set_pred_module.agg.queries.slots_mu": "discovery.queries.mean",
    "encoders.img_enc.set_pred_module.agg.queries.slots_log_sigma": "discovery.queries.log_variance",
    f"{_CROSS}.0.fn.to_out.0": "discovery.cross.to_out",
    f"{_CROSS}.0.fn": "discovery.cross",
    f"{_CROSS}.0": "discovery.cross",
    f"{_CROSS}.2.norm": "discovery.cross_ff.0",
    f"{_CROSS}.2.fn.net.0": "discovery.cross_ff.1",
    f"{_CROSS}.2.fn.net.3": "discovery.cross_ff.4",
    f"{_CROSS}.4.0.0.fn.to_out.0": "discovery.group.to_out",
    f"{_CROSS}.4.0.0.fn": "discovery.group",
    f"{_CROSS}.4.0.0": "discovery.group",
    f"{_CROSS}.4.0.2.norm": "discovery.group_ff.0",
    f"{_CROSS}.4.0.2.fn.net.0": "discovery.group_ff.1",
    f"{_CROSS}.4.0.2.fn.net.3": "discovery.group_ff.4",
    "encoders.img_enc.set_pred_module.agg.last_layer.1": "discovery.output",
    "encoders.img_enc.set_pred_module.residual_norm": "discovery.norm",
    "encoders.txt_enc.bert": "text.model",
    "encoders.txt_enc.linear": "text_proj",
    "cma.attn.fn.to_out.0": "gather.attention.to_out",
    "cma.attn.fn": "gather.attention",
    "cma.attn": "gather.attention",
    "cma.ff.norm": "gather.ff.0",
    "cma.ff.fn.net.0": "gather.ff.1",
    "cma.ff.fn.net.3": "gather.ff.4",
    "decoder.pos_emb.col_embed": "decoder.columns",
    "decoder.pos_emb.row_embed": "decoder.rows",
    "decoder": "decoder",
}
_DEAD = (
    "encoders.img_enc.img_backbone.head",
    "encoders.img_enc.residual_fc",
    "encoders.img_enc.set_pred_module.fc",
    "encoders.txt_enc.bert.pooler",
)
"""What the official network has and never uses."""


def our_name(official: str) -> str | None:
    """The name here of an official weight; ``None`` for a dead one."""
    if official.startswith(_DEAD):
        return None
    prefix = max((p for p in _PREFIXES if official == p or official.startswith(f"{p}.")), key=len)
    return _PREFIXES[prefix] + official.removeprefix(prefix)


def small_sag(**changes: Any) -> SaG:
    """With random weights, in evaluation mode."""
    arguments: dict[str, Any] = {
        "vision": VISION, "text": TEXT, "width": 32, "groups": 2, "slots_per_group": 3, "rounds": 3, "heads": 2,
        "cross_width": 8, "group_width": 8, "tokenizer": WORDS, "max_tokens": 12,
        "preprocess": {"height": 64, "width": 64, "mean": [0.5] * 3, "std": [0.5] * 3},
    }  # fmt: skip
    return SaG(**(arguments | changes)).eval()


def golden_case(shared: Path) -> dict[str, Tensor]:
    return {name: _single(value) for name, value in load_file(shared / "reference/weak/sag_case.safetensors").items()}


def golden_sag(shared: Path) -> SaG:
    """With the golden weights."""
    model = small_sag()
    official = load_file(shared / "reference/weak/sag_state.safetensors")
    state = {ours: value.float() for name, value in official.items() if (ours := our_name(name)) is not None}
    model.load_state_dict(state)
    return model


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
