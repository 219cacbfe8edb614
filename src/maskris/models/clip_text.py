"""CLIP's text transformer (Radford et al., 2021), written so that another network can run it block by block."""

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU with which OpenAI's weights were trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """Pre-norm self-attention and feed-forward network, each with a residual.

    Args:
        width: Channels D.
        heads: Heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_2 = nn.LayerNorm(width)

    def reset_parameters(self, depth: int) -> None:
        """OpenAI's initial weights; `depth` is the number of blocks of the transformer."""
        width = self.attn.embed_dim
        residual = width**-0.5 * (2 * depth) ** -0.5
        nn.init.normal_(cast(Tensor, self.attn.in_proj_weight), std=width**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=residual)
        nn.init.normal_(cast(nn.Linear, self.mlp.c_fc).weight, std=(2 * width) ** -0.5)
        nn.init.normal_(cast(nn.Linear, self.mlp.c_proj).weight, std=residual)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One block.

        Args:
            x: ``[N, L, D]``.
            mask: ``[L, L]`` bool, true where row must not look at column; all may be seen by default.

        Returns:
            ``[N, L, D]``.
        """
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + cast(Tensor, self.mlp(self.ln_2(x)))


class CLIPTextTransformer(nn.Module):
    """Words and a sentence vector from token ids; padding needs no mask, since no word looks to its right.

    Whole: ``words, state = text(input_ids)``. Step by step::

        x = text.embed(input_ids)
        mask = text.causal_mask(x)
        for block in text.blocks:
            x = block(x, mask)
        words, state = text.finish(x, input_ids)

    Args:
        embed_dim: Channels E of the sentence vector.
        context_length: Most tokens of a sentence.
        vocab_size: Number of token ids.
        width: Channels D of the words.
        heads: Heads of every attention.
        layers: Number of blocks.
    """

    def __init__(
        self, embed_dim: int, context_length: int, vocab_size: int, width: int, heads: int, layers: int
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.blocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """OpenAI's initial weights."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=self.text_projection.shape[0] ** -0.5)
        for block in self.blocks:
            cast(ResidualAttentionBlock, block).reset_parameters(len(self.blocks))

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids ``[N, L]`` to tokens with their positions ``[N, L, D]``.

        Raises:
            ValueError: If the sentences are longer than `context_length`.
        """
        length, most = input_ids.shape[1], self.positional_embedding.shape[0]
        if length > most:
            raise ValueError(f"CLIP's text encoder takes at most {most} tokens, not {length}")
        return cast(Tensor, self.token_embedding(input_ids)) + self.positional_embedding[:length]

    @staticmethod
    def causal_mask(x: Tensor) -> Tensor:
        """The mask of the blocks for tokens ``[N, L, D]``: ``[L, L]`` bool, true above the diagonal."""
        return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)

    def finish(self, x: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the last block leaves ``[N, L, D]`` to words ``[N, L, D]`` and the sentence vector ``[N, E]``.

        The sentence vector is the projected word at the end of text, whose id is the largest of the vocabulary.
        """
        words: Tensor = self.ln_final(x)
        end = input_ids.argmax(dim=1)
        return words, words[torch.arange(len(words), device=words.device), end] @ self.text_projection

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids ``[N, L]`` to words ``[N, L, D]`` and the sentence vector ``[N, E]``."""
        x = self.embed(input_ids)
        mask = self.causal_mask(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.finish(x, input_ids)
