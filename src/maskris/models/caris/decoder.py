"""The decoder of CARIS (section 3.3): cross-attention of image and text, and deformable attention."""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskris.models.layers.attention import Attention, sine_encoding
from maskris.models.layers.deformable import DeformableAttention, pixel_centers
from maskris.models.layers.initialization import Initialization, check_initialization
from maskris.models.layers.sampling import Shapes


class CARISDecoder(nn.Module):
    """Vision-language pixel decoder: cross-attention between visual tokens of several levels and the words."""

    def __init__(
        self,
        channels: Sequence[int],
        text_width: int,
        width: int,
        layers: int,
        heads: int,
        points: int,
        levels: int,
        prompts: int,
        ffn_ratio: int,
        attention_ratio: int,
        init: Initialization,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        if width % 4:
            raise ValueError(f"width must be a multiple of 4 for the sine encoding, not {width}")
        coarse, fine = list(channels[::-1][:levels]), list(channels[: len(channels) - levels])
        self.input_convs = nn.ModuleList(_conv_norm(c, width, 1, bias=True) for c in coarse)
        self.lateral_convs = nn.ModuleList(_conv_norm(c, width, 1) for c in fine)
        self.output_convs = nn.ModuleList(_conv_norm(width, width, 3) for _ in fine)
        self.level_encoding = nn.Embedding(levels, width)
        self.lang_in_linear = nn.Linear(text_width, width)
        self.lang_in_norm = nn.LayerNorm(width)
        self.vis_prompts = nn.Embedding(prompts, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, points, levels, ffn_ratio, attention_ratio) for _ in range(layers)
        )
        self.mask_feature = nn.Sequential(
            *(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True)),
            nn.Conv2d(width, width, 1),
        )
        self.lang_embed = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.reset_parameters(init)

    def reset_parameters(self, init: Initialization) -> None:
        """Initial weights of the layers and the mask head; the projections are initialized where they are built."""
        check_initialization(init)
        for layer in self.layers:
            cast(DecoderLayer, layer).reset_parameters(init)
        for head in (self.mask_feature, self.lang_embed) if init == "scratch" else ():
            for module in head:
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                    nn.init.zeros_(cast(nn.Parameter, module.bias))

    def project(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The encoder's maps, finest first, to levels (coarsest first) and laterals (finest first)."""
        levels = tuple(conv(x) for conv, x in zip(self.input_convs, reversed(maps), strict=False))
        return levels, tuple(conv(x) for conv, x in zip(self.lateral_convs, maps, strict=False))

    def forward(
        self, levels: Sequence[Tensor], laterals: Sequence[Tensor], words: Tensor, visible: Tensor, summary: Tensor
    ) -> Tensor:
        """Levels and laterals of an image and the words about it to logits.

        Args:
            levels: ``[N, D, h, w]`` each, coarsest first.
            laterals: ``[N, D, h, w]`` each, finest first.
            words: ``[N, L, T]``.
            visible: ``[N, L]`` bool, false for padding.
            summary: ``[N]`` int64, the word that stands for the whole sentence.

        Returns:
            ``[N, 2, h, w]`` at the finest map's size: background, referent.
        """
        shapes: Shapes = [(level.shape[2], level.shape[3]) for level in levels]
        vis = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)  # [N, S, D]
        encodings = (sine_encoding(h, w, vis.shape[2], vis.device) for h, w in shapes)
        position = torch.cat([x + y for x, y in zip(encodings, self.level_encoding.weight, strict=True)])  # [S, D]
        reference = pixel_centers(shapes, vis.device)
        n, length, _ = words.shape
        text = self.lang_in_norm(self.lang_in_linear(words))
        text = torch.cat([text, self.vis_prompts.weight.expand(n, -1, -1)], dim=1)
        visible = torch.cat([visible, visible.new_ones(n, text.shape[1] - length)], dim=1)
        for i, layer in enumerate(self.layers, 1):
            wanted = vis.shape[1] if i < len(self.layers) else math.prod(shapes[-1])  # only the finest level is used
            arguments = (vis, text, visible, position, reference, shapes, wanted)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                vis, text = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                vis, text = layer(*arguments)

        y = vis.transpose(1, 2).unflatten(2, shapes[-1])
        for lateral, conv in zip(reversed(laterals), reversed(self.output_convs), strict=True):
            y = lateral + F.interpolate(y, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
            y = F.relu(conv(y), inplace=True)
        sentence = text[torch.arange(n, device=text.device), summary]
        classes = self.lang_embed(torch.stack([text[:, length:].mean(1), sentence], dim=1))  # [N, 2, D]
        # The last 1x1 convolution is linear, so it is applied to the two class vectors instead of to every pixel.
        for module in self.mask_feature[:-1]:
            y = module(y)
        last = cast(nn.Conv2d, self.mask_feature[-1])
        kernel = classes @ last.weight.flatten(1)  # [N, 2, D]
        bias = classes @ cast(Tensor, last.bias)  # [N, 2]
        return cast(Tensor, torch.einsum("nqc,nchw->nqhw", kernel, y) + bias[..., None, None])


class DecoderLayer(nn.Module):
    """Attention of the text to the image, then of the image to the text and to itself; post-norm residuals."""

    def __init__(self, width: int, heads: int, points: int, levels: int, ffn_ratio: int, attention_ratio: int) -> None:
        super().__init__()
        self.v2l_cross_attn = Attention(width, heads, attention_ratio)
        self.lang_self_attn = Attention(width, heads, attention_ratio)
        self.lang_mlp = _feed_forward(width, ffn_ratio)
        self.l2v_cross_attn = Attention(width, heads, attention_ratio)
        self.vis_self_attn = DeformableAttention(width, heads, levels, points)
        self.vis_mlp = _feed_forward(width, ffn_ratio)
        self.gamma_v2l = nn.Parameter(torch.ones(1, 1, width))
        self.gamma_l2v = nn.Parameter(torch.ones(1, 1, width))
        self.l_norm1, self.l_norm2, self.l_norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.v_norm1, self.v_norm2, self.v_norm3 = (nn.LayerNorm(width) for _ in range(3))

    def reset_parameters(self, init: Initialization) -> None:
        """Initial weights of everything but the deformable attention, which has its own, and the norms."""
        parts = (self.v2l_cross_attn, self.lang_self_attn, self.l2v_cross_attn, self.lang_mlp, self.vis_mlp)
        for module in (module for part in parts for module in part.modules()):
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02 if init == "published" else module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        vis: Tensor,
        text: Tensor,
        visible: Tensor,
        position: Tensor,
        reference: Tensor,
        shapes: Shapes,
        wanted: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Visual tokens ``[N, S, D]`` and words with prompts ``[N, L + P, D]`` to the same, refined.

        Of the visual tokens only the last `wanted` are returned, all by default; what is not used is not computed.
        """
        wanted = vis.shape[1] if wanted is None else wanted
        placed = vis + position
        text = self.l_norm1(text + self.gamma_v2l * self.v2l_cross_attn(text, placed, vis))
        text = self.l_norm2(text + self.lang_self_attn(text, text, text, visible))
        text = self.l_norm3(text + self.lang_mlp(text))
        # The published code numbers the norms of the image in this order: 2, 1, 3.
        vis = self.v_norm2(vis + self.gamma_l2v * self.l2v_cross_attn(placed, text, text, visible))
        query = (vis + position)[:, -wanted:]
        vis = self.v_norm1(vis[:, -wanted:] + self.vis_self_attn(query, vis, reference[-wanted:], shapes))
        vis = self.v_norm3(vis + self.vis_mlp(vis))
        return vis, text


def _conv_norm(channels: int, width: int, kernel: int, bias: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(math.gcd(32, width), width))  # 32 groups as published, where they fit


def _feed_forward(width: int, ratio: int) -> nn.Sequential:
    # Not in place: the linear layer returns a view, and overwriting a view costs autograd a copy of the whole.
    return nn.Sequential(nn.Linear(width, width * ratio), nn.ReLU(), nn.Linear(width * ratio, width))
