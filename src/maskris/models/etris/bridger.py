"""The bridges of ETRIS (Xu et al., ICCV 2023): cross-attention of pixels and words between the stages of CLIP.

The two encoders stay frozen; only these narrow modules beside them learn (section 3.2). A bridge never changes its
inputs: it returns what is to be added to the image features and to the words.
"""

from torch import Tensor, nn

from maskris.models.layers.initialization import Initialization

Exchange = tuple[Tensor, Tensor]
"""The inputs of the two sides of a bridge: pixels ``[N, h'w', D]`` and words ``[N, L, D]`` at the bridge's width."""


class Bridge(nn.Module):
    """One bridge after a stage: both sides at one width and resolution, cross-attention in both directions, and back.

    Args:
        channels: Channels C of the image encoder after the stage.
        text_width: Channels T of the words.
        width: Channels D of the bridge ("ladder dimension").
        heads: Heads of its attentions.
        stride: Factor between the resolutions of stage and bridge.
        last: Whether the stage is the last one, which is zoomed out where the others are zoomed in.
        gated: False for ResNets, whose sides are transformer decoder layers; true for ViTs, whose sides are multiplied
            by what they attend to.
        dropout: Of the decoder layers.
        follows: Whether there is a bridge before this one, whose inputs are added to those of this one.
        init: See `ETRIS`.
    """

    def __init__(
        self,
        channels: int,
        text_width: int,
        *,
        width: int,
        heads: int,
        stride: int,
        last: bool,
        gated: bool,
        dropout: float,
        follows: bool,
        init: Initialization,
    ) -> None:
        super().__init__()

        def side() -> nn.Module:
            if gated:
                return GatedAttention(width, heads)
            return nn.TransformerDecoderLayer(width, heads, 128, dropout, batch_first=True)

        # A transposed convolution undoes what the plain one does; at the last stage it comes first.
        self.zoom_in = Zoom(channels, width, stride, transposed=last, norm=gated)
        self.zoom_out = Zoom(width, channels, stride, transposed=not last, norm=gated)
        self.read_words, self.read_pixels = side(), side()
        self.text_in, self.text_out = nn.Linear(text_width, width), nn.Linear(width, text_width)
        self.vision_norm = nn.LayerNorm(width) if follows else None
        self.text_norm = nn.LayerNorm(width) if follows else None
        if init == "published":
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Published initial weights: linear layers N(0, 0.02) without bias, Kaiming for both kinds of convolution."""
        for module in self.modules():  # of the attentions, the output projections alone are linear layers
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, vision: Tensor, words: Tensor, previous: Exchange | None) -> tuple[Tensor, Tensor, Exchange]:
        """Cross the bridge.

        Args:
            vision: ``[N, C, h, w]`` image features after the stage.
            words: ``[N, L, T]`` words after the text layers of the stage. Padding takes part, as published.
            previous: What the bridge before returned last; none for the first bridge.

        Returns:
            What to add to the image features, what to add to the words, and what the next bridge needs.
        """
        zoomed = self.zoom_in(vision)  # [N, D, h', w']
        v, t = zoomed.flatten(2).transpose(1, 2), self.text_in(words)  # [N, h'w', D], [N, L, D]
        if self.vision_norm is not None and self.text_norm is not None:
            assert previous is not None
            v, t = self.vision_norm(v + previous[0]), self.text_norm(t + previous[1])
        pixels, read = self.read_words(v, t), self.read_pixels(t, v)  # both from what stood before
        pixels = pixels.transpose(1, 2).reshape(zoomed.shape)
        return self.zoom_out(pixels), self.text_out(read), (v, t)


class Zoom(nn.Sequential):
    """A convolution, or its transpose, whose kernel is its stride; with `norm`, batch norm and ReLU follow."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, transposed: bool, norm: bool) -> None:
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        super().__init__(kind(inputs, outputs, stride, stride, bias=False))
        if norm:
            self.extend([nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)])


class GatedAttention(nn.Module):
    """Queries multiplied by what they attend to, without residual or norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """``[N, Q, D]`` and ``[N, K, D]`` to ``[N, Q, D]``."""
        attended: Tensor = self.multihead_attn(query, memory, memory, need_weights=False)[0]
        return query * attended
