"""Sources of encoders and tokenizers: the Hub, a folder, or a configuration with random weights."""

from functools import cache
from pathlib import Path
from typing import Any, cast

from torch import nn
from transformers import AutoConfig, AutoTokenizer, BertTokenizer, CLIPTokenizer, PreTrainedTokenizerBase

from maskris.models.encoders.tokenizers import build_clip_tokenizer

Source = dict[str, Any] | str | Path
"""A Hub id, a local folder, or the values of a configuration with its ``model_type`` (random weights then)."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_UNDECLARED = {
    "deberta-v2": (
        *("position_buckets", "share_att_key", "norm_rel_ebd", "conv_kernel_size", "conv_act", "conv_groups"),
        *("attention_head_size", "embedding_size"),
    )
}
"""Keys that a model of `transformers` uses though its configuration doesn't declare them."""


def read_config(source: Source, **options: Any) -> Any:
    """The configuration of `transformers` that `source` stands for, with `options` in place of its own values.

    Raises:
        OSError: If there is nothing at `source`.
        ValueError: If a dict has no ``model_type``, or keys that its kind doesn't know.
    """
    if not isinstance(source, dict):
        try:
            return AutoConfig.from_pretrained(source, **options)
        except OSError as error:
            raise OSError(f"The encoder {source} is no local folder and could not be loaded: {error}") from error
    if "model_type" not in source:
        raise ValueError(f"A configuration needs its model_type, such as 'swin' or 'bert'; got {sorted(source)}")
    # transformers takes any key and forgets it, so that a misspelt one would change nothing and say nothing.
    if unknown := sorted(key for key in source if key not in options and not _knows(source["model_type"], key)):
        raise ValueError(f"A configuration of {source['model_type']} has no key {', '.join(unknown)}")
    return AutoConfig.for_model(**{**source, **options})


def describe(model: nn.Module) -> dict[str, Any]:
    """The configuration of a model of `transformers` as JSON types; building from it gives the same architecture."""
    config = cast(Any, model).config
    values = config.to_diff_dict()
    computed = {"transformers_version", "architectures", "stage_names", "dtype", "model_type"}
    if "depths" in values and "embed_dim" in values:  # the Swin family: these follow from the two
        computed |= {"num_layers", "hidden_size"}
    # Published configurations carry keys of other times (bert-base-uncased has gradient_checkpointing): left behind.
    kept = {key: value for key, value in values.items() if key not in computed and _knows(config.model_type, key)}
    return {"model_type": config.model_type, **kept}


def _knows(kind: str, key: str) -> bool:
    return key in _UNDECLARED.get(kind, ()) or hasattr(_default(kind), key)


@cache
def _default(kind: str) -> Any:
    return AutoConfig.for_model(kind)


def build_tokenizer(source: str | Path | list[str] | PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer from a Hub id, a folder, or a list of words.

    A list becomes a lower-case WordPiece tokenizer with the five special tokens of BERT in front; if the list
    already begins with ``[PAD]``, it is taken as a whole vocabulary. CLIP's tokenizer gets the stand-in for masks
    that it lacks, see `maskris.models.encoders.tokenizers`.
    """
    if isinstance(source, list):
        tokens = source if source[:1] == ["[PAD]"] else [*SPECIAL_TOKENS, *source]
        return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    tokenizer = AutoTokenizer.from_pretrained(source) if isinstance(source, (str, Path)) else source
    return build_clip_tokenizer(tokenizer) if isinstance(tokenizer, CLIPTokenizer) else tokenizer
