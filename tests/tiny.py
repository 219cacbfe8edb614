"""What tests of whole commands share: encoders built in a blink, and one thread to run them on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

SWIN = {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4}


def bert(vocab_size: int) -> dict[str, Any]:
    """Configuration of a text encoder of one layer."""
    return {
        "model_type": "bert",
        "vocab_size": vocab_size,
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 24,
    }


@contextmanager
def single_thread() -> Iterator[None]:
    """The networks are too small for threads, and what is compared bit for bit needs the same number of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
