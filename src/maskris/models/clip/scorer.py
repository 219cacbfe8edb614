"""`CLIPScorer`: a frozen CLIP that says how well an image, or the part of it below a map, fits a sentence."""

import torch.nn.functional as F
from torch import Tensor, nn

from maskris.data.tokenizer import ExpressionTokenizer
from maskris.models.clip.towers import CLIPVisionTransformer
from maskris.models.encoders.sources import Source
from maskris.models.weights.encoders import build_clip


class CLIPScorer(nn.Module):
    """CLIP's vision transformer and text encoder as a judge whose weights never change (TRIS, Liu et al., ICCV 2023).

    Gradients flow through it to images and maps, never into it.

    Args:
        clip: ``"ViT-B/32"`` (published), a file, a folder or Hub id (see `maskris.models.weights.encoders.read_clip`),
            or arguments of `CLIP` (random weights then).
        tokenizer: What the sentences will come from; checked against the vocabulary and the length of sentences.

    Attributes:
        side: Images and maps are resized to squares of so many pixels, those for which positions are stored.

    Raises:
        FileNotFoundError: If there are no such weights.
        ValueError: If they are none of a CLIP with a vision transformer, or the tokenizer doesn't fit.
    """

    def __init__(self, clip: Source = "ViT-B/32", tokenizer: ExpressionTokenizer | None = None) -> None:
        super().__init__()
        self.clip = build_clip(clip, tokenizer)
        if not isinstance(self.clip.visual, CLIPVisionTransformer):
            raise ValueError("The scorer needs a CLIP with a vision transformer, whose class token is the image")
        self.side = int(self.clip.config["image_resolution"])
        self.requires_grad_(False)
        self.eval()

    def embed_images(self, images: Tensor, maps: Tensor | None = None) -> Tensor:
        """Unit vectors of images, or of what is left of them below a map.

        Images and maps are resized to `side` on their own, bilinearly with ``align_corners=True`` and without
        antialiasing, and then multiplied, as published: normalized pixels fade to the mean color.

        Args:
            images: ``[B, 3, H, W]`` normalized, of any size.
            maps: ``[B, 1, h, w]`` of any size and range: a sigmoid in training, unbounded scores in the selection of
                response maps.

        Returns:
            ``[B, D]`` of length 1.
        """
        pixels = self.resize(images)
        if maps is not None:
            pixels = pixels * self.resize(maps)
        tokens: Tensor = self.clip.visual(pixels)  # [B, 1 + h w, D]
        return F.normalize(tokens[:, 0], dim=-1)

    def embed_texts(self, input_ids: Tensor) -> Tensor:
        """Unit vectors ``[B, D]`` of sentences ``[B, L]``, token ids of CLIP's vocabulary with start and end."""
        return F.normalize(self.clip.text(input_ids)[1], dim=-1)

    def resize(self, images: Tensor) -> Tensor:
        """Images or maps ``[B, C, H, W]`` as ``[B, C, side, side]``."""
        size = (self.side, self.side)
        if images.shape[-2:] == size:
            return images
        return F.interpolate(images, size=size, mode="bilinear", align_corners=True)
