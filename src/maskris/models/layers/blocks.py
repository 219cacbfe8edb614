"""Blocks of small networks that learn from nothing."""

from typing import cast

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity, each behind its normalization (within a sample) and activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.GroupNorm(8, channels), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)),
            *(nn.GroupNorm(8, channels), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[I, channels, h, w]`` to the same shape."""
        out: Tensor = x + self.branch(x)
        return out


class Transformer(nn.Sequential):
    """Layers that attend to each other's tokens, with normalization first and without dropout."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__(
            *(
                nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            )
        )

    def forward(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        """``[N, L, width]`` to the same shape; nothing attends to tokens where `padding` ``[N, L]`` bool is true."""
        for layer in self:
            tokens = layer(tokens, src_key_padding_mask=padding)
        return tokens


class CountingAttention(nn.Module):
    """Attention whose weights do not share one whole: each of the others counts or doesn't.

    A softmax tells which of the others fits best, but hardly how many do; ranks ("the second from the left") are sums.

    Raises:
        ValueError: If `width` is not a multiple of `heads`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of the {heads} heads, not {width}")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[N, K, width]`` to the same shape."""
        x = self.norm(tokens)
        q, k, v = (
            cast(Tensor, project(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [N, heads, K, width / heads]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        counted = (q @ k.mT / q.shape[-1] ** 0.5 - 1).sigmoid() @ v  # at first each counts by a quarter
        return tokens + cast(Tensor, self.out_proj(counted.transpose(1, 2).flatten(2)))
