"""A CARIS small enough to be built in a blink."""

from typing import Any

import torch

from maskris.models.caris.model import CARIS

SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 2, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 4,
}
BERT = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}
WORDS = ["the", "red", "blue", "circle", "square", "left", "right", "of", "##s"]


def small_caris(seed: int = 0, **changes: Any) -> CARIS:
    """In evaluation mode; every call with the same seed gives the same weights."""
    torch.manual_seed(seed)
    arguments: dict[str, Any] = {
        "vision": SWIN,
        "text": BERT,
        "width": 32,
        "layers": 1,
        "heads": 4,
        "points": 2,
        "tokenizer": WORDS,
        "max_tokens": 10,
        "preprocess": {"height": 64, "width": 64},
    }
    return CARIS(**(arguments | changes)).eval()
