"""What CRIS and ETRIS share behind their encoders: convolutions, the decoder and the projector (CRIS section 3)."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, batch norm and ReLU; keeps the size."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """``[N, C, h, w]`` bilinearly to another size (``align_corners=False``)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class CoordConv(nn.Module):
    """3x3 convolution with positions: two channels with x and y in [-1, 1] join its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = conv_norm(inputs + 2, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, h, w]`` to ``[N, outputs, h, w]``."""
        n, _, h, w = x.shape
        along = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype).expand(n, 1, h, w)
        down = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype)[:, None].expand(n, 1, h, w)
        return cast(Tensor, self.conv1(torch.cat([x, along, down], dim=1)))


def sine_positions(length: int, channels: int, device: torch.device | None = None) -> Tensor:
    """The sine encoding of Vaswani et al. ``[length, channels]``: sine in even, cosine in odd channels."""
    frequency = torch.exp(torch.arange(0, channels, 2, device=device) * (-math.log(10000) / channels))
    angle = torch.arange(length, device=device)[:, None] * frequency  # [length, channels / 2]
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def sine_grid(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """``[height * width, channels]``: `sine_positions` of the column in the first half, of the row in the second."""
    column = sine_positions(width, channels // 2, device).expand(height, -1, -1)
    row = sine_positions(height, channels // 2, device)[:, None].expand(-1, width, -1)
    return torch.cat([column, row], dim=2).flatten(0, 1)


class CRISDecoder(nn.Module):
    """Self-attention of the pixels and cross-attention to the words (section 3.3).

    Raises:
        ValueError: If the heads don't divide the width, or it is no multiple of 4, which the positions need.
    """

    def __init__(self, layers: int, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise ValueError(f"The decoder's width {width} must be a multiple of 4 and of its {heads} heads")
        self.layers = nn.ModuleList(CRISDecoderLayer(width, heads, ffn, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, vis: Tensor, words: Tensor, visible: Tensor) -> Tensor:
        """A map ``[N, D, h, w]`` refined by words ``[N, L, D]``; `visible` ``[N, L]`` bool is false for padding."""
        h, w = vis.shape[-2:]
        x = vis.flatten(2).transpose(1, 2)  # [N, h w, D]
        pixel_positions = sine_grid(h, w, x.shape[2], x.device).to(x.dtype)
        keys = words + sine_positions(words.shape[1], words.shape[2], words.device).to(words.dtype)
        for layer in self.layers:
            x = layer(x, words, keys, ~visible, pixel_positions)
        return cast(Tensor, self.norm(x).transpose(1, 2).unflatten(2, (h, w)))


class CRISDecoderLayer(nn.Module):
    """Pre-norm self-attention, cross-attention and feed-forward network; each attention has a norm behind it, too."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(width)
        self.cross_attn_norm = nn.LayerNorm(width)
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.ffn = nn.Sequential(
            nn.Linear(width, ffn), nn.ReLU(), nn.Dropout(dropout), nn.LayerNorm(ffn), nn.Linear(ffn, width)
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout1, self.dropout2, self.dropout3 = (nn.Dropout(dropout) for _ in range(3))

    def forward(self, x: Tensor, words: Tensor, keys: Tensor, padding: Tensor, positions: Tensor) -> Tensor:
        """Pixels ``[N, S, D]``, with positions ``[S, D]``, refined by the words ``[N, L, D]``.

        Keys are the words with their positions; `padding` ``[N, L]`` bool is true for words that must not be seen.
        """
        y = self.norm1(x)
        y, _ = self.self_attn(y + positions, y + positions, y, need_weights=False)
        x = x + self.dropout1(self.self_attn_norm(y))
        y = self.norm2(x)
        y, _ = self.multihead_attn(y + positions, keys, words, key_padding_mask=padding, need_weights=False)
        x = x + self.dropout2(self.cross_attn_norm(y))
        return x + cast(Tensor, self.dropout3(self.ffn(self.norm3(x))))


class Projector(nn.Module):
    """Dynamic 3x3 convolution made from the sentence, over the map at four times its size (section 3.4)."""

    def __init__(self, state_width: int, width: int) -> None:
        super().__init__()
        inner = width // 2
        up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.vis = nn.Sequential(
            up, conv_norm(width, width, 3), up, conv_norm(width, inner, 3), nn.Conv2d(inner, inner, 1)
        )
        self.txt = nn.Linear(state_width, inner * 9 + 1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Map ``[N, D, h, w]`` and sentence vectors ``[N, E]`` to logits ``[N, 1, 4 h, 4 w]``."""
        x = self.vis(x)  # [N, D / 2, 4 h, 4 w]
        n, c, h, w = x.shape
        weights: Tensor = self.txt(state)  # [N, 9 D / 2 + 1]
        kernel, bias = weights[:, :-1].reshape(n, c, 3, 3), weights[:, -1]
        # One group for each sample: its own kernel.
        return F.conv2d(x.reshape(1, n * c, h, w), kernel, bias, padding=1, groups=n).transpose(0, 1)


def upsample_published(logits: Tensor, size: tuple[int, int], training: bool) -> Tensor:
    """`RISModel.upsample` as CRIS and ETRIS evaluate: the probabilities, bicubically with ``align_corners=True``.

    What comes back are the logits of these probabilities, cut to within 1e-6 of 0 and 1, which bicubic interpolation
    overshoots. In training the logits themselves are resized, since a cut has no gradient.
    """
    if logits.shape[-2:] == tuple(size):
        return logits
    values = logits if training else logits.float().sigmoid()
    values = F.interpolate(values, size=tuple(size), mode="bicubic", align_corners=True)
    return values if training else values.clamp(1e-6, 1 - 1e-6).logit()
