"""Attention whose inner width may exceed the features', and the sine encoding of positions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with an inner width of ``ratio * width``.

    The scores are not clamped (the official code clamps them at 50,000, which fp32 and bf16 never reach).

    Args:
        width: Channels of queries, keys, values and output.
        heads: Number of heads.
        ratio: Inner width over `width`.

    Raises:
        ValueError: If the inner width is not a multiple of `heads`.
    """

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        inner = width * ratio
        if inner % heads:
            raise ValueError(f"The attention's inner width {inner} must be a multiple of its {heads} heads")
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            query: ``[N, Q, D]``.
            key: ``[N, K, D]``.
            value: ``[N, K, D]``.
            visible: ``[N, K]`` bool, false for keys that must not be attended to; all may by default.

        Returns:
            ``[N, Q, D]``.
        """
        q, k, v = self._split(self.q_proj(query)), self._split(self.k_proj(key)), self._split(self.v_proj(value))
        mask = None if visible is None else visible[:, None, None]  # [N, 1, 1, K]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # [N, heads, Q, inner / heads]
        output: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output

    def _split(self, x: Tensor) -> Tensor:
        split: Tensor = x.unflatten(-1, (self.heads, -1))
        return split.transpose(1, 2)  # [N, heads, L, inner / heads]


def sine_encoding(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Sine encoding of a grid of positions, normalised to one period (DETR; 1-based, eps 1e-6, temperature 10,000).

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        channels: Channels, the first half for y and the second for x; a multiple of 4.
        device: Where to make it.

    Returns:
        ``[height * width, channels]`` float32, row by row.
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
