"""Expressions to token ids: the text encoder's own tokenizer, with the field's conventions around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Tokens:
    """What `ExpressionTokenizer` makes of `N` expressions.

    Attributes:
        input_ids: ``[N, L]`` int64, padded at the right.
        attention_mask: ``[N, L]`` int64, 1 for tokens and 0 for padding.
        truncated: ``[N]`` bool, true where the sentence was too long and lost its last words.
    """

    input_ids: Tensor
    attention_mask: Tensor
    truncated: Tensor


class ExpressionTokenizer:
    """A Hugging Face tokenizer that treats every expression as plain text.

    A literal ``[MASK]`` or ``[SEP]`` in a sentence stays text and never becomes a special token, and a sentence that is
    too long loses its last words but keeps its end token. (The official code does neither.)

    Args:
        tokenizer: The text encoder's tokenizer.
        max_length: Most tokens of a sentence, special tokens included (20 in MaskRIS).

    Raises:
        ValueError: If `max_length` leaves no room for a word, or the tokenizer has no padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int = 20) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError(f"{type(tokenizer).__name__} has no padding token; set tokenizer.pad_token first")
        if max_length <= tokenizer.num_special_tokens_to_add():
            raise ValueError(f"max_length = {max_length} leaves no room for a word beside the special tokens")
        self.tokenizer = tokenizer
        self.max_length = max_length

    def __call__(self, expressions: Sequence[str], pad_to: int | None = None) -> Tokens:
        """Tokenise expressions.

        Args:
            expressions: Any number of sentences.
            pad_to: Length to pad to; by default that of the longest sentence. Never changes what a model computes.
        """
        encoded = self.tokenizer(list(expressions), split_special_tokens=True, add_special_tokens=True)["input_ids"]
        kept = [self._truncate(ids) for ids in encoded]
        length = pad_to or max((len(ids) for ids in kept), default=0)
        input_ids = torch.full((len(kept), length), self.pad_id, dtype=torch.int64)
        attention_mask = torch.zeros_like(input_ids)
        for i, ids in enumerate(kept):
            input_ids[i, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            attention_mask[i, : len(ids)] = 1
        truncated = torch.tensor([len(ids) > self.max_length for ids in encoded], dtype=torch.bool)
        return Tokens(input_ids, attention_mask, truncated)

    def _truncate(self, ids: list[int]) -> list[int]:
        if len(ids) <= self.max_length:
            return ids
        end = ids[-1:] if ids[-1] in self.special_ids else []
        return ids[: self.max_length - len(end)] + end

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return int(self.tokenizer.pad_token_id)

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token, or ``None`` where the tokenizer has none (CLIP)."""
        mask_id = self.tokenizer.mask_token_id
        return None if mask_id is None else int(mask_id)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that are not words: padding, unknown, start, end and mask."""
        return frozenset(self.tokenizer.all_special_ids)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, added tokens included."""
        return len(self.tokenizer)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer's files, as `transformers` does."""
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, source: str | Path, max_length: int = 20) -> "ExpressionTokenizer":
        """Load from a Hub id or a local folder."""
        return cls(AutoTokenizer.from_pretrained(source), max_length)
