"""`CLIP`: OpenAI's pair of encoders (Radford et al., 2021), a ResNet or a vision transformer and a text transformer.

The parameters have OpenAI's names but for two things: those of the text encoder stand under ``text.``, and the blocks
of both transformers are called ``blocks`` instead of ``transformer.resblocks``.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from maskris.models.clip_text import CLIPTextTransformer
from maskris.models.clip_vision import CLIPVisionTransformer, ModifiedResNet

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
