"""`TRISLocalizer` (Liu et al., ICCV 2023), first stage: where an expression points, learned from pairs alone.

Learns by `TextSupervised`. Its maps become the pseudo masks from which the second stage, `maskris.models.tris`, learns.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.clip.resnet import ModifiedResNet
from maskris.models.encoders.sources import Source
from maskris.models.encoders.tokenizers import OPENAI, build_clip_tokenizer, default_tokenizer
from maskris.models.optimizer_groups import Part, parameter_groups
from maskris.models.weights.encoders import build_clip


class TRISLocalizer(RISModel):
    """TRIS's response maps with any of CLIP's ResNets.

    In training the scores of every image with every text of the batch come back, ``[I, N, h, w]``; in evaluation those
    of each expression with its own image, ``[N, 1, h, w]``. A score above 0 belongs to the referent.

    Args:
        clip: ``"RN50"``, ``"RN101"``, a file of OpenAI's weights, a Hub id or folder (see
            `maskris.models.weights.encoders.read_clip`), or arguments of `CLIP` (random weights then). Its attention
            pool is left out.
        width: Channels of the space in which image and text are compared.
        encoder_lr: Learning rate of CLIP over that of the rest; 1 for one without pretrained weights.
        tokenizer: Hub id, folder, merges file, list of words or tokenizer; by default that of OpenAI.
        max_tokens: Most tokens of an expression, start and end included.
        keep_end_token: Whether an expression that is too long keeps its end of text; false as published, and then the
            sentence is read at its largest id.
        preprocess: Input size and normalization; by default a stretch to 320 x 320 with ImageNet's mean and deviation.

    Attributes:
        logit_scale: The logarithm of the temperature's inverse, 1 / 0.07. A buffer: published training gives it to no
            group of the optimizer, so that it never changes.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    logit_scale: Tensor

    output = "score"

    def __init__(
        self,
        clip: Source = "RN50",
        width: int = 1024,
        encoder_lr: float = 0.1,
        tokenizer: str | list[str] | PreTrainedTokenizerBase | None = None,
        max_tokens: int = 20,
        keep_end_token: bool = True,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.encoder_lr = encoder_lr
        vocabulary = build_clip_tokenizer(tokenizer or default_tokenizer("CLIP", clip, OPENAI))
        self.set_inputs(preprocess or Preprocess(320, 320), vocabulary, max_tokens, keep_end_token)
        self.clip = build_clip(clip, self.tokenizer, attention_pool=False)
        config = self.clip.config
        if not isinstance(self.clip.visual, ModifiedResNet):
            raise ValueError("TRISLocalizer needs the ResNet of CLIP; this is a transformer")
        self.image_projection = nn.Conv2d(config["vision_width"] * 32, width, 1)
        self.text_projection = nn.Linear(config["embed_dim"], width)
        self.prompt = BilateralPrompt(width)
        self.register_buffer("logit_scale", torch.tensor(math.log(1 / 0.07)))
        self.set_config(clip=config, width=width)

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalized images ``[I, 3, H, W]`` to unit vectors ``[I, D, H / 32, W / 32]`` over the channels."""
        last = cast(ModifiedResNet, self.clip.visual).stages(images)[3]
        return _unit(cast(Tensor, self.image_projection(last)))

    def encode_text(self, input_ids: Tensor) -> Tensor:
        """Token ids ``[N, L]`` to unit vectors ``[N, D]``."""
        return _unit(self.text_projection(self.clip.text(input_ids)[1]))

    def segment(self, features: Tensor, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Scores: in training ``[I, N, h, w]`` of all pairs, in evaluation ``[N, 1, h, w]``.

        In evaluation each expression is alone with its image, as published: the prompt of one with others differs.
        """
        texts = self.encode_text(input_ids)
        if self.training:
            return self.scores(features, texts.expand(len(features), -1, -1))
        return self.scores(features[image_index], texts[:, None])

    def scores(self, images: Tensor, texts: Tensor) -> Tensor:
        """Scores ``[B, N, h, w]`` of images ``[B, D, h, w]`` with the texts ``[B, N, D]`` that each is given."""
        for_images, for_texts = self.prompt(images, texts)
        images, texts = images + 0.1 * for_images, texts + 0.1 * for_texts
        products: Tensor = texts @ images.flatten(2)  # [B, N, h w]
        return cast(Tensor, self.logit_scale.exp() * products.unflatten(2, images.shape[-2:]))

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring scores ``[N, C, h, w]`` to ``[N, C, *size]``, bilinearly; in evaluation negative ones become 0.

        So a published response map is made, and later enlargements spread what is positive.
        """
        maps = super().upsample(logits, size)
        return maps if self.training else maps.relu()

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups: CLIP, positions included, at `encoder_lr` times the rate, and the rest; everything decays."""
        parts = Part("clip", self.clip, self.encoder_lr), Part("head", self)
        return parameter_groups(parts, lr, weight_decay)


class BilateralPrompt(nn.Module):
    """What an image learns from the texts beside it, and the texts from the image (section 3.2).

    Args:
        width: Channels D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.image_query, self.image_key, self.image_value = (_image_projection(width) for _ in range(3))
        self.text_query, self.text_key, self.text_value = (
            nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(3)
        )
        self.image_output = nn.Sequential(nn.Conv2d(width, width, 1), nn.InstanceNorm2d(width, affine=True))
        self.text_output = nn.Linear(width, width)

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``[B, D, h, w]`` and the texts ``[B, N, D]`` of each to what is added to both, in the same shapes."""
        query, key, value = (
            projection(images).flatten(2).transpose(1, 2)
            for projection in (self.image_query, self.image_key, self.image_value)
        )  # [B, h w, D]
        scale = images.shape[1] ** -0.5
        over_texts = (query @ self.text_key(texts).transpose(1, 2) * scale).softmax(2)  # [B, h w, N]
        for_images = (over_texts @ self.text_value(texts)).transpose(1, 2).unflatten(2, images.shape[-2:])
        over_places = (self.text_query(texts) @ key.transpose(1, 2) * scale).softmax(2)  # [B, N, h w]
        return self.image_output(for_images), self.text_output(over_places @ value)


def _image_projection(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 1), nn.InstanceNorm2d(width, affine=True), nn.ReLU())


def _unit(x: Tensor) -> Tensor:
    """Vectors along the channels (dimension 1) at length 1."""
    return cast(Tensor, x / torch.linalg.vector_norm(x, dim=1, keepdim=True))
