"""Sources of encoders and tokenizers: the Hub, a folder, a package, or a configuration with random weights."""

from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, BertTokenizer, CLIPTokenizer, PreTrainedTokenizerBase

from maskris.models.encoders.packaged import locate
from maskris.models.encoders.tokenizers import build_clip_tokenizer, load_tokenizer, words_or_source

Source = dict[str, Any] | str | Path
"""A Hub id, a local folder, an encoder of the extra ``photos`` (``package:all-minilm-l6-v2``), or the values of a
configuration with its ``model_type`` (random weights then)."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_TELLING = ("tokenizer.json", "tokenizer_config.json", "config.json")
"""Files from any of which `transformers` knows what a tokenizer is."""

_UNDECLARED = {
    "deberta-v2": (
        *("position_buckets", "share_att_key", "norm_rel_ebd", "conv_kernel_size", "conv_act", "conv_groups"),
        *("attention_head_size", "embedding_size"),
    )
}
"""Keys that a model of `transformers` uses though its configuration doesn't declare them."""


def read_config(source: Source, **options: Any) -> Any:
    """The configuration of `transformers` that `source` stands for, with `options` in place of its own values.

    It asks for single precision, in which everything is trained: by themselves, models of `transformers` have the
    precision that their configuration names, else that of their file.

    Raises:
        OSError: If there is nothing at `source`.
        ValueError: If a dict has no ``model_type``, or keys that its kind doesn't know.
    """
    if not isinstance(source, dict):
        try:
            return _in_single_precision(AutoConfig.from_pretrained(source, **options))
        except OSError as error:
            raise OSError(f"The encoder {source} is no local folder and could not be loaded: {error}") from error
    if "model_type" not in source:
        raise ValueError(f"A configuration needs its model_type, such as 'swin' or 'bert'; got {sorted(source)}")
    # transformers takes any key and forgets it, so that a misspelt one would change nothing and say nothing.
    if unknown := sorted(key for key in source if key not in options and not _knows(source["model_type"], key)):
        raise ValueError(f"A configuration of {source['model_type']} has no key {', '.join(unknown)}")
    return _in_single_precision(AutoConfig.for_model(**{**source, **options}))


def _in_single_precision(config: Any) -> Any:
    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        if part is not None:
            part.dtype = torch.float32
    return config


def describe(model: nn.Module) -> dict[str, Any]:
    """The configuration of a model of `transformers` as JSON types; building from it gives the same architecture."""
    config = cast(Any, model).config
    values = config.to_diff_dict()
    computed = {"transformers_version", "architectures", "stage_names", "dtype", "model_type"}
    values = {key: _without_dtype(value) for key, value in values.items()}
    if "depths" in values and "embed_dim" in values:  # the Swin family: these follow from the two
        computed |= {"num_layers", "hidden_size"}
    # Published configurations carry keys of other times (bert-base-uncased has gradient_checkpointing): left behind.
    kept = {key: value for key, value in values.items() if key not in computed and _knows(config.model_type, key)}
    return {"model_type": config.model_type, **kept}


def _without_dtype(value: Any) -> Any:
    return {key: each for key, each in value.items() if key != "dtype"} if isinstance(value, dict) else value


def _knows(kind: str, key: str) -> bool:
    return key in _UNDECLARED.get(kind, ()) or hasattr(_default(kind), key)


@cache
def _default(kind: str) -> Any:
    return AutoConfig.for_model(kind)


def build_tokenizer(source: str | Path | list[str] | PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer from a Hub id, a folder or package, BERT's ``vocab.txt`` (or a folder with it), or a list of words.

    A list becomes a lower-case WordPiece tokenizer with the five special tokens of BERT in front; if the list
    already begins with ``[PAD]``, it is taken as a whole vocabulary. A ``vocab.txt`` keeps capital letters if it has
    words with them, as those of BERT's cased models have. ``maskris/shapes`` names the words of the embedded data set.
    CLIP's tokenizer gets the stand-in for masks that it lacks, see `maskris.models.encoders.tokenizers`.

    Raises:
        ImportError: If its package is not installed.
        OSError: If there is no such tokenizer, or no word in it.
        ValueError: If a ``vocab.txt`` is none of BERT's.
    """
    source = locate(words_or_source(source))
    if isinstance(source, list):
        tokens = source if source[:1] == ["[PAD]"] else [*SPECIAL_TOKENS, *source]
        return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.suffix == ".txt":
            return _from_vocabulary(path)
        if (path / "vocab.txt").is_file() and not any((path / name).is_file() for name in _TELLING):
            return _from_vocabulary(path / "vocab.txt")
        source = load_tokenizer(source)
    return build_clip_tokenizer(source) if isinstance(source, CLIPTokenizer) else source


def _from_vocabulary(path: Path) -> PreTrainedTokenizerBase:
    words = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    if missing := [token for token in SPECIAL_TOKENS if token not in words]:
        raise ValueError(f"{path} is no vocabulary of BERT, one token a line: it lacks {', '.join(missing)}")
    cased = any(word != word.lower() and not word.startswith("[") for word in words)
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)}, do_lower_case=not cased)
