"""Published files in small: the official names and containers, with networks built in a blink."""

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from models import literal, literal_lavt
from transformers import BertTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "left", "right", "man", "on", "dog"]
CONFIG: dict[str, Any] = {
    "vision": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 7},
    "text": {"vocab_size": len(WORDS), "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    | {"intermediate_size": 16, "max_position_embeddings": 24},
    **{"width": 16, "layers": 1, "heads": 8, "points": 1, "levels": 3, "prompts": 3, "prompt_levels": [1, 2]},
    **{"ffn_ratio": 1, "attention_ratio": 1, "fusion_heads": [1, 1, 1, 1]},
}


def write_caris(file: Path, seed: int = 0) -> Path:
    """An ordered dictionary of the weights alone, in PyTorch's legacy format."""
    weights = {name: torch.from_numpy(value) for name, value in literal.random_weights(CONFIG, seed).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(OrderedDict(weights), file, _use_new_zipfile_serialization=False)
    return file


def write_lavt(file: Path, *, one: bool) -> Path:
    """What its training script leaves: with BERT among the weights (``lavt_one``), or in a dictionary of its own."""
    weights = {name: torch.from_numpy(value) for name, value in literal_lavt.random_weights(CONFIG, 0).items()}
    inside = "text_encoder."
    parts: dict[str, Any] = {"model": weights}
    if not one:
        parts = {
            "model": {name: value for name, value in weights.items() if not name.startswith(inside)},
            "bert_model": {n.removeprefix(inside): value for n, value in weights.items() if n.startswith(inside)},
        }
    rest = {"optimizer": {"state": {}, "param_groups": []}, "epoch": 39, "lr_scheduler": {"last_epoch": 39}}
    arguments = argparse.Namespace(img_size=64, model="lavt_one" if one else "lavt", lr=5e-5)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**parts, **rest, "args": arguments}, file)
    return file


def write_vocabulary(folder: Path) -> Path:
    """A tokenizer of BERT as it lies on the Hub."""
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder
