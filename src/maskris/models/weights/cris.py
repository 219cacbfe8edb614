"""The official CRIS."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maskris.models.weights.encoders import CLIP_RULES, clip_config
from maskris.models.weights.options import PUBLISHED, ConversionOptions
from maskris.models.weights.rules import Rule, below, count, inner, shape

_CLIP_PREFIX = "backbone."

CRIS_RULES: list[Rule] = [
    *below(r"backbone\.", "clip.", CLIP_RULES),
    (r"((?:neck|decoder|proj)\..+)", r"\1"),
]


def is_cris(names: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of the official CRIS (the similar ETRIS has a bridger and another neck)."""
    return "neck.f1_v_proj.0.weight" in names and "backbone.token_embedding.weight" in names


def cris_config(weights: Mapping[str, Tensor], options: ConversionOptions = PUBLISHED) -> dict[str, Any]:
    """Arguments of `CRIS` from the official names of the whole network.

    Raises:
        ValueError: If a name is missing, or shapes make no sense.
    """
    ffn, width = shape(weights, "decoder.layers.0.ffn.0.weight", 2)
    if width % options.heads:
        raise ValueError(f"{options.heads} heads don't fit: they must divide the decoder's width {width}")
    return {
        "clip": clip_config(inner(weights, _CLIP_PREFIX)),
        "fpn_out": [shape(weights, f"neck.{name}.0.weight", 4)[0] for name in ("f3_v_proj", "f2_v_proj", "f1_v_proj")],
        "num_layers": count(weights, r"decoder\.layers\.(\d+)\."),
        "num_head": options.heads,
        "dim_ffn": ffn,
    }
