"""`CLIP`: OpenAI's pair of encoders (Radford et al., 2021), a ResNet or a vision transformer and a text transformer.

The blocks of both transformers are those of `transformers`; they run one by one, because ETRIS works between them. The
other parameters have OpenAI's names, those of the text encoder below ``text.``.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from maskris.models.clip.resnet import ModifiedResNet, resize_positions


class _Transformer(nn.Module):
    """What the two transformers share: the run through their blocks."""

    blocks: nn.ModuleList
    causal = False

    def run(self, x: Tensor, blocks: slice = slice(None)) -> Tensor:
        """Some of the blocks, all by default: ``[N, L, D]`` to the same shape."""
        for block in self.blocks[blocks]:
            x = block(x, None, is_causal=self.causal)
        return x


class CLIPVisionTransformer(_Transformer):
    """CLIP's vision transformer. Tokens are ``[I, 1 + h w, D]``: the class token, then the patches row by row.

    Whole: ``tokens = vit(images)``. Step by step: `embed`, `run`, `finish`. Positions are stored for images with
    sides of `input_resolution`; for others they are resized bicubically.
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
        self.blocks = _blocks(width, layers, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))

    def embed(self, images: Tensor) -> Tensor:
        """Normalized images ``[I, 3, H, W]`` to tokens ``[I, 1 + h w, D]`` with ``h = H // patch_size``."""
        patches = self.conv1(images)  # [I, D, h, w]
        positions = resize_positions(self.positional_embedding, *patches.shape[-2:])
        token = self.class_embedding.to(patches.dtype).expand(len(images), 1, -1)
        tokens = torch.cat([token, patches.flatten(2).transpose(1, 2)], dim=1)
        return cast(Tensor, self.ln_pre(tokens + positions.to(tokens.dtype)))

    def finish(self, x: Tensor) -> Tensor:
        """What the last block leaves ``[I, 1 + h w, D]`` to projected tokens ``[I, 1 + h w, output_dim]``."""
        return cast(Tensor, self.ln_post(x) @ self.proj)

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images ``[I, 3, H, W]`` to projected tokens ``[I, 1 + h w, output_dim]``."""
        return self.finish(self.run(self.embed(images)))


class CLIPTextTransformer(_Transformer):
    """Words and a sentence vector from token ids; padding needs no mask, since attention is causal.

    Whole: ``words, state = text(input_ids)``. Step by step: `embed`, `run`, `finish`.
    """

    causal = True

    def __init__(
        self, embed_dim: int, context_length: int, vocab_size: int, width: int, heads: int, layers: int
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(context_length, width))
        self.blocks = _blocks(width, layers, heads)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids ``[N, L]`` to tokens with their positions ``[N, L, D]``.

        Raises:
            ValueError: If the sentences are longer than `context_length`.
        """
        length, most = input_ids.shape[1], self.positional_embedding.shape[0]
        if length > most:
            raise ValueError(f"CLIP's text encoder takes at most {most} tokens, not {length}")
        return cast(Tensor, self.token_embedding(input_ids) + self.positional_embedding[:length])

    def finish(self, x: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the last block leaves ``[N, L, D]`` to words ``[N, L, D]`` and the sentence vector ``[N, E]``.

        The sentence vector is the projected word at the end of text, whose id is the largest of the vocabulary.
        """
        words: Tensor = self.ln_final(x)
        end = input_ids.argmax(dim=1)
        return words, words[torch.arange(len(words), device=words.device), end] @ self.text_projection

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids ``[N, L]`` to words ``[N, L, D]`` and the sentence vector ``[N, E]``."""
        return self.finish(self.run(self.embed(input_ids)), input_ids)


def _blocks(width: int, layers: int, heads: int) -> nn.ModuleList:
    """Blocks of `transformers` with OpenAI's activation and initial weights."""
    if width % heads:
        raise ValueError(f"CLIP's {heads} heads must divide the width {width}")
    config = CLIPVisionConfig(hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads)
    config._attn_implementation = "sdpa"
    blocks = nn.ModuleList(CLIPEncoderLayer(config) for _ in range(layers))
    for name, parameter in blocks.named_parameters():
        if name.endswith("_proj.bias"):
            nn.init.zeros_(parameter)
        elif name.endswith(("out_proj.weight", "fc2.weight")):
            nn.init.normal_(parameter, std=width**-0.5 * (2 * layers) ** -0.5)
        elif name.endswith("_proj.weight"):
            nn.init.normal_(parameter, std=width**-0.5)
        elif name.endswith("fc1.weight"):
            nn.init.normal_(parameter, std=(2 * width) ** -0.5)
    return blocks


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
        attention_pool: Whether a ResNet has CLIP's attention pool behind its last stage; a network that reads the
            stages alone has no use for its parameters.

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
        attention_pool: bool = True,
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
            "vision_heads": vision_heads or max(1, vision_width * (32 if vision_patch_size is None else 1) // 64),
            "transformer_heads": transformer_heads or max(1, transformer_width // 64),
            "attention_pool": attention_pool,
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
            pool = attention_pool
            self.visual = ModifiedResNet(vision_layers, embed_dim, heads, image_resolution, vision_width, pool)
        heads = self.config["transformer_heads"]
        self.text = CLIPTextTransformer(
            embed_dim, context_length, vocab_size, transformer_width, heads, transformer_layers
        )
