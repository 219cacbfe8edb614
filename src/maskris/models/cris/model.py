"""CRIS (Wang et al., CVPR 2022): CLIP's ResNet and text encoder, a neck that gates the map by the sentence, a decoder.

Image and text meet behind the encoders only, so `encode_image` holds the whole image encoder and the first convolutions
of the neck.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import CLIP_LETTERBOX, Preprocess
from maskris.models.base import RISModel
from maskris.models.clip.resnet import ModifiedResNet
from maskris.models.cris.decoder import CoordConv, CRISDecoder, Projector, conv_norm, resize, upsample_published
from maskris.models.encoders.sources import Source
from maskris.models.encoders.tokenizers import OPENAI, build_clip_tokenizer, default_tokenizer
from maskris.models.optimizer_groups import Part, parameter_groups
from maskris.models.weights.encoders import build_clip


class CRISFeatures(NamedTuple):
    """Features of `I` images alone."""

    c5: Tensor
    """CLIP's map ``[I, E, H / 32, W / 32]`` behind its attention pool."""
    maps: tuple[Tensor, Tensor, Tensor]
    """The neck's projections of the three maps ``[I, c, h, w]``, coarsest first, at strides 32, 16 and 16."""


class CRIS(RISModel):
    """CRIS with any of CLIP's ResNets.

    Of the published configuration, ``word_dim``, ``vis_dim`` and ``fpn_in`` follow from `clip` and are no arguments;
    ``word_len`` is `max_tokens`.

    Args:
        clip: ``"RN50"``, ``"RN101"``, a file of OpenAI's weights, a Hub id or folder (see
            `maskris.models.weights.encoders.read_clip`), or arguments of `CLIP` (random weights then).
        fpn_out: Channels of the neck at strides 8, 16 and 32; the second must be the width of CLIP's words.
        num_layers: Decoder layers.
        num_head: Heads of every attention in the decoder.
        dim_ffn: Inner width of the decoder's feed-forward networks.
        dropout: Of the decoder.
        encoder_lr: Learning rate of CLIP over that of the rest (``lr_multi``); 1 for one without pretrained weights.
        tokenizer: Hub id, folder, merges file, list of words or tokenizer; by default that of OpenAI.
        max_tokens: Most tokens of an expression, start and end included: 17 for RefCOCO and RefCOCO+, 22 for RefCOCOg.
        preprocess: Input size and normalization; by default a letterbox of 416 x 416.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    def __init__(
        self,
        clip: Source = "RN50",
        fpn_out: Sequence[int] = (256, 512, 1024),
        num_layers: int = 3,
        num_head: int = 8,
        dim_ffn: int = 2048,
        dropout: float = 0.1,
        encoder_lr: float = 0.1,
        tokenizer: str | list[str] | PreTrainedTokenizerBase | None = None,
        max_tokens: int = 17,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.encoder_lr = encoder_lr
        vocabulary = build_clip_tokenizer(tokenizer or default_tokenizer("CLIP", clip, OPENAI))
        self.set_inputs(preprocess or CLIP_LETTERBOX, vocabulary, max_tokens)
        self.clip = build_clip(clip, self.tokenizer)
        config = self.clip.config
        if not isinstance(self.clip.visual, ModifiedResNet):
            raise ValueError("CRIS needs the ResNet of CLIP, whose maps have three resolutions; this is a transformer")
        width, embed_dim = config["transformer_width"], config["embed_dim"]
        if len(fpn_out) != 3 or fpn_out[1] != width:
            raise ValueError(
                f"fpn_out needs three numbers, the second being the width of CLIP's words {width}, not {list(fpn_out)}"
            )
        fpn_in = (config["vision_width"] * 8, config["vision_width"] * 16, embed_dim)
        self.neck = CRISNeck(fpn_in, fpn_out, embed_dim)
        self.decoder = CRISDecoder(num_layers, width, num_head, dim_ffn, dropout)
        self.proj = Projector(embed_dim, width)
        self.set_config(clip=config, fpn_out=list(fpn_out))

    def encode_image(self, images: Tensor) -> CRISFeatures:
        """Normalized images ``[I, 3, H, W]`` of any size from 32 to CLIP's map and the neck's projections."""
        c3, c4, c5 = self.clip.visual(images)
        return CRISFeatures(c5, self.neck.project(c3, c4, c5))

    def segment(self, features: CRISFeatures, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits ``[N, 1, H / 4, W / 4]``.

        Raises:
            ValueError: In training with one expression, of which batch norm can make nothing.
        """
        words, state = self.clip.text(input_ids)
        maps = [each[image_index] for each in features.maps]
        vis = self.decoder(self.neck(maps, state), words, attention_mask.bool())
        return cast(Tensor, self.proj(vis, state))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CLIP's pooled map ``[N, H / 32, W / 32, E]`` and words ``[N, L, D]``; see `RISModel.token_features`."""
        c5 = self.clip.visual(self.preprocess.normalize(batch.images))[2]
        words, _ = self.clip.text(batch.input_ids)
        return c5.permute(0, 2, 3, 1)[batch.image_index], words

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring logits ``[N, 1, h, w]`` to ``[N, 1, *size]``; see `upsample_published`."""
        return upsample_published(logits, size, self.training)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups: CLIP at `encoder_lr` times the rate, and all else with CLIP's positions at the full rate.

        As published. That CLIP learns at the full rate in the first epoch is a matter of the training
        (`first_epoch_full_rate`).
        """
        parts = Part("clip", self.clip, self.encoder_lr, leaves_out="positional_embedding"), Part("head", self)
        return parameter_groups(parts, lr, weight_decay)


