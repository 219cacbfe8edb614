"""LAVT (Yang et al., CVPR 2022): language is fused into the image between the stages of the vision backbone.

Written from a description of what the published network computes (the published code is GPL and is not used).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.encoders.sources import Source, build_tokenizer
from maskris.models.encoders.staged import StagedVisionEncoder
from maskris.models.encoders.text import TextEncoder
from maskris.models.encoders.tokenizers import default_tokenizer
from maskris.models.optimizer_groups import Part, parameter_groups


class LAVT(RISModel):
    """LAVT with any vision backbone that can be run stage by stage and any text encoder.

    Args:
        vision: Hub id, local folder, or configuration with ``model_type`` (random weights then).
        text: Hub id, local folder, packaged encoder, or configuration with ``model_type``.
        fusion_heads: Heads of the attention from pixels to words behind each of the four stages.
        fusion_dropout: Dropout of the fusion.
        drop_path: Stochastic depth of the vision encoder.
        trained_text_layers: How many layers of the text encoder learn, from the first. All its other parameters, the
            embeddings among them, stay as they were pretrained (published: 10 of 12 layers learn). None lets everything
            learn, as a text encoder without pretrained weights must.
        text_dropout: Whether the text encoder drops out in training. As published it stays in evaluation mode, in which
            its layers learn all the same.
        tokenizer: Hub id, folder, list of words or tokenizer; by default that of `text`.
        max_tokens: Most tokens of an expression, special ones included.
        keep_end_token: Whether an expression of too many tokens keeps its end token; the published code cuts it off.
        preprocess: Input size and normalization; by default 480 x 480, stretched.

    Raises:
        ValueError: If the arguments contradict each other, or the backbone can't be run stage by stage.
    """

    align_corners = True

    def __init__(
        self,
        vision: Source = "microsoft/swin-base-patch4-window12-384-in22k",
        text: Source = "bert-base-uncased",
        fusion_heads: Sequence[int] = (1, 1, 1, 1),
        fusion_dropout: float = 0.0,
        drop_path: float = 0.3,
        trained_text_layers: int | None = 10,
        text_dropout: bool = False,
        tokenizer: str | list[str] | PreTrainedTokenizerBase | None = None,
        max_tokens: int = 20,
        keep_end_token: bool = True,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        if len(fusion_heads) != 4:
            raise ValueError(f"fusion_heads needs four numbers, one for each stage, not {list(fusion_heads)}")
        self.vision = StagedVisionEncoder(vision, drop_path)
        self.text = TextEncoder(text)
        self.text_dropout = text_dropout
        self.text.train(text_dropout)
        _freeze_text(self.text, trained_text_layers)
        channels = self.vision.channels
        self.fusions = nn.ModuleList(
            PixelWordFusion(width, self.text.width, heads, fusion_dropout)
            for width, heads in zip(channels, fusion_heads, strict=True)
        )
        # The published network has a fourth gate, whose output is not used.
        self.gates = nn.ModuleList(LanguageGate(width) for width in channels[:-1])
        self.decoder = LAVTDecoder(channels)
        vocabulary = build_tokenizer(tokenizer or default_tokenizer("text encoder", text))
        self.set_inputs(preprocess or Preprocess(480, 480), vocabulary, max_tokens, keep_end_token)
        self.set_config(vision=self.vision.config, text=self.text.config, fusion_heads=list(fusion_heads))

    def encode_image(self, images: Tensor) -> Tensor:
        """The images themselves, ``[I, 3, H, W]``: no layer of LAVT is independent of the words."""
        return images

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Words ``[N, L]`` to word features ``[N, L, T]``."""
        return cast(Tensor, self.text(input_ids, attention_mask))

    def fuse(self, images: Tensor, words: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """The language-aware vision encoder (sections 3.1 and 3.2).

        Normalized images ``[N, 3, H, W]``, one for each expression, words ``[N, L, T]`` and their mask ``[N, L]`` to
        four maps ``[N, c, h, w]``, finest first.
        """
        maps = []
        stages = self.vision.iterate_stages(images)
        x = next(stages)
        for stage, fusion in enumerate(self.fusions):
            fused = fusion(x, words, attention_mask)
            maps.append(self.vision.normalize(stage, fused))
            if stage < len(self.gates):
                x = stages.send(x + self.gates[stage](fused) * fused)
        return maps

    def segment(self, features: Tensor, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits ``[N, 2, H / 4, W / 4]``: background, referent. All the work happens here, once per expression."""
        words = self.encode_text(input_ids, attention_mask)
        return cast(Tensor, self.decoder(self.fuse(features[image_index], words, attention_mask)))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The fused map of the last stage ``[N, h, w, Dv]`` and the words ``[N, L, Dw]``."""
        words = self.encode_text(batch.input_ids, batch.attention_mask)
        images = self.preprocess.normalize(batch.images)[batch.image_index]
        return self.fuse(images, words, batch.attention_mask)[-1].movedim(1, -1), words

    def train(self, mode: bool = True) -> "LAVT":
        """Training mode; the text encoder stays in evaluation mode unless there is `text_dropout`."""
        super().train(mode)
        self.text.train(mode and self.text_dropout)
        return self

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The official groups, all at one rate: only norms and tables of the vision encoder are not decayed.

        As published (in the official code): biases, the batch norms of the decoder and the layer norms of the text
        encoder are decayed. Frozen parameters are in no group; see `trained_text_layers`.
        """
        parts = (
            Part("vision", self.vision, uses_weight_decay=self.vision.uses_weight_decay),
            Part("fusion", nn.ModuleList([self.fusions, self.gates])),
            Part("decoder", self.decoder),
            Part("text", self.text),
        )
        return parameter_groups(parts, lr, weight_decay)


class PixelWordFusion(nn.Module):
    """Pixel-word attention module, PWAM (section 3.2): cross-attention of the pixels to the words.

    There is dropout before and after pixels and words are multiplied.

    Raises:
        ValueError: If `heads` does not divide `width`.
    """

    def __init__(self, width: int, text_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"fusion_heads must divide the channels of their stage: {heads} does not divide {width}")
        self.heads = heads
        self.visual = nn.Conv1d(width, width, 1)
        self.query = nn.Conv1d(width, width, 1)
        self.key = nn.Conv1d(text_width, width, 1)
        self.value = nn.Conv1d(text_width, width, 1)
        self.output = nn.Conv1d(width, width, 1)
        self.merge = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, words: Tensor, attention_mask: Tensor) -> Tensor:
        """Map ``[N, C, h, w]``, words ``[N, L, T]`` and their mask ``[N, L]`` to the fused map ``[N, C, h, w]``."""
        pixels = x.flatten(2)  # [N, C, h * w]
        visual = self.dropout(F.gelu(self.visual(pixels)))
        fused = self.dropout(F.gelu(self.merge(visual * self.attend(pixels, words, attention_mask))))
        return cast(Tensor, fused.unflatten(2, x.shape[2:]))

    def attend(self, pixels: Tensor, words: Tensor, attention_mask: Tensor) -> Tensor:
        """Attention of the pixels to the words: pixels ``[N, C, h * w]`` to the same shape."""
        mask = attention_mask.to(words.dtype)[:, None]  # [N, 1, L]
        q = _instance_norm(self.query(pixels))
        k, v = (conv(words.transpose(1, 2)) * mask for conv in (self.key, self.value))  # [N, C, L]
        # A pixel's weights add up to one, so that this moves all pixels alike, which the norm below undoes; but without
        # it that norm would blow up the rounding of values which hardly differ from pixel to pixel.
        v = v - (v.sum(2, keepdim=True) / mask.sum(2, keepdim=True).clamp(min=1))
        q, k, v = (part.unflatten(1, (self.heads, -1)).transpose(2, 3) for part in (q, k, v))  # [N, heads, S or L, c]
        additive = (1e4 * (mask - 1))[:, None].to(q.dtype)  # [N, 1, 1, L]
        # The scale is that of all channels, not of a head's; for one head they are the same.
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=additive, scale=pixels.shape[1] ** -0.5)
        return _instance_norm(self.output(attended.transpose(2, 3).flatten(1, 2)))


class LanguageGate(nn.Module):
    """Gate of the fused map, channel by channel, before the next stage (section 3.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width, bias=False)
        self.outer = nn.Linear(width, width, bias=False)
        for linear in (self.inner, self.outer):
            nn.init.trunc_normal_(linear.weight, std=0.02)  # as all linear layers of Swin: nearly closed at first

    def forward(self, fused: Tensor) -> Tensor:
        """``[N, C, h, w]`` to factors between -1 and 1 of the same shape."""
        return torch.tanh(self.outer(F.relu(self.inner(fused.movedim(1, -1))))).movedim(-1, 1)


class LAVTDecoder(nn.Module):
    """Top-down decoder: the coarser map is upsampled and joins the finer one (section 3.4)."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        hidden = channels[-1] // 2
        above = [channels[-1], *[hidden] * (len(channels) - 2)]
        self.blocks = nn.ModuleList(
            nn.Sequential(*_conv_norm(coarse + fine, hidden), *_conv_norm(hidden, hidden))
            for coarse, fine in zip(above, reversed(channels[:-1]), strict=True)
        )
        self.last = nn.Conv2d(hidden, 2, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps, finest first, to logits ``[N, 2, h, w]`` of the size of the finest."""
        *finer, y = maps
        for x, block in zip(reversed(finer), self.blocks, strict=True):
            y = F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=True)
            y = block(torch.cat([y, x], dim=1))
        return cast(Tensor, self.last(y))


def _instance_norm(x: Tensor) -> Tensor:
    """Instance norm of ``[N, C, S]`` over S without weights: the layer norm over S, which allows S = 1."""
    return F.layer_norm(x, x.shape[2:])


def _conv_norm(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()


def _freeze_text(text: TextEncoder, trained_layers: int | None) -> None:
    if trained_layers is None:
        return
    if trained_layers < 0:
        raise ValueError(f"trained_text_layers must be at least 0, or null for everything, not {trained_layers}")
    layers = max((module for module in text.modules() if isinstance(module, nn.ModuleList)), key=len)
    text.requires_grad_(False)
    layers[:trained_layers].requires_grad_(True)
