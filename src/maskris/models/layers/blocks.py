"""Blocks of small networks that learn from nothing."""

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
