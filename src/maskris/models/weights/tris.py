"""The official TRIS: the network of response maps (first stage) and the one trained on pseudo masks (second stage)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maskris.models.weights.encoders import CLIP_RULES, clip_config
from maskris.models.weights.options import PUBLISHED, ConversionOptions
from maskris.models.weights.rules import Dropped, Rule, below, inner, shape

_CLIP: list[Rule] = [
    (r"backbone\.visual\.attnpool\..+", Dropped("CLIP's attention pool, whose output is not used")),
    *below(r"backbone\.", "clip.", CLIP_RULES),
]
_PARTS = {"1": "query", "2": "key", "3": "value"}
# In the image's attention to the texts, query is the image's first projection and key the texts' second; the other way
# round it is the texts' first and the image's second. Both values are the third.
TRIS_LOCALIZER_RULES: list[Rule] = [
    *_CLIP,
    (r"(logit_scale)", r"\1"),
    (r"vis_project\.(.+)", r"image_projection.\1"),
    (r"lan_project\.(.+)", r"text_projection.\1"),
    *[(rf"attn_fusion\.v_proj{number}\.(.+)", rf"prompt.image_{part}.\1") for number, part in _PARTS.items()],
    *[(rf"attn_fusion\.t_proj{number}\.(.+)", rf"prompt.text_{part}.\1") for number, part in _PARTS.items()],
    (r"attn_fusion\.v_output\.(.+)", r"prompt.image_output.\1"),
    (r"attn_fusion\.t_output\.0\.(.+)", r"prompt.text_output.\1"),
]

_ATTENTION = {
    "Wm": "visual",
    "Wq": "query",
    "ins_q": "query_norm",
    "Wk": "key",
    "Wv": "value",
    "Ww": "output",
    "ins_w": "output_norm",
    "Wo": "merge",
}
_BLOCK = {"conv": 0, "bn": 1, "relu": 2}
TRIS_RULES: list[Rule] = [
    *_CLIP,
    *[
        (rf"attention{level}\.{theirs}\.(.+)", rf"attentions.{level - 2}.{ours}.\1")
        for level in (2, 3, 4)
        for theirs, ours in _ATTENTION.items()
    ],
    *[
        (rf"{theirs}{level}\.{inside}{block}\.(.+)", rf"decoder.{ours}.{level - 1}.{number}{i}.\1")
        for theirs, ours, inside, number in (
            ("reduced_c", "reductions", "", ""),
            ("output", "outputs", "", ""),
            ("final_seg", "heads", r"0\.", "0."),
        )
        for level in (1, 2, 3, 4)
        for block, i in _BLOCK.items()
    ],
    *[(rf"final_seg{level}\.1\.(.+)", rf"decoder.heads.{level - 1}.1.\1") for level in (1, 2, 3, 4)],
]


def tris_localizer_config(weights: Mapping[str, Tensor], options: ConversionOptions = PUBLISHED) -> dict[str, Any]:
    """Arguments of `TRISLocalizer` from the official names of the whole network."""
    return {"clip": _clip(weights), "width": shape(weights, "lan_project.weight", 2)[0], "keep_end_token": False}


def tris_config(weights: Mapping[str, Tensor], options: ConversionOptions = PUBLISHED) -> dict[str, Any]:
    """Arguments of `TRIS` from the official names of the whole network."""
    widths = [shape(weights, f"reduced_c{level}.conv.weight", 4)[0] for level in (1, 2, 3, 4)]
    return {"clip": _clip(weights), "widths": widths, "keep_end_token": False}


def _clip(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    return clip_config(inner(weights, "backbone.")) | {"attention_pool": False}
