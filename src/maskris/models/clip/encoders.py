"""`CLIP`: OpenAI's pair of encoders (Radford et al., 2021), a ResNet or a vision transformer and a text transformer.

The parameters have OpenAI's names but for two things: those of the text encoder stand under ``text.``, and the blocks
of both transformers are called ``blocks`` instead of ``transformer.resblocks``.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModifiedResNet(nn.Module):
    """CLIP's ResNet: three convolutions in the stem, average pools instead of strides, attention pool at the end.

    Whole: ``c3, c4, c5 = resnet(images)`` of strides 8, 16 and 32. Step by step: `stem` (stride 4), `layer1` (4),
    `layer2` (8), `layer3` (16), `layer4` (32) and `attnpool`.

    Args:
        layers: Bottlenecks of each of the four stages.
        output_dim: Channels of the attention pool's output.
        heads: Heads of the attention pool.
        image_resolution: Side of the images for which the positions of the attention pool are stored; others are
            resized to.
        width: Channels of the stem; the stages have 4, 8, 16 and 32 times as many.
    """

    def __init__(
        self, layers: Sequence[int], output_dim: int, heads: int, image_resolution: int = 224, width: int = 64
    ) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(width * 4, width * 2, layers[1], stride=2)
        self.layer3 = _stage(width * 8, width * 4, layers[2], stride=2)
        self.layer4 = _stage(width * 16, width * 8, layers[3], stride=2)
        self.attnpool = AttentionPool2d(image_resolution // 32, width * 32, heads, output_dim)

    def stem(self, images: Tensor) -> Tensor:
        """Normalized images ``[I, 3, H, W]`` to ``[I, width, H / 4, W / 4]``."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalized images ``[I, 3, H, W]`` to C3, C4 and the pooled C5 ``[I, c, h, w]`` at strides 8, 16 and 32."""
        c3 = self.layer2(self.layer1(self.stem(images)))
        c4 = self.layer3(c3)
        return c3, c4, self.attnpool(self.layer4(c4))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a residual; a stride is an average pool after the second one.

    Args:
        inputs: Channels of the input.
        width: Channels inside; the output has 4 times as many.
        stride: 1 or 2.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != width * 4:
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("pool", nn.AvgPool2d(stride) if stride > 1 else nn.Identity()),
                        ("0", nn.Conv2d(inputs, width * 4, 1, bias=False)),
                        ("1", nn.BatchNorm2d(width * 4)),
                    ]
                )
            )
        nn.init.zeros_(self.bn3.weight)  # as OpenAI does: every block begins as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        """``[I, inputs, h, w]`` to ``[I, 4 width, h / stride, w / stride]``."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.pool(F.relu(self.bn2(self.conv2(y))))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class AttentionPool2d(nn.Module):
    """CLIP's attention pool as CRIS changed it: all positions attend to each other, and a convolution joins their map.

    Args:
        side: Side of the grid for which positions are stored (after a first row that stands for OpenAI's mean token
            and isn't used).
        width: Channels of the input.
        heads: Heads of the attention.
        output_dim: Channels of the output.
    """

    def __init__(self, side: int, width: int, heads: int, output_dim: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"The attention pool's {heads} heads must divide its width {width}")
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) / width**0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, output_dim)
        self.connect = nn.Sequential(nn.Conv2d(width, output_dim, 1, bias=False), nn.BatchNorm2d(output_dim))
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(linear.weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``[I, width, h, w]`` to ``[I, output_dim, h, w]``."""
        h, w = x.shape[-2:]
        positions = resize_positions(self.positional_embedding, h, w)[1:]
        tokens = x.flatten(2).transpose(1, 2) + positions.to(x.dtype)  # [I, h w, width]
        q, k, v = (
            projection(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # [I, heads, h w, width / heads]
        pooled = self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # [I, h w, output_dim]
        return F.relu(pooled.transpose(1, 2).unflatten(2, (h, w)) + self.connect(x))


class CLIPVisionTransformer(nn.Module):
    """CLIP's vision transformer. Tokens are ``[I, 1 + h w, D]``: the class token, then the patches row by row.

    Whole: ``tokens = vit(images)``. Step by step: `embed`, every one of `blocks`, `finish`.

    Args:
        input_resolution: Side of the images for which positions are stored; for others they are resized bicubically.
        patch_size: Side of a patch.
        width: Channels D.
        layers: Number of blocks.
        heads: Heads of every attention.
        output_dim: Channels of the output.
    """

    def __init__(
        self, input_resolution: int, patch_size: int, width: int, layers: int, heads: int, output_dim: int
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((input_resolution // patch_size) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))
        for block in self.blocks:
            cast(ResidualAttentionBlock, block).reset_parameters(layers)

    def embed(self, images: Tensor) -> Tensor:
        """Normalized images ``[I, 3, H, W]`` to tokens ``[I, 1 + h w, D]`` with ``h = H // patch_size``."""
        patches = self.conv1(images)  # [I, D, h, w]
        positions = resize_positions(self.positional_embedding, *patches.shape[-2:])
        tokens = torch.cat(
            [self.class_embedding.to(patches.dtype).expand(len(images), 1, -1), patches.flatten(2).transpose(1, 2)], 1
        )
        return cast(Tensor, self.ln_pre(tokens + positions.to(tokens.dtype)))

    def finish(self, x: Tensor) -> Tensor:
        """What the last block leaves ``[I, 1 + h w, D]`` to projected tokens ``[I, 1 + h w, output_dim]``."""
        return cast(Tensor, self.ln_post(x)) @ self.proj

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images ``[I, 3, H, W]`` to projected tokens ``[I, 1 + h w, output_dim]``."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.finish(x)


def resize_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Resize a table of learned positions to another grid, bicubically (``align_corners=False``).

    Args:
        table: ``[1 + s², D]``, a row for the class token and then a square grid row by row.
        height: Rows of the new grid.
        width: Columns of the new grid.

    Returns:
        ``[1 + height * width, D]``; the same tensor if the grid is the same.

    Raises:
        ValueError: If the table holds no square grid.
    """
    side = round((len(table) - 1) ** 0.5)
    if side * side != len(table) - 1:
        raise ValueError(f"A table of positions needs 1 + s² rows, not {len(table)}")
    if (side, side) == (height, width):
        return table
    # Half precision has no bicubic kernel on some devices.
    grid = table[1:].T.reshape(1, -1, side, side).to(torch.promote_types(table.dtype, torch.float32))
    grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid.flatten(2)[0].T.to(table.dtype)])


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride)
    return nn.Sequential(first, *(Bottleneck(width * 4, width, 1) for _ in range(blocks - 1)))


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU with which OpenAI's weights were trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """Pre-norm self-attention and feed-forward network, each with a residual.

    Args:
        width: Channels D.
        heads: Heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_2 = nn.LayerNorm(width)

    def reset_parameters(self, depth: int) -> None:
        """OpenAI's initial weights; `depth` is the number of blocks of the transformer."""
        width = self.attn.embed_dim
        residual = width**-0.5 * (2 * depth) ** -0.5
        nn.init.normal_(cast(Tensor, self.attn.in_proj_weight), std=width**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=residual)
        nn.init.normal_(cast(nn.Linear, self.mlp.c_fc).weight, std=(2 * width) ** -0.5)
        nn.init.normal_(cast(nn.Linear, self.mlp.c_proj).weight, std=residual)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One block.

        Args:
            x: ``[N, L, D]``.
            mask: ``[L, L]`` bool, true where row must not look at column; all may be seen by default.

        Returns:
            ``[N, L, D]``.
        """
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + cast(Tensor, self.mlp(self.ln_2(x)))


class CLIPTextTransformer(nn.Module):
    """Words and a sentence vector from token ids; padding needs no mask, since no word looks to its right.

    Whole: ``words, state = text(input_ids)``. Step by step::

        x = text.embed(input_ids)
        mask = text.causal_mask(x)
        for block in text.blocks:
            x = block(x, mask)
        words, state = text.finish(x, input_ids)

    Args:
        embed_dim: Channels E of the sentence vector.
        context_length: Most tokens of a sentence.
        vocab_size: Number of token ids.
        width: Channels D of the words.
        heads: Heads of every attention.
        layers: Number of blocks.
    """

    def __init__(
        self, embed_dim: int, context_length: int, vocab_size: int, width: int, heads: int, layers: int
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.blocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """OpenAI's initial weights."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=self.text_projection.shape[0] ** -0.5)
        for block in self.blocks:
            cast(ResidualAttentionBlock, block).reset_parameters(len(self.blocks))

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids ``[N, L]`` to tokens with their positions ``[N, L, D]``.

        Raises:
            ValueError: If the sentences are longer than `context_length`.
        """
        length, most = input_ids.shape[1], self.positional_embedding.shape[0]
        if length > most:
            raise ValueError(f"CLIP's text encoder takes at most {most} tokens, not {length}")
        return cast(Tensor, self.token_embedding(input_ids)) + self.positional_embedding[:length]

    @staticmethod
    def causal_mask(x: Tensor) -> Tensor:
        """The mask of the blocks for tokens ``[N, L, D]``: ``[L, L]`` bool, true above the diagonal."""
        return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)

    def finish(self, x: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the last block leaves ``[N, L, D]`` to words ``[N, L, D]`` and the sentence vector ``[N, E]``.

        The sentence vector is the projected word at the end of text, whose id is the largest of the vocabulary.
        """
        words: Tensor = self.ln_final(x)
        end = input_ids.argmax(dim=1)
        return words, words[torch.arange(len(words), device=words.device), end] @ self.text_projection

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids ``[N, L]`` to words ``[N, L, D]`` and the sentence vector ``[N, E]``."""
        x = self.embed(input_ids)
        mask = self.causal_mask(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.finish(x, input_ids)


__all__ = ["CLIP", "PRESETS", "CLIPTextTransformer", "CLIPVisionTransformer", "ModifiedResNet"]

PRESETS: dict[str, dict[str, Any]] = {
    "RN50": {"embed_dim": 1024, "vision_layers": [3, 4, 6, 3], "vision_width": 64, "vision_patch_size": None},
    "RN101": {"embed_dim": 512, "vision_layers": [3, 4, 23, 3], "vision_width": 64, "vision_patch_size": None},
    "ViT-B/16": {"embed_dim": 512, "vision_layers": 12, "vision_width": 768, "vision_patch_size": 16},
}
"""OpenAI's configurations, as arguments of `CLIP`; the text encoder and 224 pixels are its defaults."""


class CLIP(nn.Module):
    """Both encoders of CLIP, without the temperature of its contrastive loss.

    Args:
        embed_dim: Channels E of the common space.
        image_resolution: Side of the images for which positions are stored; any other size is possible.
        vision_layers: Bottlenecks of each of the four stages of a ResNet, or the number of blocks of a transformer.
        vision_width: Channels of the stem of a ResNet, or of a transformer.
        vision_patch_size: Side of a patch of a transformer; ``None`` for a ResNet.
        context_length: Most tokens of a sentence.
        vocab_size: Number of token ids.
        transformer_width: Channels of the words.
        transformer_layers: Blocks of the text encoder.
        vision_heads: Heads of the attention pool or of the vision transformer; by default one for every 64 channels.
        transformer_heads: Heads of the text encoder; by default one for every 64 channels.

    Attributes:
        config: The arguments; ``CLIP(**config)`` builds the same architecture.
        visual: `ModifiedResNet` or `CLIPVisionTransformer`.
        text: `CLIPTextTransformer`.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    visual: ModifiedResNet | CLIPVisionTransformer

    def __init__(
        self,
        embed_dim: int,
        vision_layers: Sequence[int] | int,
        vision_width: int,
        vision_patch_size: int | None = None,
        image_resolution: int = 224,
        context_length: int = 77,
        vocab_size: int = 49408,
        transformer_width: int = 512,
        transformer_layers: int = 12,
        vision_heads: int | None = None,
        transformer_heads: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(vision_layers, int) != (vision_patch_size is not None):
            raise ValueError(
                "A vision transformer has one number of vision_layers and a vision_patch_size, a ResNet four numbers "
                f"and none; got {vision_layers} and {vision_patch_size}"
            )
        self.config: dict[str, Any] = {
            "embed_dim": embed_dim,
            "vision_layers": vision_layers if isinstance(vision_layers, int) else list(vision_layers),
            "vision_width": vision_width,
            "vision_patch_size": vision_patch_size,
            "image_resolution": image_resolution,
            "context_length": context_length,
            "vocab_size": vocab_size,
            "transformer_width": transformer_width,
            "transformer_layers": transformer_layers,
            "vision_heads": vision_heads or _heads(vision_width * (32 if vision_patch_size is None else 1)),
            "transformer_heads": transformer_heads or _heads(transformer_width),
        }
        heads = self.config["vision_heads"]
        if isinstance(vision_layers, int):
            assert vision_patch_size is not None
            self.visual = CLIPVisionTransformer(
                image_resolution, vision_patch_size, vision_width, vision_layers, heads, embed_dim
            )
        elif len(vision_layers) != 4:
            raise ValueError(f"A ResNet has four stages; vision_layers is {vision_layers}")
        else:
            self.visual = ModifiedResNet(vision_layers, embed_dim, heads, image_resolution, vision_width)
        self.text = CLIPTextTransformer(
            embed_dim,
            context_length,
            vocab_size,
            transformer_width,
            self.config["transformer_heads"],
            transformer_layers,
        )


def _heads(width: int) -> int:
    return max(1, width // 64)