class CRISNeck(nn.Module):
    """Three maps and the sentence become one map of stride 16 (section 3.2).

    The channels of the maps, and of their projections, are those at strides 8, 16 and 32.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], state_width: int) -> None:
        super().__init__()
        c3, c4, c5 = outputs
        self.txt_proj = nn.Sequential(nn.Linear(state_width, c5, bias=False), nn.BatchNorm1d(c5), nn.ReLU(inplace=True))
        self.f1_v_proj = conv_norm(inputs[2], c5, 1)
        self.norm_layer = nn.Sequential(nn.BatchNorm2d(c5), nn.ReLU(inplace=True))
        self.f2_v_proj = conv_norm(inputs[1], c4, 3)
        self.f2_cat = conv_norm(c4 + c5, c4, 1)
        self.f3_v_proj = conv_norm(inputs[0], c3, 3)
        self.f3_cat = conv_norm(c3 + c4, c4, 1)
        self.f4_proj5 = conv_norm(c5, c4, 3)
        self.f4_proj4 = conv_norm(c4, c4, 3)
        self.f4_proj3 = conv_norm(c4, c4, 3)
        self.aggr = conv_norm(3 * c4, c4, 1)
        self.coordconv = nn.Sequential(CoordConv(c4, c4), conv_norm(c4, c4, 3))

    def project(self, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What needs no words: the projections of the three maps, coarsest first, the finest pooled to stride 16."""
        return self.f1_v_proj(c5), self.f2_v_proj(c4), F.avg_pool2d(self.f3_v_proj(c3), 2)

    def forward(self, maps: Sequence[Tensor], state: Tensor) -> Tensor:
        """Projections ``[N, c, h, w]`` and sentence vectors ``[N, E]`` to ``[N, D, H / 16, W / 16]``."""
        if self.training and len(state) == 1:
            raise ValueError("CRIS normalizes sentences over the batch: train with two expressions or more at a time")
        f5, f4, f3 = maps
        size = f4.shape[-2:]
        f5 = self.norm_layer(f5 * self.txt_proj(state)[:, :, None, None])  # the sentence gates the coarsest map
        f4 = self.f2_cat(torch.cat([f4, resize(f5, size)], dim=1))
        f3 = self.f3_cat(torch.cat([f3, f4], dim=1))
        f5, f4, f3 = resize(self.f4_proj5(f5), size), self.f4_proj4(f4), self.f4_proj3(f3)
        return cast(Tensor, self.coordconv(self.aggr(torch.cat([f3, f4, f5], dim=1))))
