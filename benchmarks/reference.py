"""The published network as plain modules: every formula as written, nothing shared, fused, folded or left out.

This is the yardstick of the benchmarks. It computes what the published code computes in eager PyTorch (deformable
attention by `grid_sample`, as mmcv does where its own kernels are absent), with the weights of one of our models:

* windows are padded, then shifted, then projected, padding included; attention scores are matrices in memory;
* every expression encodes its own image, and its text is padded to the longest there can be;
* the decoder's attentions project all visual tokens to the wide inner width.
"""

import copy
import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskris.batch import Batch
from maskris.models.caris.decoder import CARISDecoder, DecoderLayer
from maskris.models.caris.model import CARIS
from maskris.models.layers.attention import Attention, sine_encoding
from maskris.models.layers.deformable import DeformableAttention, pixel_centers
from maskris.models.layers.sampling import Shapes


def literal(model: CARIS) -> "LiteralCARIS":
    """A literal twin of a CARIS with Swin: the same numbers, weights of its own.

    Raises:
        ValueError: If the vision encoder is no Swin, for which alone the formulas are written down here.
    """
    if model.vision.config["model_type"] != "swin":
        raise ValueError(f"The literal network has a Swin, not a {model.vision.config['model_type']}")
    return LiteralCARIS(copy.deepcopy(model))


class LiteralCARIS(nn.Module):
    """Stands in for `RISModel` wherever a batch goes in and logits come out: strategies and trainers take it."""

    align_corners = True
    has_batch_statistics = False

    def __init__(self, model: CARIS) -> None:
        super().__init__()
        self.preprocess, self.tokenizer = model.preprocess, model.tokenizer
        self.vision = Swin(model)
        self.text = model.text
        cast(Any, self.text.model).set_attn_implementation("eager")
        self.conditional_prompts = model.conditional_prompts
        self.decoder = Decoder(model.decoder)

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[N, 2, H / 4, W / 4]``."""
        images = self.preprocess.normalize(batch.images)[batch.image_index]  # [N, 3, H, W]
        extra = self.tokenizer.max_length - batch.input_ids.shape[1]
        ids, mask = F.pad(batch.input_ids, (0, extra)), F.pad(batch.attention_mask, (0, extra))
        maps = self.vision(images)
        words = self.text(ids, mask, self.conditional_prompts(maps[-1]))[:, : ids.shape[1]]
        return cast(Tensor, self.decoder(maps, words, mask.bool()))

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Both channels to the input size."""
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)


