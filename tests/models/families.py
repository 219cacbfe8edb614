"""Tiny random configurations of every family of encoders that the models are promised to work with."""

from typing import Any

from models.small import BERT, SWIN

_FOUR = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}
_PLAIN = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}

VISION: dict[str, dict[str, Any]] = {
    "swin": SWIN,
    "swinv2": {"embed_dim": 8, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4, "image_size": 64},
    "convnext": _FOUR,
    "convnextv2": _FOUR,
    "dinov3_convnext": _FOUR,
    "resnet": {"embedding_size": 8, **_FOUR, "layer_type": "basic"},
    "pvt_v2": {**_FOUR, "num_attention_heads": [1, 1, 2, 2]},
    "focalnet": {"embed_dim": 8, **_FOUR, "focal_levels": [1] * 4, "focal_windows": [3] * 4},
    "dinov2": {**_PLAIN, "image_size": 56, "patch_size": 14},
    "dinov2_with_registers": {**_PLAIN, "image_size": 56, "patch_size": 14},
    "dinov3_vit": {**_PLAIN, "intermediate_size": 64, "image_size": 64, "num_register_tokens": 2},
    "beit": {**_PLAIN, "intermediate_size": 64, "image_size": 64, "use_relative_position_bias": True},
}
STRIDES = {"focalnet": [8, 16, 32, 32], "dinov2": [14] * 4, "dinov2_with_registers": [14] * 4}
STRIDES |= {"dinov3_vit": [16] * 4, "beit": [16] * 4}

TEXT: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": {**BERT, "pad_token_id": 0},
    "electra": {**BERT, "embedding_size": 16},
    "clip_text_model": {**BERT, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
    "deberta-v2": {
        **{**BERT, "relative_attention": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm"},
        **{"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "share_att_key": True},
    },
    "distilbert": {
        **{"vocab_size": 40, "dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 24}
    },
}
KIN = ("camembert", "data2vec-text", "ernie", "megatron-bert", "xlm-roberta")
"""BERT's and RoBERTa's, under other names."""


def vision(kind: str) -> dict[str, Any]:
    return {**VISION[kind], "model_type": kind}


def text(kind: str) -> dict[str, Any]:
    return {**TEXT.get(kind, {**BERT, "pad_token_id": 0}), "model_type": kind}
