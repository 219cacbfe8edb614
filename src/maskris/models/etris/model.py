"""ETRIS (Xu et al., ICCV 2023): a frozen CLIP with trained bridges between its two encoders.

Image and text meet from the first bridge on, so `encode_image` holds what lies before it: by default the first half of
a ResNet, or a third of a vision transformer.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import CLIP_LETTERBOX, Preprocess
from maskris.models.base import RISModel
from maskris.models.cris.decoder import CoordConv, CRISDecoder, Projector, conv_norm, upsample_published
from maskris.models.encoders.sources import Source
from maskris.models.encoders.tokenizers import OPENAI, build_clip_tokenizer, default_tokenizer
from maskris.models.etris.bridger import Zoom
from maskris.models.etris.encoder import BridgedCLIP, ImageState
from maskris.models.layers.initialization import Initialization, check_initialization
from maskris.models.optimizer_groups import Part, parameter_groups
from maskris.models.weights.encoders import build_clip


class ETRIS(RISModel):
    """ETRIS with any of CLIP's ResNets or vision transformers.

    Of the published configuration, ``word_dim``, ``vis_dim``, ``fpn_in``, ``fpn_out`` and the bridger's ``d_img`` and
    ``d_txt`` follow from `clip` and are no arguments; ``word_len`` is `max_tokens`.

    Args:
        clip: ``"RN50"``, ``"RN101"``, ``"ViT-B/16"``, a file of OpenAI's weights, a Hub id or folder (see
            `maskris.models.weights.encoders.read_clip`), or arguments of `CLIP` (random weights then).
        ladder_dim: Channels of the bridges.
        nhead: Heads of every attention in the bridges; by default 4 for a ResNet and 8 for a vision transformer.
        multi_stage: How many of the three stages have a bridge, from the last.
        stride: How far each stage is zoomed to meet the others; by default [2, 1, 2] for a ResNet (stride 16) and
            [1, 1, 1] for a vision transformer.
        num_layers: Decoder layers.
        num_head: Heads of every attention in the decoder.
        dim_ffn: Inner width of the decoder's feed-forward networks.
        dropout: Of the decoder and of the bridges of a ResNet.
        init: ``"published"`` begins with bridges so weak that words and pixels hardly matter to each other, which suits
            pretrained encoders; ``"scratch"`` with PyTorch's initial weights.
        freeze_clip: Train nothing of CLIP but its positions, as published; false for a CLIP without pretrained weights.
        freeze_statistics: Leave the running statistics of CLIP's batch norms alone, and use them in training as well.
            As published they are not frozen with the weights: they follow the training images.
        encoder_lr: Learning rate of CLIP over that of the rest (``lr_multi``), positions excepted; only matters where
            CLIP isn't frozen.
        tokenizer: Hub id, folder, merges file, list of words or tokenizer; by default that of OpenAI.
        max_tokens: Tokens of an expression, start and end included: 17 for RefCOCO and RefCOCO+, 22 for RefCOCOg.
            Shorter ones are padded to it, because the bridges attend to the padding.
        preprocess: Input size and normalization; by default a letterbox of 416 x 416.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    def __init__(
        self,
        clip: Source = "RN101",
        ladder_dim: int = 64,
        nhead: int | None = None,
        multi_stage: int = 3,
        stride: Sequence[int] | None = None,
        num_layers: int = 3,
        num_head: int = 8,
        dim_ffn: int = 512,
        dropout: float = 0.1,
        init: Initialization = "published",
        freeze_clip: bool = True,
        freeze_statistics: bool = False,
        encoder_lr: float = 1.0,
        tokenizer: str | list[str] | PreTrainedTokenizerBase | None = None,
        max_tokens: int = 17,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        check_initialization(init)
        self.freeze_statistics = freeze_statistics
        self.encoder_lr = encoder_lr
        vocabulary = build_clip_tokenizer(tokenizer or default_tokenizer("CLIP", clip, OPENAI))
        self.set_inputs(preprocess or CLIP_LETTERBOX, vocabulary, max_tokens)
        # Published positions of a vision transformer are resized to the input once, and learned at that size.
        model = build_clip(clip, self.tokenizer, None if isinstance(clip, dict) else self.preprocess.height)
        resnet = model.config["vision_patch_size"] is None
        nhead = nhead or (4 if resnet else 8)
        stride = list(stride or ((2, 1, 2) if resnet else (1, 1, 1)))
        self.encoders = BridgedCLIP(
            model, width=ladder_dim, heads=nhead, fused=multi_stage, strides=stride, dropout=dropout, init=init
        )
        if freeze_clip:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_("positional_embedding" in name)
        width, embed_dim = model.config["transformer_width"], model.config["embed_dim"]
        self.neck = ETRISNeck((*self.encoders.channels[:2], embed_dim), width, embed_dim, stride)
        self.decoder = CRISDecoder(num_layers, width, num_head, dim_ffn, dropout)
        self.proj = Projector(embed_dim, width)
        self.set_config(clip=model.config, nhead=nhead, stride=stride)

    def encode_image(self, images: Tensor) -> list[ImageState]:
        """Normalized images ``[I, 3, H, W]`` to CLIP's stages up to the first bridge, as `BridgedCLIP.encode_image`."""
        return self.encoders.encode_image(images)

    def segment(
        self, features: list[ImageState], input_ids: Tensor, attention_mask: Tensor, image_index: Tensor
    ) -> Tensor:
        """Logits ``[N, 1, H / 4, W / 4]``; tokens beyond `max_tokens`, which the tokenizer never makes, are cut off."""
        input_ids, attention_mask = self._whole(input_ids, attention_mask)
        maps, words, state = self.encoders(features, input_ids, image_index)
        vis = self.decoder(self.neck(maps, state), words, attention_mask.bool())
        return cast(Tensor, self.proj(vis, state))

    def _whole(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Both padded to the length of the training: the bridges attend to padding, so its amount must not vary."""
        missing = self.tokenizer.max_length - input_ids.shape[1]  # negative padding cuts
        input_ids = input_ids.masked_fill(attention_mask == 0, 0)  # the id of padding in `build_clip_tokenizer`
        return F.pad(input_ids, (0, missing)), F.pad(attention_mask, (0, missing))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CLIP's projected map ``[N, h, w, E]`` and words ``[N, L, D]``, bridged; see `RISModel.token_features`.

        The map has stride 32 with a ResNet and that of the patches with a vision transformer.
        """
        states = self.encode_image(self.preprocess.normalize(batch.images))
        maps, words, _ = self.encoders(states, self._whole(batch.input_ids, batch.attention_mask)[0], batch.image_index)
        length = batch.input_ids.shape[1] - words.shape[1]
        return maps[2].permute(0, 2, 3, 1), F.pad(words, (0, 0, 0, length))

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring logits ``[N, 1, h, w]`` to ``[N, 1, *size]``; see `upsample_published`."""
        return upsample_published(logits, size, self.training)

    def train(self, mode: bool = True) -> "ETRIS":
        """Training mode; CLIP's batch norms stay in evaluation mode with `freeze_statistics`."""
        super().train(mode)
        if self.freeze_statistics:
            for module in self.encoders.clip.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """What is trained: CLIP at `encoder_lr` times the rate, and all else with CLIP's positions at the full rate."""
        clip = Part("clip", self.encoders.clip, self.encoder_lr, leaves_out="positional_embedding")
        return parameter_groups((clip, Part("head", self)), lr, weight_decay)


class ETRISNeck(nn.Module):
    """Hierarchical alignment (section 3.3): three maps, finest first, each gated by the sentence, are merged."""

    def __init__(self, inputs: Sequence[int], width: int, state_width: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.zooms = nn.ModuleList(
            Zoom(channels, width, stride, transposed=i == 2, norm=True)
            for i, (channels, stride) in enumerate(zip(inputs, strides, strict=True))
        )
        self.txt_proj = nn.Linear(state_width, width)
        self.gates = nn.ModuleList(Gate(width) for _ in inputs)
        self.aggr = conv_norm(len(inputs) * width, width, 1)
        self.coordconv = nn.Sequential(CoordConv(width, width), conv_norm(width, width, 3))

    def forward(self, maps: Sequence[Tensor], state: Tensor) -> Tensor:
        """Maps ``[N, C, h, w]`` and sentence vectors ``[N, E]`` to one map ``[N, D, h', w']``."""
        sentence = self.txt_proj(state)  # [N, D]
        gated = [gate(zoom(each), sentence) for gate, zoom, each in zip(self.gates, self.zooms, maps, strict=True)]
        return cast(Tensor, self.coordconv(self.aggr(torch.cat(gated, dim=1))))


class Gate(nn.Module):
    """Pixels multiplied by their attention to the sentence.

    With a single key every attention weight is 1, whatever the query: the published queries, keys and heads have no
    influence and no gradient, and are left out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        # The initial values of the attention that this is the rest of: one matrix for queries, keys and values.
        nn.init.xavier_uniform_(self.v_proj.weight, gain=0.5**0.5)
        nn.init.zeros_(self.v_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, sentence: Tensor) -> Tensor:
        """``[N, D, h, w]`` and ``[N, D]`` to ``[N, D, h, w]``."""
        return x * cast(Tensor, self.out_proj(self.v_proj(sentence)))[:, :, None, None]
