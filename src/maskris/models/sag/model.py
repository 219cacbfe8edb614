"""SaG (Kim et al., "Shatter and Gather", ICCV 2023): slots find entities, and a sentence gathers those it is about.

A mask is the share of each patch that the gathered slots have. Nothing is trained by masks: a sentence must fit the
image that it was written about better than others, and slots must be able to draw the image again.
"""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.encoders.sources import Source, build_tokenizer
from maskris.models.encoders.text import TextEncoder
from maskris.models.encoders.tokenizers import default_tokenizer
from maskris.models.optimizer_groups import Part, parameter_groups
from maskris.models.pairs import Comparison, SlotBatch
from maskris.models.sag.slots import EntityDiscovery, Gathering, SlotDecoder
from maskris.models.sag.vit import build_vit
from maskris.utils.rng import KeyedRandom

SAG_INPUT = Preprocess(384, 384, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""Photos stretched to 384 x 384."""

_EDGE = 1e-6  # logits of 0 and 1 would be infinite


class SlotFeatures(NamedTuple):
    """Features of `I` images alone."""

    patches: Tensor
    """``[I, h, w, V]``, of the vision transformer."""
    slots: Tensor
    """``[I, S, D]``."""
    shares: Tensor
    """Of each patch that slots have, ``[I, S, h, w]``."""


class SaG(RISModel):
    """Shatter and Gather with any plain vision transformer of timm and any text encoder.

    The logits are those of the map from its lowest to its highest value in the image: as published something is always
    found, and the sigmoid above 0.5 is the published mask, up to the resize.

    In training, slots are drawn with fresh noise; `SlotContrast` hands it over in a `SlotBatch`. Otherwise the noise is
    fixed by `noise_seed` and the same for all images, so that a result repeats; the official code draws anew each time.

    Args:
        vision: Repository of the Hub, folder, or arguments of `VisionTransformer`, see `build_vit`.
        text: Hub id, folder or configuration, see `TextEncoder`.
        width: Channels of slots and sentences; a multiple of 4.
        groups: Groups of slots.
        slots_per_group: Slots in each.
        rounds: Of entity discovery.
        heads: Of every attention beside the encoders.
        cross_width: Channels of a head of the attentions to patches and to slots.
        group_width: Channels of a head of the attention within groups.
        dropout: Outside of the encoders.
        drop_path: Stochastic depth of the vision transformer.
        grid: Positions of pretrained vision weights are brought to this grid once (30: as for photos of 480 px).
        vision_lr: Learning rate of the vision transformer over that of the rest.
        noise_seed: Of the slots' noise outside of training.
        tokenizer: Hub id, folder, list of words or tokenizer; by default that of `text`.
        max_tokens: Most tokens of an expression, start and end included; the official code has no limit.
        preprocess: Input size and normalization; by default 384 x 384, stretched.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    def __init__(
        self,
        vision: Source = "timm/vit_small_patch16_384.augreg_in21k_ft_1k",
        text: Source = "bert-base-uncased",
        width: int = 512,
        groups: int = 12,
        slots_per_group: int = 3,
        rounds: int = 6,
        heads: int = 4,
        cross_width: int = 256,
        group_width: int = 128,
        dropout: float = 0.1,
        drop_path: float = 0.1,
        grid: int = 30,
        vision_lr: float = 0.1,
        noise_seed: int = 0,
        tokenizer: str | list[str] | PreTrainedTokenizerBase | None = None,
        max_tokens: int = 64,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        if width % 4 or min(groups, slots_per_group, rounds) < 1:
            raise ValueError(
                f"width must be a multiple of 4, and groups, slots_per_group and rounds at least 1, not {width}, "
                f"{groups}, {slots_per_group} and {rounds}"
            )
        vocabulary = build_tokenizer(tokenizer or default_tokenizer("text encoder", text))
        self.set_inputs(preprocess or SAG_INPUT, vocabulary, max_tokens)
        self.vision_lr = vision_lr
        self.vision = build_vit(vision, grid, drop_path)
        self.text = TextEncoder(text)
        channels = int(self.vision.config["width"])
        self.image_proj, self.text_proj = nn.Linear(channels, width), nn.Linear(self.text.width, width)
        self.discovery = EntityDiscovery(
            width, groups, slots_per_group, rounds, heads, cross_width, group_width, dropout
        )
        self.gather = Gathering(width, heads, cross_width, dropout)
        self.decoder = SlotDecoder(width, channels)
        noise = KeyedRandom("slot noise", noise_seed).normal(groups * slots_per_group, width).float()
        self.register_buffer("noise", noise, persistent=False)
        self.set_config(vision=self.vision.config, text=self.text.config)

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[N, 1, h, w]`` of a batch; of a `SlotBatch` what training compares, a packed `Comparison`."""
        if isinstance(batch, SlotBatch) and batch.noise is not None:
            return self.compare(batch, batch.noise).pack()
        return super().forward(batch)

    def encode_image(self, images: Tensor, noise: Tensor | None = None) -> SlotFeatures:
        """Normalized images ``[I, 3, H, W]`` to patches and slots; `noise` ``[I, S, D]`` as for `SlotBatch`."""
        patches = self.vision(images)
        if noise is None:
            fixed = cast(Tensor, self.noise).expand(len(images), -1, -1)
            noise = torch.randn_like(fixed) if self.training else fixed
        return SlotFeatures(patches, *self.discovery(self.image_proj(patches), noise))

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Words ``[N, L]`` to sentences ``[N, D]``."""
        words = self.text(input_ids, attention_mask)
        summary = self.text.summary_index(attention_mask)
        return cast(Tensor, self.text_proj(words[torch.arange(len(words), device=words.device), summary]))

    def segment(self, features: SlotFeatures, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits ``[N, 1, h, w]`` float32, one for each patch."""
        _, relevance = self.gather(self.encode_text(input_ids, attention_mask), features.slots)
        maps = stretch(self.maps(features, relevance, image_index))
        return torch.logit(maps.view(len(maps), 1, *features.shares.shape[2:]), _EDGE)

    def maps(self, features: SlotFeatures, relevance: Tensor, image_index: Tensor) -> Tensor:
        """What the slots of sentences have of each patch of their own image, ``[N, h * w]`` float32 in [0, 1].

        Args:
            features: Of the images.
            relevance: ``[I, N, S]``, see `Gathering`.
            image_index: ``[N]``.
        """
        own = relevance[image_index, torch.arange(len(image_index), device=relevance.device)]  # [N, S]
        shares = features.shares[image_index].flatten(2)  # [N, S, h * w]
        return (own[:, None].float() @ shares.float())[:, 0]

    def compare(self, batch: Batch, noise: Tensor) -> Comparison:
        """Every sentence with every image, see `Comparison`; the C³ loss is a cross entropy of the similarities."""
        features = self.encode_image(self.preprocess.normalize(batch.images), noise)
        sentences = self.encode_text(batch.input_ids, batch.attention_mask)
        gathered, relevance = self.gather(sentences, features.slots)  # [I, N, D], [I, N, S]
        similarity = torch.einsum("nd,ind->ni", sentences.detach().float(), gathered.float())
        drawn = self.decoder(features.slots, *features.patches.shape[1:3])
        error = (drawn.float() - features.patches.detach().float()).square().flatten(1).mean(1)  # [I]
        maps = stretch(self.maps(features, relevance, batch.image_index))
        return Comparison(similarity, error[batch.image_index], maps)

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring logits ``[N, 1, h, w]`` to ``[N, 1, *size]``: maps are resized, as published, and not their logits."""
        if logits.shape[-2:] == tuple(size):
            return logits
        maps = F.interpolate(logits.float().sigmoid(), size=size, mode="bilinear", align_corners=False)
        return torch.logit(maps, _EDGE)

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Projected patches ``[N, h, w, D]`` and words ``[N, L, D]``; see `RISModel.token_features`."""
        patches = self.image_proj(self.vision(self.preprocess.normalize(batch.images)))
        return patches[batch.image_index], self.text_proj(self.text(batch.input_ids, batch.attention_mask))

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Two groups, both with decay for all, as published: the vision transformer at `vision_lr`, and all else."""
        return parameter_groups((Part("vision", self.vision, self.vision_lr), Part("rest", self)), lr, weight_decay)


def stretch(maps: Tensor) -> Tensor:
    """Maps ``[N, P]`` from their lowest value 0 to their highest 1; a constant one is 0 everywhere."""
    low, high = maps.amin(1, keepdim=True), maps.amax(1, keepdim=True)
    return (maps - low) / (high - low + 1e-9)
