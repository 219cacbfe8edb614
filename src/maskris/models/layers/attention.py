"""Attention whose inner width may exceed the features', and the sine encoding of positions."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# PyTorch before 2.7 can't tell exporting from compiling.
_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


class Attention(nn.Module):
    """Multi-head attention with an inner width of ``ratio * width``.

    The scores are not clamped (the official code clamps them at 50,000, which fp32 and bf16 never reach).

    Raises:
        ValueError: If the inner width is not a multiple of `heads`.
    """

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        inner = width * ratio
        if inner % heads:
            raise ValueError(f"The attention's inner width {inner} must be a multiple of its {heads} heads")
        self.heads, self.scale = heads, float((inner // heads) ** -0.5)
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """Attend, in whichever of three forms takes the fewest operations; all compute the same function.

        Queries ``[N, Q, D]``, keys and values ``[N, K, D]`` to ``[N, Q, D]``; `visible` ``[N, K]`` bool is false for
        keys that must not be attended to.
        """
        if _exporting():  # an exported program can't choose by the shapes it will meet
            return self.wide(query, key, value, visible)
        q, k = query.shape[1], key.shape[1]
        inner, width = self.q_proj.weight.shape
        # Multiplications that projecting the larger side would take beyond projecting the smaller one twice, and those
        # that attending at the outer width with every head takes beyond attending at the inner one.
        project, attend = (k - q) * width * inner, q * k * (self.heads * width - inner)
        if attend < project:
            return self.few_queries(query, key, value, visible)
        if attend < -project:
            return self.few_keys(query, key, value, visible)
        return self.wide(query, key, value, visible)

    def wide(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """The published form: everything is projected to the inner width."""
        q, k, v = self._split(self.q_proj(query)), self._split(self.k_proj(key)), self._split(self.v_proj(value))
        mask = None if visible is None else visible[:, None, None]  # [N, 1, 1, K]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [N, heads, Q, inner / heads]
        return cast(Tensor, self.out_proj(attended.transpose(1, 2).flatten(2)))

    def few_queries(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """For few queries, words that attend to pixels: the keys and values are not projected.

        The key projection moves into the queries, ``(W_q x)·(W_k y) = (W_kᵀ W_q x)·y``, and its bias cancels in the
        softmax; the value projection comes after the weighted sum, whose weights add up to one.
        """
        n, q, width = query.shape
        scaled = self._split(self.q_proj(query)) * self.scale  # [N, heads, Q, inner / heads]
        lifted = (scaled @ self._by_head(self.k_proj.weight)).flatten(1, 2)  # [N, heads * Q, D]
        scores = lifted @ key.transpose(1, 2)  # [N, heads * Q, K]
        if visible is not None:
            scores = scores.masked_fill(~visible[:, None], float("-inf"))
        mixed = (scores.softmax(-1).to(value.dtype) @ value).view(n, self.heads, q, width)
        values = mixed @ self._by_head(self.v_proj.weight).transpose(1, 2)  # [N, heads, Q, inner / heads]
        # Distributed training waits for the gradient of every parameter, that of the keys' bias too, which is zero.
        bias = self.v_proj.bias + 0 * self.k_proj.bias
        return cast(Tensor, self.out_proj(values.transpose(1, 2).flatten(2) + bias))

    def few_keys(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """For few keys, pixels that attend to words: the queries are not projected.

        The query projection moves into the keys and the output projection into the values.
        """
        n, k, width = key.shape
        keys = self._split(self.k_proj(key)) * self.scale  # [N, heads, K, inner / heads]
        lifted = (keys @ self._by_head(self.q_proj.weight)).flatten(1, 2)  # [N, heads * K, D]
        bias = (keys @ self.q_proj.bias.view(self.heads, -1, 1))[..., 0]  # [N, heads, K]
        if visible is not None:
            bias = bias.masked_fill(~visible[:, None], float("-inf"))
        scores = lifted @ query.transpose(1, 2) + bias.flatten(1)[:, :, None]  # [N, heads * K, Q]
        # Softmax over columns: over rows as short as a phrase the CPU takes ten times as long.
        shares = scores.view(n, self.heads, k, -1).softmax(2).flatten(1, 2)
        outer = self.out_proj.weight.view(width, self.heads, -1).permute(1, 2, 0)  # [heads, inner / heads, D]
        values = (self._split(self.v_proj(value)) @ outer).flatten(1, 2)  # [N, heads * K, D]
        return shares.to(values.dtype).transpose(1, 2) @ values + self.out_proj.bias

    def _by_head(self, weight: Tensor) -> Tensor:
        return cast(Tensor, weight.unflatten(0, (self.heads, -1)))  # [heads, inner / heads, D]

    def _split(self, x: Tensor) -> Tensor:
        return cast(Tensor, x.unflatten(-1, (self.heads, -1))).transpose(1, 2)  # [N, heads, L, inner / heads]


def sine_encoding(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Sine encoding of a grid of positions, normalized to one period (DETR; 1-based, eps 1e-6, temperature 10,000).

    Returns:
        ``[height * width, channels]`` float32, row by row; the first half of the channels, of which there must be a
        multiple of 4, for y and the second for x.
    """
    half = channels // 2
    frequency = 10000 ** (2 * torch.arange(half, device=device).div(2, rounding_mode="floor") / half)  # [half]

    def axis(length: int) -> Tensor:
        position = torch.arange(1, length + 1, device=device) / (length + 1e-6) * (2 * math.pi)
        angle = position[:, None] / frequency  # [length, half]
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    y = axis(height)[:, None].expand(height, width, half)
    x = axis(width)[None].expand(height, width, half)
    return torch.cat((y, x), dim=2).flatten(0, 1)
