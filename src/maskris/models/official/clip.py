"""CLIP under OpenAI's names and under those of transformers."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskris.models.official.rules import Dropped, Rule
from maskris.models.official.shapes import count, shape

CLIP_RULES: list[Rule] = [
    (
        r"logit_scale|logit_bias",
        Dropped("the temperature of CLIP's contrastive loss, which has no part in the features"),
    ),
    (r"input_resolution|context_length|vocab_size", Dropped("numbers that the shapes tell")),
    (r"visual\.transformer\.resblocks\.(.+)", r"visual.blocks.\1"),
    (r"(visual\..+)", r"\1"),
    (r"transformer\.resblocks\.(.+)", r"text.blocks.\1"),
    (r"((?:positional_embedding|token_embedding|ln_final|text_projection).*)", r"text.\1"),
]


def clip_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `CLIP` from OpenAI's names; heads have 64 channels, as in all that OpenAI has published.

    Args:
        weights: Names and tensors.

    Raises:
        ValueError: If a name is missing or a shape makes no sense.
    """
    width, embed_dim = shape(weights, "text_projection", 2)
    common = {
        "embed_dim": embed_dim,
        "context_length": shape(weights, "positional_embedding", 2)[0],
        "vocab_size": shape(weights, "token_embedding.weight", 2)[0],
        "transformer_width": width,
        "transformer_layers": count(weights, r"transformer\.resblocks\.(\d+)\."),
    }
    if "visual.proj" in weights:
        vision_width, _, patch, _ = shape(weights, "visual.conv1.weight", 4)
        side = _side(weights, "visual.positional_embedding")
        return common | {
            "vision_layers": count(weights, r"visual\.transformer\.resblocks\.(\d+)\."),
            "vision_width": vision_width,
            "vision_patch_size": patch,
            "image_resolution": side * patch,
        }
    return common | {
        "vision_layers": [count(weights, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)],
        "vision_width": shape(weights, "visual.conv3.weight", 4)[0],
        "vision_patch_size": None,
        "image_resolution": _side(weights, "visual.attnpool.positional_embedding") * 32,
    }


def _side(weights: Mapping[str, Tensor], name: str) -> int:
    rows = shape(weights, name, 2)[0]
    side = math.isqrt(max(0, rows - 1))
    if side * side != rows - 1:
        raise ValueError(f"{name} needs 1 + s² rows for a grid of s x s positions, not {rows}")
    return side


_TRANSFORMERS = [
    (r"text_model\.embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm\.(.+)", r"ln_final.\1"),
    (r"text_projection\.weight", "text_projection"),
    (r"text_model\.encoder\.layers\.(.+)", r"transformer.resblocks.\1"),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.(.+)", r"visual.ln_pre.\1"),  # so spelt in transformers
    (r"vision_model\.post_layernorm\.(.+)", r"visual.ln_post.\1"),
    (r"visual_projection\.weight", "visual.proj"),
    (r"vision_model\.encoder\.layers\.(.+)", r"visual.transformer.resblocks.\1"),
    (r"(logit_scale)", r"\1"),
]
_BLOCK = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of transformers' ``CLIPModel`` under OpenAI's names, with the three projections of attention in one.

    Raises:
        ValueError: Naming every key that is unknown.
    """
    ours: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in weights.items():
        if name.endswith("position_ids"):  # 0, 1, 2, ... of old transformers
            continue
        new = next((m.expand(to) for pattern, to in _TRANSFORMERS if (m := re.fullmatch(pattern, name))), None)
        if new is None:
            unknown.append(name)
            continue
        if new in ("text_projection", "visual.proj"):
            tensor = tensor.T
        if match := re.fullmatch(r"(.+)\.self_attn\.q_proj\.(weight|bias)", new):
            parts = [weights.get(name.replace(".q_proj.", f".{part}_proj.")) for part in "qkv"]
            if any(part is None for part in parts):
                raise ValueError(f"{name} has no k_proj or v_proj beside it")
            ours[f"{match[1]}.attn.in_proj_{match[2]}"] = torch.cat([part for part in parts if part is not None])
        elif not re.search(r"\.self_attn\.[kv]_proj\.", new):
            for theirs, openai in _BLOCK.items():
                new = new.replace(f".{theirs}.", f".{openai}.")
            ours[new] = tensor
    if unknown:
        raise ValueError(f"These names are not of a CLIP of transformers: {', '.join(unknown[:5])}")
    return ours
