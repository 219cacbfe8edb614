"""The decoder of TRIS: attention from pixels to words on three maps, then four outputs from coarse to fine."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PixelQueries(NamedTuple):
    """What `PixelAttention` knows of `I` images alone."""

    query: Tensor
    """``[I, C, h, w]``, normalized over the places."""
    visual: Tensor
    """``[I, C, h, w]``, the gate of what the words say."""


class PixelAttention(nn.Module):
    """Attention of every pixel to the words, with one head, multiplied with the map itself (LAVT, section 3.1).

    Padding is not masked, as published: it follows the end of the text, so that CLIP's causal encoder gives it vectors
    of its own.

    Args:
        channels: Of the map.
        word_width: Of the words.
    """

    def __init__(self, channels: int, word_width: int) -> None:
        super().__init__()
        self.visual = nn.Conv2d(channels, channels, 1)
        self.query = nn.Conv2d(channels, channels, 1)
        self.query_norm = nn.InstanceNorm2d(channels, affine=True)
        self.key = nn.Conv1d(word_width, channels, 1)
        self.value = nn.Conv1d(word_width, channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        self.output_norm = nn.InstanceNorm2d(channels, affine=True)
        self.merge = nn.Conv2d(channels, channels, 1)

    def prepare(self, x: Tensor) -> PixelQueries:
        """What needs no words, of maps ``[I, C, h, w]``."""
        return PixelQueries(self.query_norm(self.query(x)), F.relu(self.visual(x)))

    def forward(self, image: PixelQueries, words: Tensor) -> Tensor:
        """Prepared maps ``[N, C, h, w]`` and words ``[N, L, D]`` to ``[N, C, h, w]``."""
        words = words.transpose(1, 2)
        keys, values = self.key(words), self.value(words)  # [N, C, L]
        scores = image.query.flatten(2).transpose(1, 2) @ keys / keys.shape[1] ** 0.5  # [N, h w, L]
        read = (scores.softmax(2) @ values.transpose(1, 2)).transpose(1, 2)  # [N, C, h w]
        read = self.output_norm(self.output(read.unflatten(2, image.query.shape[-2:])))
        return F.relu(self.merge(image.visual * read))


def conv_norm_prelu(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm and a ReLU whose slope below 0 is learned."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.PReLU())


class TRISDecoder(nn.Module):
    """Sum of four maps from coarse to fine, with an output at every one of them (deep supervision).

    Args:
        inputs: Channels of the maps at strides 4, 8, 16 and 32.
        widths: Channels to which they are reduced.
    """

    def __init__(self, inputs: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        finest = widths[0] // 2
        narrow = [finest, *widths[:-1]]  # channels that each level hands to the next finer one
        heads = [finest, finest, widths[0], widths[0]]
        self.reductions = nn.ModuleList(map(conv_norm_prelu, inputs, widths))
        self.outputs = nn.ModuleList(map(conv_norm_prelu, widths, narrow))
        self.heads = nn.ModuleList(
            nn.Sequential(conv_norm_prelu(width, inner), nn.Conv2d(inner, 1, 1, bias=False))
            for width, inner in zip(narrow, heads, strict=True)
        )

    def forward(self, finest: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Logits of the four outputs.

        Args:
            finest: ``[N, c, h, w]`` at stride 4, behind its reduction.
            maps: Three maps ``[N, c, h, w]`` at strides 8, 16 and 32.

        Returns:
            In training ``[N, 4, 4 h, 4 w]``, the finest output first, each brought to the input's size in one step
            (bilinear, ``align_corners=False``); they have strides 4, 4, 8 and 16. In evaluation ``[N, 1, h, w]``, the
            finest output alone.
        """
        size = (4 * finest.shape[-2], 4 * finest.shape[-1])
        reduced = [finest, *(reduce(x) for reduce, x in zip(self.reductions[1:], maps, strict=True))]
        outputs: list[Tensor] = []
        x = reduced.pop()
        for level in (3, 2, 1):
            x = _resize(self.outputs[level](x), reduced[-1].shape[-2:])
            if self.training:
                outputs.insert(0, _resize(self.heads[level](x), size))
            x = reduced.pop() + x
        logits = cast(Tensor, self.heads[0](self.outputs[0](x)))
        return torch.cat([_resize(logits, size), *outputs], dim=1) if self.training else logits


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
