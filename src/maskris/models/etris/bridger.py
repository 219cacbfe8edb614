"""The bridger of ETRIS (Xu et al., ICCV 2023): cross-attention of pixels and words between the stages of CLIP.

The two encoders stay frozen; only these narrow modules beside them learn (section 3.2). A bridge never changes its
inputs: it returns what is to be added to the image features and to the words.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

Exchange = tuple[Tensor, Tensor]
"""The inputs of the two sides of a bridge: pixels ``[N, h'w', D]`` and words ``[N, L, D]`` at the bridge's width."""


class Bridger(nn.Module):
    """One bridge after each of the last stages of two encoders that run in step.

    Args:
        channels: Channels of the image encoder after each stage.
        text_width: Channels of the words.
        width: Channels D of the bridges ("ladder dimension").
        heads: Heads of their attentions.
        fused: How many of the stages have a bridge, from the last.
        strides: How far each bridge is zoomed in (the last one: out), so that all meet at one resolution.
        gated: False for ResNets, whose sides are transformer decoder layers; true for ViTs, whose sides are multiplied
            by what they attend to.
        ffn: Inner width of the decoder layers.
        dropout: Of the decoder layers.

    Raises:
        ValueError: If there are not as many strides as stages, no such number of stages can be fused, or the heads
            don't divide the width.
    """

    def __init__(
        self,
        channels: Sequence[int],
        text_width: int,
        *,
        width: int = 64,
        heads: int = 4,
        fused: int = 3,
        strides: Sequence[int] = (2, 1, 2),
        gated: bool = False,
        ffn: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(strides) != len(channels):
            raise ValueError(f"The bridger needs a stride for each of {len(channels)} stages, not {list(strides)}")
        if not 1 <= fused <= len(channels):
            raise ValueError(f"Of {len(channels)} stages 1 to {len(channels)} can be fused, not {fused}")
        if width % heads:
            raise ValueError(f"The bridges' width {width} must be a multiple of their {heads} heads")
        self.first = len(channels) - fused

        def side() -> nn.Module:
            if gated:
                return GatedAttention(width, heads)
            return nn.TransformerDecoderLayer(width, heads, ffn, dropout, batch_first=True)

        last = len(channels) - 1
        self.stages = nn.ModuleDict()  # by the number of the stage
        for i in range(self.first, len(channels)):
            # A transposed convolution undoes what the plain one does; at the last stage it comes first.
            zooms = [
                Zoom(channels[i], width, strides[i], transposed=i == last, norm=gated),
                Zoom(width, channels[i], strides[i], transposed=i != last, norm=gated),
            ]
            self.stages[str(i)] = Bridge(zooms, text_width, width, side(), side(), follows=i > self.first)

    def forward(
        self, stage: int, vision: Tensor, words: Tensor, previous: Exchange | None
    ) -> tuple[Tensor, Tensor, Exchange]:
        """Cross the bridge after a stage, from `first` on.

        Args:
            stage: Number of the stage, from 0.
            vision: ``[N, C, h, w]`` image features after the stage.
            words: ``[N, L, T]`` words after the text layers of the stage. Padding takes part, as published.
            previous: What this method returned last for the stage before; none for the first bridge.

        Returns:
            What to add to the image features, what to add to the words, and what the next bridge needs.
        """
        return cast("tuple[Tensor, Tensor, Exchange]", self.stages[str(stage)](vision, words, previous))


class Bridge(nn.Module):
    """One bridge: both sides at one width and resolution, cross-attention in both directions, and back.

    Args:
        zooms: Image features to the bridge's width and resolution, and back.
        text_width: Channels of the words.
        width: Channels of the bridge.
        read_words: Pixels ``[N, h'w', D]`` and words ``[N, L, D]`` to pixels.
        read_pixels: Words and pixels to words.
        follows: Whether there is a bridge before this one, whose inputs are added to those of this one.
    """

    def __init__(
        self,
        zooms: Sequence[nn.Module],
        text_width: int,
        width: int,
        read_words: nn.Module,
        read_pixels: nn.Module,
        follows: bool,
    ) -> None:
        super().__init__()
        self.zoom_in, self.zoom_out = zooms
        self.text_in, self.text_out = nn.Linear(text_width, width), nn.Linear(width, text_width)
        self.read_words, self.read_pixels = read_words, read_pixels
        self.vision_norm = nn.LayerNorm(width) if follows else None
        self.text_norm = nn.LayerNorm(width) if follows else None

    def forward(self, vision: Tensor, words: Tensor, previous: Exchange | None) -> tuple[Tensor, Tensor, Exchange]:
        """See `Bridger.forward`."""
        zoomed = self.zoom_in(vision)  # [N, D, h', w']
        v, t = zoomed.flatten(2).transpose(1, 2), self.text_in(words)  # [N, h'w', D], [N, L, D]
        if self.vision_norm is not None and self.text_norm is not None:
            assert previous is not None
            v, t = self.vision_norm(v + previous[0]), self.text_norm(t + previous[1])
        pixels, read = self.read_words(v, t), self.read_pixels(t, v)  # both from what stood before
        pixels = pixels.transpose(1, 2).reshape(zoomed.shape)
        return self.zoom_out(pixels), self.text_out(read), (v, t)


class Zoom(nn.Sequential):
    """A convolution or its transpose whose kernel is its stride: every pixel is used once.

    Args:
        inputs: Channels before.
        outputs: Channels after.
        stride: Factor of the resolution.
        transposed: Whether the resolution grows.
        norm: Whether batch norm and ReLU follow.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, transposed: bool, norm: bool) -> None:
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        super().__init__(kind(inputs, outputs, stride, stride, bias=False))
        if norm:
            self.extend([nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)])


class GatedAttention(nn.Module):
    """Queries multiplied by what they attend to, without residual or norm.

    Args:
        width: Channels.
        heads: Heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """``[N, Q, D]`` and ``[N, K, D]`` to ``[N, Q, D]``."""
        attended: Tensor = self.multihead_attn(query, memory, memory, need_weights=False)[0]
        return query * attended
