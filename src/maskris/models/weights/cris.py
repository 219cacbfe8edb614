"""The official CRIS."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maskris.models.weights.encoders import CLIP_RULES, clip_config
from maskris.models.weights.options import PUBLISHED, ConversionOptions
from maskris.models.weights.rules import Rule, below, count, inner, shape

CRIS_RULES: list[Rule] = [
    *below(r"backbone\.", "clip.", CLIP_RULES),
    (r"((?:neck|decoder|proj)\..+)", r"\1"),
]


def cris_config(weights: Mapping[str, Tensor], options: ConversionOptions = PUBLISHED) -> dict[str, Any]:
    """Arguments of `CRIS` from the official names of the whole network."""
    return {
        "clip": clip_config(inner(weights, "backbone.")),
        "fpn_out": [shape(weights, f"neck.{name}.0.weight", 4)[0] for name in ("f3_v_proj", "f2_v_proj", "f1_v_proj")],
        **decoder_config(weights, options.heads),
    }


def decoder_config(weights: Mapping[str, Tensor], heads: int) -> dict[str, int]:
    """Arguments of the decoder that CRIS and ETRIS share."""
    ffn, width = shape(weights, "decoder.layers.0.ffn.0.weight", 2)
    check_heads(heads, "decoder's", width)
    return {"num_layers": count(weights, r"decoder\.layers\.(\d+)\."), "num_head": heads, "dim_ffn": ffn}


def check_heads(heads: int, part: str, width: int) -> None:
    """Raise a ValueError unless the heads of a part divide its width."""
    if width % heads:
        raise ValueError(f"{heads} heads don't fit: they must divide the {part} width {width}")
