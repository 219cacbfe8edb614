"""The official MaskRIS and CARIS."""

import math
from collections.abc import Mapping
from itertools import combinations_with_replacement
from typing import Any

from torch import Tensor

from maskris.models.weights.encoders import BERT_RULES, SWIN_RULES, bert_config, swin_config
from maskris.models.weights.options import PUBLISHED, ConversionOptions
from maskris.models.weights.rules import Dropped, Rule, below, count, inner, shape

CARIS_RULES: list[Rule] = [
    (r"criterion\.seg_criterion\.weight", Dropped("class weights of the loss, which belong to the strategy")),
    *below(r"backbone\.vis_encoder\.", "vision.backbone.", SWIN_RULES),
    *below(r"backbone\.lang_encoder\.", "text.", BERT_RULES),
    (r"backbone\.conditional_prompts\.lang_prompts_norm\.(.+)", r"conditional_prompts.norm.\1"),
    (r"backbone\.(conditional_prompts\..+)", r"\1"),
    (r"pixel_decoder\.encoder\.(\d+\.(?:lang|vis)_mlp)\.fc1\.(.+)", r"decoder.layers.\1.0.\2"),
    (r"pixel_decoder\.encoder\.(\d+\.(?:lang|vis)_mlp)\.fc2\.(.+)", r"decoder.layers.\1.2.\2"),
    (r"pixel_decoder\.encoder\.(.+)", r"decoder.layers.\1"),
    (r"pixel_decoder\.((?:input|lateral|output)_convs\.\d+)\.conv\.(.+)", r"decoder.\1.0.\2"),
    (r"pixel_decoder\.((?:input|lateral|output)_convs\.\d+)\.gn\.(.+)", r"decoder.\1.1.\2"),
    (r"pixel_decoder\.(.+)", r"decoder.\1"),
]


def caris_config(weights: Mapping[str, Tensor], options: ConversionOptions = PUBLISHED) -> dict[str, Any]:
    """Arguments of `CARIS` from the official names of the whole network."""
    levels, width = shape(weights, "pixel_decoder.level_encoding.weight", 2)
    offsets = shape(weights, "pixel_decoder.encoder.0.vis_self_attn.attention_weights.weight", 2)[0]
    points, remainder = divmod(offsets, options.heads * levels)
    if remainder:
        raise ValueError(
            f"{options.heads} heads don't fit: {offsets} attention weights over {levels} levels must divide evenly"
        )
    prompt_levels = options.prompt_levels or _prompt_levels(
        count(weights, r"backbone\.conditional_prompts\.in_linears\.(\d+)\."),
        shape(weights, "backbone.conditional_prompts.lang_prompts.weight", 2)[0],
    )
    return {
        "vision": swin_config(inner(weights, "backbone.vis_encoder."), options.window),
        "text": bert_config(inner(weights, "backbone.lang_encoder."), options),
        "width": width,
        "layers": count(weights, r"pixel_decoder\.encoder\.(\d+)\."),
        "heads": options.heads,
        "points": points,
        "levels": levels,
        "prompts": shape(weights, "pixel_decoder.vis_prompts.weight", 2)[0],
        "prompt_levels": list(prompt_levels),
        "ffn_ratio": _ratio(weights, "pixel_decoder.encoder.0.vis_mlp.fc1.weight"),
        "attention_ratio": _ratio(weights, "pixel_decoder.encoder.0.v2l_cross_attn.q_proj.weight"),
        "keep_end_token": False,  # so they were trained and evaluated
    }


def _ratio(weights: Mapping[str, Tensor], name: str) -> int:
    rows, columns = shape(weights, name, 2)
    if rows % columns:
        raise ValueError(f"An inner width must be a multiple of the width, not {rows / columns} times")
    return rows // columns


def _prompt_levels(grids: int, prompts: int) -> list[int]:
    """The sides of `grids` grids with `prompts` cells in all: 1, 2, ... if that fits, else the only sides that fit."""
    usual = [*range(1, grids + 1)]
    fitting = [
        [*sides]
        for sides in combinations_with_replacement(range(1, math.isqrt(prompts) + 1), grids)
        if sum(side * side for side in sides) == prompts
    ]
    if usual in fitting or len(fitting) == 1:
        return usual if usual in fitting else fitting[0]
    raise ValueError(
        f"{prompts} conditional prompts from {grids} grids: the sides could be "
        f"{' or '.join(map(str, fitting)) or 'nothing that fits'}; give prompt_levels"
    )
