"""Swin and BERT as the published networks contain them."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import BertConfig

from maskris.models.official.rules import Dropped, Rule, below
from maskris.models.official.shapes import count, ratio, shape

SWIN_RULES: list[Rule] = [
    (r"mask_token", Dropped("a dead parameter: the masking of tokens inside Swin is never switched on")),
    (r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_index", Dropped("a table that follows from the window")),
    (r"layers\.\d+\.blocks\.\d+\.attn_mask", Dropped("a mask that follows from the image size")),
    (r"patch_embed\.proj\.(.+)", r"embeddings.patch_embeddings.projection.\1"),
    (r"patch_embed\.norm\.(.+)", r"embeddings.norm.\1"),
    (r"(layers\.\d+\.blocks\.\d+)\.norm1\.(.+)", r"encoder.\1.layernorm_before.\2"),
    (r"(layers\.\d+\.blocks\.\d+)\.norm2\.(.+)", r"encoder.\1.layernorm_after.\2"),
    (
        r"(layers\.\d+\.blocks\.\d+)\.attn\.(relative_position_bias_table)",
        r"encoder.\1.attention.relative_position_bias.\2",
    ),
    (r"(layers\.\d+\.blocks\.\d+)\.attn\.qkv\.(.+)", r"encoder.\1.attention.{q,k,v}_proj.\2"),
    (r"(layers\.\d+\.blocks\.\d+)\.attn\.proj\.(.+)", r"encoder.\1.attention.o_proj.\2"),
    (r"(layers\.\d+\.blocks\.\d+\.mlp\..+)", r"encoder.\1"),
    (r"(layers\.\d+\.downsample\..+)", r"encoder.\1"),
]


SWIN_IMAGENET_RULES: list[Rule] = [
    (r"head\..+", Dropped("the classifier")),
    (r"norm\..+", Dropped("the norm before the classifier: every stage has a norm of its own instead")),
    *below("", "swin.", SWIN_RULES),
]


def swin_config(weights: Mapping[str, Tensor], window: int | None = None) -> dict[str, Any]:
    """Values for `transformers.SwinConfig` from official names.

    Args:
        weights: Names and tensors of a Swin.
        window: Another window size than that of the bias tables.

    Raises:
        ValueError: If a name is missing or a shape makes no sense.
    """
    width, channels, patch, _ = shape(weights, "patch_embed.proj.weight", 4)
    depths = [
        count(weights, rf"layers\.{stage}\.blocks\.(\d+)\.") for stage in range(count(weights, r"layers\.(\d+)\."))
    ]
    tables = [
        shape(weights, f"layers.{stage}.blocks.0.attn.relative_position_bias_table", 2) for stage in range(len(depths))
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
        "mlp_ratio": ratio(weights, "layers.0.blocks.0.mlp.fc1.weight"),
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
    vocabulary, width = shape(weights, "embeddings.word_embeddings.weight", 2)
    shapes = {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": count(weights, r"encoder\.layer\.(\d+)\."),
        "intermediate_size": shape(weights, "encoder.layer.0.intermediate.dense.weight", 2)[0],
        "max_position_embeddings": shape(weights, "embeddings.position_embeddings.weight", 2)[0],
        "type_vocab_size": shape(weights, "embeddings.token_type_embeddings.weight", 2)[0],
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
