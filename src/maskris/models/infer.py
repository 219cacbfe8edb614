"""The configuration of a published network, read off the shapes of its weights."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, Literal

from torch import Tensor
from transformers import BertConfig

Kind = Literal["maskris", "swin"]

_SWIN_PREFIX = "backbone.vis_encoder."
_BERT_PREFIX = "backbone.lang_encoder."


def kind_of(weights: Mapping[str, Tensor]) -> Kind:
    """What the names say: the whole official network, or an ImageNet Swin.

    Raises:
        ValueError: If they say neither.
    """
    if any(name.startswith(_SWIN_PREFIX) for name in weights) and any(n.startswith("pixel_decoder.") for n in weights):
        return "maskris"
    if "patch_embed.proj.weight" in weights and any(name.startswith("layers.0.blocks.") for name in weights):
        return "swin"
    raise ValueError(
        "These weights are neither those of the official MaskRIS or CARIS (backbone.vis_encoder.*, pixel_decoder.*) "
        "nor of a Swin trained on ImageNet (patch_embed.*, layers.*): the first names are "
        f"{', '.join(list(weights)[:3])}"
    )


def swin_config(weights: Mapping[str, Tensor], window: int | None = None) -> dict[str, Any]:
    """Values for `transformers.SwinConfig` from official names.

    Args:
        weights: Names and tensors of a Swin.
        window: Another window size than that of the bias tables.

    Raises:
        ValueError: If a name is missing or a shape makes no sense.
    """
    width, channels, patch, _ = _shape(weights, "patch_embed.proj.weight", 4)
    depths = [
        _count(weights, rf"layers\.{stage}\.blocks\.(\d+)\.") for stage in range(_count(weights, r"layers\.(\d+)\."))
    ]
    tables = [
        _shape(weights, f"layers.{stage}.blocks.0.attn.relative_position_bias_table", 2) for stage in range(len(depths))
    ]
    side = math.isqrt(tables[0][0])
    if side * side != tables[0][0] or side % 2 == 0:
        raise ValueError(f"A bias table needs (2 window - 1)² rows, not {tables[0][0]}")
    return {
        "model_type": "swin",
        "embed_dim": width,
        "depths": depths,
        "num_heads": [heads for _, heads in tables],
        "window_size": window or (side + 1) // 2,
        "patch_size": patch,
        "num_channels": channels,
        "mlp_ratio": _ratio(weights, "layers.0.blocks.0.mlp.fc1.weight"),
        "qkv_bias": "layers.0.blocks.0.attn.qkv.bias" in weights,
    }


def bert_config(
    weights: Mapping[str, Tensor], heads: int | None = None, described: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Values for `transformers.BertConfig`.

    Args:
        weights: Names and tensors of a BERT.
        heads: Attention heads, which leave no trace in the shapes; one for every 64 channels by default, as in every
            published BERT.
        described: A known configuration, which must agree with the shapes and gives the rest (heads, activation, ...).

    Raises:
        ValueError: If a name is missing, `described` contradicts the shapes, or the heads must be given because 64
            doesn't divide the width.
    """
    vocabulary, width = _shape(weights, "embeddings.word_embeddings.weight", 2)
    shapes = {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": _count(weights, r"encoder\.layer\.(\d+)\."),
        "intermediate_size": _shape(weights, "encoder.layer.0.intermediate.dense.weight", 2)[0],
        "max_position_embeddings": _shape(weights, "embeddings.position_embeddings.weight", 2)[0],
        "type_vocab_size": _shape(weights, "embeddings.token_type_embeddings.weight", 2)[0],
    }
    if described is not None:
        known = BertConfig(**{key: value for key, value in described.items() if key != "model_type"}).to_dict()
        known["model_type"] = described.get("model_type")
        wrong = [f"{key} is {known[key]}, not {value}" for key, value in shapes.items() if known[key] != value]
        if wrong:
            raise ValueError(f"The given text configuration contradicts the weights: {'; '.join(wrong)}")
        shapes |= described
        heads = heads or known["num_attention_heads"]
    if heads is None and width % 64:
        raise ValueError(
            f"The text encoder's number of heads can't be guessed: its width {width} is no multiple of 64. Give the "
            "heads (text_heads) or the text encoder's configuration (text)"
        )
    return shapes | {"num_attention_heads": heads or width // 64}


def caris_config(
    weights: Mapping[str, Tensor],
    *,
    heads: int = 8,
    prompt_levels: Sequence[int] | None = None,
    text_heads: int | None = None,
    text: Mapping[str, Any] | None = None,
    window: int | None = None,
) -> dict[str, Any]:
    """Arguments of `CARIS` from the official names of the whole network.

    Args:
        weights: Names and tensors of the official network.
        heads: Heads of the decoder's attentions, which leave no trace in the shapes (8 as published).
        prompt_levels: Sides of the grids of the conditional prompts; by default those that explain the number of
            prompts.
        text_heads: Heads of the text encoder, see `bert_config`.
        text: Known configuration of the text encoder, see `bert_config`.
        window: Another window size for Swin, see `swin_config`.

    Raises:
        ValueError: If a name is missing, or shapes and given numbers contradict each other.
    """
    levels, width = _shape(weights, "pixel_decoder.level_encoding.weight", 2)
    offsets = _shape(weights, "pixel_decoder.encoder.0.vis_self_attn.attention_weights.weight", 2)[0]
    points, remainder = divmod(offsets, heads * levels)
    if remainder:
        raise ValueError(
            f"{heads} heads don't fit: {offsets} attention weights over {levels} levels must divide evenly"
        )
    if prompt_levels is None:
        prompt_levels = _prompt_levels(
            _count(weights, r"backbone\.conditional_prompts\.in_linears\.(\d+)\."),
            _shape(weights, "backbone.conditional_prompts.lang_prompts.weight", 2)[0],
        )
    return {
        "vision": swin_config(_inner(weights, _SWIN_PREFIX), window),
        "text": bert_config(_inner(weights, _BERT_PREFIX), text_heads, text),
        "width": width,
        "layers": _count(weights, r"pixel_decoder\.encoder\.(\d+)\."),
        "heads": heads,
        "points": points,
        "levels": levels,
        "prompts": _shape(weights, "pixel_decoder.vis_prompts.weight", 2)[0],
        "prompt_levels": list(prompt_levels),
        "ffn_ratio": _whole(_ratio(weights, "pixel_decoder.encoder.0.vis_mlp.fc1.weight")),
        "attention_ratio": _whole(_ratio(weights, "pixel_decoder.encoder.0.v2l_cross_attn.q_proj.weight")),
    }


def _prompt_levels(grids: int, prompts: int) -> list[int]:
    """The sides of `grids` grids with `prompts` cells in all: 1, 2, ... if that fits, else the only sides that fit."""
    usual = tuple(range(1, grids + 1))
    fitting = [
        sides
        for sides in combinations_with_replacement(range(1, math.isqrt(prompts) + 1), grids)
        if sum(side * side for side in sides) == prompts
    ]
    if usual in fitting:
        return list(usual)
    if len(fitting) == 1:
        return list(fitting[0])
    raise ValueError(
        f"{prompts} conditional prompts from {grids} grids: the sides could be "
        f"{' or '.join(map(str, map(list, fitting))) or 'nothing that fits'}; give prompt_levels"
    )


def _inner(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _shape(weights: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in weights:
        raise ValueError(f"The configuration can't be read off these weights: {name} is missing")
    shape = tuple(weights[name].shape)
    if len(shape) != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, not the shape {list(shape)}")
    return shape


def _ratio(weights: Mapping[str, Tensor], name: str) -> float:
    outer, inner = _shape(weights, name, 2)
    return outer / inner


def _whole(ratio: float) -> int:
    if ratio != int(ratio):
        raise ValueError(f"An inner width must be a multiple of the width, not {ratio} times")
    return int(ratio)


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the highest number that `pattern` finds."""
    return max((int(match.group(1)) for name in weights if (match := re.match(pattern, name))), default=-1) + 1
