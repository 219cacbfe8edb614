"""Token ids of expressions, by the text encoder's own tokenizer and the conventions of the field."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Tokens:
    """Token ids of `N` expressions.

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

    A literal ``[MASK]`` or ``[SEP]`` in a sentence stays text and never becomes a special token. (In the official code
    it does.)

    Args:
        tokenizer: The text encoder's tokenizer.
        max_length: Most tokens of a sentence, special tokens included (20 in MaskRIS).
        keep_end_token: Whether a sentence that is too long loses its last words alone; if false, it loses all that is
            behind `max_length` tokens, its end token too, as in the official code of MaskRIS, CARIS and LAVT.

    Raises:
        ValueError: If `max_length` leaves no place for a word, or the tokenizer has no padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int = 20, keep_end_token: bool = True) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError(f"{type(tokenizer).__name__} has no padding token; set tokenizer.pad_token first")
        if max_length <= tokenizer.num_special_tokens_to_add():
            raise ValueError(f"max_length = {max_length} leaves no room for a word beside the special tokens")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.keep_end_token = keep_end_token

    def __call__(self, expressions: Sequence[str], pad_to: int | None = None) -> Tokens:
        """Tokenize any number of sentences: `encode` and `pad` in one."""
        encoded, truncated = self.encode(expressions)
        return Tokens(*self.pad(encoded, pad_to), torch.tensor(truncated, dtype=torch.bool))

    def encode(self, expressions: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """The ids of every expression, cut to `max_length` but not padded, and whether the cut took something away.

        Raises:
            TypeError: If `expressions` is one string instead of several, or holds something else than strings.
        """
        if isinstance(expressions, str):
            raise TypeError(f"Expected a list of expressions, not the single string {expressions!r}: put it in a list")
        if wrong := [item for item in expressions if not isinstance(item, str)]:
            raise TypeError(f"An expression is a string, not {type(wrong[0]).__name__}: {wrong[0]!r}")
        if not expressions:  # transformers fails on an empty list
            return [], []
        # split_special_tokens: a literal "[MASK]" is text. verbose: lengths are dealt with here, without a warning.
        encoded: list[list[int]] = self.tokenizer(
            list(expressions), split_special_tokens=True, add_special_tokens=True, verbose=False
        )["input_ids"]
        return [self._truncate(ids) for ids in encoded], [len(ids) > self.max_length for ids in encoded]

    def pad(self, encoded: Sequence[Sequence[int]], pad_to: int | None = None) -> tuple[Tensor, Tensor]:
        """Put ids of different lengths into one tensor.

        Args:
            encoded: Ids of `N` expressions, as `encode` gives them.
            pad_to: Length to pad to; by default that of the longest. Never changes what a model computes.

        Returns:
            ``input_ids`` and ``attention_mask``, both ``[N, L]`` int64.

        Raises:
            ValueError: If a sentence is longer than `pad_to`.
        """
        lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
        longest = lengths.max(initial=0)
        length = longest if pad_to is None else pad_to
        if length < longest:
            raise ValueError(f"Can't pad to {length} tokens: a sentence has {longest} (max_length = {self.max_length})")
        attention_mask = np.arange(length) < lengths[:, None]
        input_ids = np.full((len(encoded), length), self.pad_id, dtype=np.int64)
        input_ids[attention_mask] = [token for ids in encoded for token in ids]
        return torch.from_numpy(input_ids), torch.from_numpy(attention_mask.astype(np.int64))

    def _truncate(self, ids: list[int]) -> list[int]:
        if len(ids) <= self.max_length:
            return ids
        # BERT ends with the first, CLIP with the second.
        ends = ids[-1] in (self.tokenizer.sep_token_id, self.tokenizer.eos_token_id)
        end = ids[-1:] if ends and self.keep_end_token else []
        return ids[: self.max_length - len(end)] + end

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return int(self.tokenizer.pad_token_id)

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token, or ``None`` where the tokenizer has none.

        CLIP has none either, but `maskris.models.encoders.tokenizers` registers a stand-in.
        """
        mask_id = self.tokenizer.mask_token_id
        return None if mask_id is None else int(mask_id)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that are not words: padding, unknown, start, end and mask."""
        return frozenset(self.tokenizer.all_special_ids)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, added tokens included."""
        return len(self.tokenizer)

    @cached_property
    def replacement_count(self) -> int:
        """How many ids, counted from 0, may take a word's place when words are masked at random.

        All up to the last word. BERT's special tokens come before its words, so that they are among them, as published;
        CLIP's start and end come last and are not: the sentence's embedding is that of the first largest id.
        """
        count = self.vocabulary_size
        while count - 1 in self.special_ids:
            count -= 1
        return count

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer's files, as `transformers` does."""
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, max_length: int = 20, keep_end_token: bool = True
    ) -> "ExpressionTokenizer":
        """Load from a Hub id or a local folder."""
        return cls(AutoTokenizer.from_pretrained(source), max_length, keep_end_token)
