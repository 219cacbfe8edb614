"""`TRIS` (Liu et al., ICCV 2023), second stage: a network that learns from the pseudo masks of the first one.

The first stage, which learns from sentences alone, is `maskris.models.tris_localizer`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.clip.resnet import ModifiedResNet
from maskris.models.encoders.sources import Source
from maskris.models.encoders.tokenizers import OPENAI, build_clip_tokenizer, default_tokenizer
from maskris.models.optimizer_groups import Part, parameter_groups
from maskris.models.tris.decoder import PixelAttention, PixelQueries, TRISDecoder
from maskris.models.weights.encoders import build_clip


class TRISFeatures(NamedTuple):
    """Features of `I` images alone."""

    finest: Tensor
    """``[I, c, H / 4, W / 4]``, reduced."""
    maps: tuple[Tensor, ...]
    """Three maps of CLIP ``[I, c, h, w]`` at strides 8, 16 and 32."""
    queries: tuple[PixelQueries, ...]
    """What attends to the words, at the same strides."""


class TRIS(RISModel):
    """TRIS's segmentation network with any of CLIP's ResNets.

    Training returns four outputs as channels, for `DeepMaskCriterion`; evaluation the finest alone.

    Args:
        clip: ``"RN50"``, ``"RN101"``, a file of OpenAI's weights, a Hub id or folder (see
            `maskris.models.weights.encoders.read_clip`), or arguments of `CLIP` (random weights then). Its attention
            pool is left out.
        widths: Channels to which the maps at strides 4, 8, 16 and 32 are reduced; the first must be even.
        encoder_lr: Learning rate of CLIP over that of the rest; 1 for one without pretrained weights.
        tokenizer: Hub id, folder, merges file, list of words or tokenizer; by default that of OpenAI.
        max_tokens: Most tokens of an expression, start and end included.
        keep_end_token: Whether an expression that is too long keeps its end of text; false as published.
        preprocess: Input size and normalization; by default a stretch to 320 x 320 with ImageNet's mean and deviation.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    def __init__(
        self,
        clip: Source = "RN50",
        widths: Sequence[int] = (64, 128, 256, 512),
        encoder_lr: float = 0.1,
        tokenizer: str | list[str] | PreTrainedTokenizerBase | None = None,
        max_tokens: int = 20,
        keep_end_token: bool = True,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.encoder_lr = encoder_lr
        if len(widths) != 4 or widths[0] % 2:
            raise ValueError(f"widths needs four numbers, the first of them even, not {list(widths)}")
        vocabulary = build_clip_tokenizer(tokenizer or default_tokenizer("CLIP", clip, OPENAI))
        self.set_inputs(preprocess or Preprocess(320, 320), vocabulary, max_tokens, keep_end_token)
        self.clip = build_clip(clip, self.tokenizer, attention_pool=False)
        config = self.clip.config
        if not isinstance(self.clip.visual, ModifiedResNet):
            raise ValueError("TRIS needs the ResNet of CLIP, whose maps have four resolutions; this is a transformer")
        # Words alone are read, not the sentence: the projection is in the weights, and has no gradient.
        self.clip.text.text_projection.requires_grad_(False)
        channels = [config["vision_width"] * factor for factor in (4, 8, 16, 32)]
        words = config["transformer_width"]
        self.attentions = nn.ModuleList(PixelAttention(width, words) for width in channels[1:])
        self.decoder = TRISDecoder(channels, widths)
        self.set_config(clip=config, widths=list(widths))

    def encode_image(self, images: Tensor) -> TRISFeatures:
        """Normalized images ``[I, 3, H, W]`` to CLIP's maps and all that needs no words."""
        visual = cast(ModifiedResNet, self.clip.visual)
        first, *maps = visual.stages(images)
        queries = (cast(PixelAttention, one).prepare(x) for one, x in zip(self.attentions, maps, strict=True))
        return TRISFeatures(self.decoder.reductions[0](first), tuple(maps), tuple(queries))

    def segment(self, features: TRISFeatures, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits: in training ``[N, 4, H, W]``, the finest output first; in evaluation ``[N, 1, H / 4, W / 4]``.

        Pixels attend to the padding too, so its amount must not vary: expressions are padded to `max_tokens`, as
        published.
        """
        missing = self.tokenizer.max_length - input_ids.shape[1]  # negative padding cuts
        padded = F.pad(input_ids.masked_fill(attention_mask == 0, 0), (0, missing))  # with the id of CLIP's padding
        words, _ = self.clip.text(padded)
        maps = [
            x[image_index] + attend(PixelQueries(*(part[image_index] for part in queries)), words)
            for attend, x, queries in zip(self.attentions, features.maps, features.queries, strict=True)
        ]
        return cast(Tensor, self.decoder(features.finest[image_index], maps))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CLIP's last map ``[N, H / 32, W / 32, C]`` and words ``[N, L, D]``; see `RISModel.token_features`."""
        visual = cast(ModifiedResNet, self.clip.visual)
        last = visual.stages(self.preprocess.normalize(batch.images))[3]
        words, _ = self.clip.text(batch.input_ids)
        return last.permute(0, 2, 3, 1)[batch.image_index], words

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups: CLIP at `encoder_lr` times the rate, and all else with CLIP's positions at the full rate.

        As published. Everything decays, biases and norms too.
        """
        parts = Part("clip", self.clip, self.encoder_lr, leaves_out="positional_embedding"), Part("head", self)
        return parameter_groups(parts, lr, weight_decay)