class Swin(nn.Module):
    """Swin as its authors' detection code has it (ARCHITECTURE section 2)."""

    def __init__(self, model: CARIS) -> None:
        super().__init__()
        backbone = cast(Any, model.vision.backbone)
        self.window = int(backbone.config.window_size)
        self.patch = backbone.swin.embeddings.patch_embeddings.projection
        self.patch_norm = backbone.swin.embeddings.norm
        self.stages = nn.ModuleList(
            nn.ModuleList(
                SwinBlock(block, self.window, self.window // 2 if i % 2 else 0) for i, block in enumerate(stage.blocks)
            )
            for stage in backbone.swin.encoder.layers
        )
        self.merges = nn.ModuleList(
            stage.downsample for stage in backbone.swin.encoder.layers if stage.downsample is not None
        )
        self.norms = nn.ModuleList(backbone.hidden_states_norms.values())

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to four maps."""
        images = F.pad(images, (0, -images.shape[3] % 4, 0, -images.shape[2] % 4))
        x = self.patch(images)
        _, channels, height, width = x.shape
        x = self.patch_norm(x.flatten(2).transpose(1, 2))
        maps = []
        for i, (blocks, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            mask = self.shift_mask(height, width, x.device)
            for block in cast(nn.ModuleList, blocks):
                x = block(x, height, width, mask)
            maps.append(norm(x).view(-1, height, width, channels).permute(0, 3, 1, 2).contiguous())
            if i < len(self.merges):
                x = x.view(-1, height, width, channels)
                x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
                corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
                x = torch.cat(corners, dim=-1).flatten(1, 2)
                merge = cast(Any, self.merges[i])
                x = merge.reduction(merge.norm(x))
                height, width, channels = (height + 1) // 2, (width + 1) // 2, 2 * channels
        return maps

    def shift_mask(self, height: int, width: int, device: torch.device) -> Tensor:
        """-100 between pixels of different regions: ``[windows, window², window²]``."""
        rows, columns = (-(-side // self.window) * self.window for side in (height, width))
        region = torch.zeros(1, rows, columns, 1, device=device)
        cuts = (
            slice(0, -self.window),
            slice(-self.window, -(self.window // 2)),
            slice(-(self.window // 2), None),
        )
        for i, vertical in enumerate(cuts):
            for j, horizontal in enumerate(cuts):
                region[:, vertical, horizontal] = 3 * i + j
        windows = partition(region, self.window).flatten(1)
        different = windows[:, None] != windows[:, :, None]
        return torch.zeros(different.shape, device=device).masked_fill(different, -100.0)


class SwinBlock(nn.Module):
    """Pad, shift, cut into windows, attend, and all the way back."""

    def __init__(self, block: Any, window: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.layernorm_before, block.layernorm_after
        self.window, self.shift = window, shift
        attention = block.attention
        channels = attention.q_proj.in_features
        self.heads = int(attention.num_attention_heads)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.qkv.weight = nn.Parameter(torch.cat([part.weight.detach() for part in projections]))
        self.qkv.bias = nn.Parameter(torch.cat([part.bias.detach() for part in projections]))
        self.proj = attention.o_proj
        self.table = attention.relative_position_bias.relative_position_bias_table
        self.register_buffer("index", attention.relative_position_bias.relative_position_index, persistent=False)
        self.fc1, self.fc2 = block.mlp.fc1, block.mlp.fc2
        self.drop_path = block.drop_path

    def forward(self, x: Tensor, height: int, width: int, mask: Tensor) -> Tensor:
        """``[N, height * width, C]`` to the same."""
        n, _, channels = x.shape
        y = self.norm1(x).view(n, height, width, channels)
        y = F.pad(y, (0, 0, 0, -width % self.window, 0, -height % self.window))
        rows, columns = y.shape[1:3]
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self.attend(partition(y, self.window).flatten(1, 2), mask if self.shift else None)
        y = y.view(n, rows // self.window, columns // self.window, self.window, self.window, channels)
        y = y.permute(0, 1, 3, 2, 4, 5).contiguous().view(n, rows, columns, channels)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        y = y[:, :height, :width].contiguous().view(n, height * width, channels)
        x = x + self.drop_path(y)
        return cast(Tensor, x + self.drop_path(self.fc2(F.gelu(self.fc1(self.norm2(x))))))

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``[windows, tokens, C]`` to the same."""
        n, tokens, channels = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * (channels // self.heads) ** -0.5, qkv[1], qkv[2]
        scores = q @ k.transpose(-2, -1)
        index = cast(Tensor, self.index)
        bias = self.table[index].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
        scores = scores + bias[None]
        if mask is not None:
            scores = scores.view(-1, len(mask), self.heads, tokens, tokens) + mask[None, :, None]
            scores = scores.view(n, self.heads, tokens, tokens)
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, tokens, channels)
        return cast(Tensor, self.proj(attended))


def partition(x: Tensor, window: int) -> Tensor:
    """``[N, H, W, C]`` to ``[windows, window, window, C]``."""
    n, rows, columns, channels = x.shape
    x = x.view(n, rows // window, window, columns // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window, window, channels)


class Decoder(nn.Module):
    """The pixel decoder (ARCHITECTURE section 5), its parts taken from ours."""

    def __init__(self, ours: CARISDecoder) -> None:
        super().__init__()
        self.input_convs, self.lateral_convs = ours.input_convs, ours.lateral_convs
        self.output_convs, self.level_encoding = ours.output_convs, ours.level_encoding
        self.lang_in = nn.Sequential(ours.lang_in_linear, ours.lang_in_norm)
        self.vis_prompts, self.mask_feature, self.lang_embed = ours.vis_prompts, ours.mask_feature, ours.lang_embed
        self.layers = nn.ModuleList(Layer(cast(DecoderLayer, layer)) for layer in ours.layers)

    def forward(self, maps: list[Tensor], words: Tensor, visible: Tensor) -> Tensor:
        """Maps, finest first, words ``[N, L, T]`` and their mask to logits."""
        levels = [conv(x) for conv, x in zip(self.input_convs, reversed(maps), strict=False)]
        shapes: Shapes = [(level.shape[2], level.shape[3]) for level in levels]
        vis = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        position = torch.cat(
            [
                sine_encoding(h, w, vis.shape[2], vis.device) + self.level_encoding.weight[i]
                for i, (h, w) in enumerate(shapes)
            ]
        ).expand_as(vis)
        reference = pixel_centers(shapes, vis.device)
        n, length, _ = words.shape
        text = torch.cat([self.lang_in(words), self.vis_prompts.weight.expand(n, -1, -1)], dim=1)
        visible = F.pad(visible, (0, text.shape[1] - length), value=True)
        for layer in self.layers:
            vis, text = layer(vis, text, visible, position, reference, shapes)
        y = vis[:, -math.prod(shapes[-1]) :].transpose(1, 2).contiguous().view(n, -1, *shapes[-1])
        for i in reversed(range(len(self.lateral_convs))):
            lateral = self.lateral_convs[i](maps[i])
            y = lateral + F.interpolate(y, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
            y = F.relu(self.output_convs[i](y))
        features = self.mask_feature(y)
        classes = self.lang_embed(torch.stack([text[:, length:].mean(1), text[:, 0]], dim=1))
        return torch.einsum("nqc,nchw->nqhw", classes, features)


class Layer(nn.Module):
    """One layer of the decoder."""

    def __init__(self, ours: DecoderLayer) -> None:
        super().__init__()
        self.v2l, self.l2v = WideAttention(ours.v2l_cross_attn), WideAttention(ours.l2v_cross_attn)
        self.lang = WideAttention(ours.lang_self_attn)
        self.sample = GridSampling(ours.vis_self_attn)
        self.lang_mlp, self.vis_mlp = ours.lang_mlp, ours.vis_mlp
        self.gamma_v2l, self.gamma_l2v = ours.gamma_v2l, ours.gamma_l2v
        self.l_norm1, self.l_norm2, self.l_norm3 = ours.l_norm1, ours.l_norm2, ours.l_norm3
        self.v_norm1, self.v_norm2, self.v_norm3 = ours.v_norm1, ours.v_norm2, ours.v_norm3

    def forward(
        self, vis: Tensor, text: Tensor, visible: Tensor, position: Tensor, reference: Tensor, shapes: Shapes
    ) -> tuple[Tensor, Tensor]:
        """As our layer."""
        text = self.l_norm1(text + self.gamma_v2l * self.v2l(text, vis + position, vis, None))
        text = self.l_norm2(text + self.lang(text, text, text, visible))
        text = self.l_norm3(text + self.lang_mlp(text))
        vis = self.v_norm2(vis + self.gamma_l2v * self.l2v(vis + position, text, text, visible))
        vis = self.v_norm1(vis + self.sample(vis + position, vis, reference, shapes))
        return self.v_norm3(vis + self.vis_mlp(vis)), text


class WideAttention(nn.Module):
    """Project everything to the inner width, then attend."""

    def __init__(self, ours: Attention) -> None:
        super().__init__()
        self.heads = ours.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = ours.q_proj, ours.k_proj, ours.v_proj, ours.out_proj

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
        """``[N, Q, D]``, ``[N, K, D]`` twice and a mask of the keys to ``[N, Q, D]``."""
        n = query.shape[0]
        size = self.q_proj.out_features // self.heads

        def split(x: Tensor) -> Tensor:
            return x.view(n, -1, self.heads, size).transpose(1, 2).contiguous().view(n * self.heads, -1, size)

        q = split(self.q_proj(query) * size**-0.5)
        k, v = split(self.k_proj(key)), split(self.v_proj(value))
        scores = torch.bmm(q, k.transpose(1, 2)).clamp(-50000, 50000)  # [N * heads, Q, K]
        if visible is not None:
            hidden = ~visible[:, None, None].expand(-1, self.heads, -1, -1).flatten(0, 1)
            scores = scores.masked_fill(hidden, float("-inf"))
        attended = torch.bmm(scores.softmax(-1), v)
        attended = attended.view(n, self.heads, -1, size).transpose(1, 2).reshape(n, -1, self.heads * size)
        return cast(Tensor, self.out_proj(attended))


class GridSampling(nn.Module):
    """Deformable attention, one `grid_sample` per level."""

    def __init__(self, ours: DeformableAttention) -> None:
        super().__init__()
        self.heads, self.levels, self.points = ours.heads, ours.levels, ours.points
        self.sampling_offsets, self.attention_weights = ours.sampling_offsets, ours.attention_weights
        self.value_proj, self.output_proj = ours.value_proj, ours.output_proj

    def forward(self, query: Tensor, value: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        """As our deformable attention."""
        n, q, _ = query.shape
        values = self.value_proj(value).view(n, -1, self.heads, value.shape[2] // self.heads)
        offsets = self.sampling_offsets(query).view(n, q, self.heads, self.levels, self.points, 2)
        weights = self.attention_weights(query).view(n, q, self.heads, self.levels * self.points).softmax(-1)
        sizes = torch.tensor([(w, h) for h, w in shapes], dtype=offsets.dtype, device=offsets.device)
        locations = reference[:, None, None, None] + offsets / sizes[:, None]
        grids = 2 * locations - 1
        samples = []
        for i, (level, (h, w)) in enumerate(zip(values.split([h * w for h, w in shapes], dim=1), shapes, strict=True)):
            maps = level.flatten(2).transpose(1, 2).reshape(n * self.heads, -1, h, w)
            grid = grids[:, :, :, i].transpose(1, 2).flatten(0, 1)  # [N * heads, Q, points, 2]
            samples.append(F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
        shares = weights.transpose(1, 2).reshape(n * self.heads, 1, q, -1)
        summed = (torch.stack(samples, dim=-2).flatten(-2) * shares).sum(-1)  # [N * heads, D / heads, Q]
        return cast(Tensor, self.output_proj(summed.view(n, -1, q).transpose(1, 2).contiguous()))
