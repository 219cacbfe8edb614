"""PairLocalizer, a small network that finds what phrases name after learning from pairs of picture and phrase alone."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.encoders.sources import build_tokenizer
from maskris.models.layers.blocks import ResidualBlock, Transformer
from maskris.models.optimizer_groups import Part, parameter_groups


class PairLocalizer(RISModel):
    """Scores of places and phrases: how alike the vector of a place is to that of the phrase.

    Places see little of their surroundings, so that a score says what is *there*; what a phrase says of other objects
    or of the picture is lost on it. Made to be trained by `PairContrast`; its maps become pseudo masks for a network
    that reads whole sentences.

    Args:
        width: Channels of places and words.
        scale: Factor of the cosines.
        tokenizer: List of words, folder, Hub id or tokenizer; by default the words of the embedded data set.
        max_tokens: Most tokens of an expression, special ones included.
        preprocess: Input size, multiples of 4, and normalization; by default 64 x 64, stretched.

    Raises:
        ValueError: If `width` is not a multiple of 16.
    """

    output = "score"

    def __init__(
        self,
        width: int = 96,
        scale: float = 14.0,
        tokenizer: str | list[str] | PreTrainedTokenizerBase = "maskris/shapes",
        max_tokens: int = 32,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        if width % 16:
            raise ValueError(f"width must be a multiple of 16, not {width}")
        self.set_inputs(preprocess or Preprocess(64, 64), build_tokenizer(tokenizer), max_tokens)
        self.scale = scale
        self.places = nn.Sequential(  # [I, width, h / 4, w / 4]
            *(nn.Conv2d(3, width // 2, 5, stride=2, padding=2), nn.GELU()),
            *(nn.Conv2d(width // 2, width, 3, stride=2, padding=1), ResidualBlock(width)),
            *(nn.GroupNorm(8, width), nn.GELU(), nn.Conv2d(width, width, 1)),
        )
        self.words = nn.Embedding(len(self.tokenizer.tokenizer), width)
        nn.init.normal_(self.words.weight, std=0.3)
        self.word_position = nn.Parameter(torch.randn(max_tokens, width) * 0.1)
        self.text_layers = Transformer(width, 4, 1)
        self.phrase = nn.Linear(width, width)
        self.set_config()

    def encode_image(self, images: Tensor) -> Tensor:
        """Unit vectors of places ``[I, D, H / 4, W / 4]`` of normalized images ``[I, 3, H, W]``."""
        return F.normalize(self.places(images).float(), dim=1)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Unit vectors of phrases ``[N, D]``."""
        words = self.text_layers(self.words(input_ids) + self.word_position[: input_ids.shape[1]], attention_mask == 0)
        weight = (attention_mask / attention_mask.sum(1, keepdim=True)).to(words.dtype)
        return F.normalize(self.phrase((weight[:, None] @ words)[:, 0]).float(), dim=1)

    def segment(self, features: Tensor, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Scores ``[N, 1, H / 4, W / 4]``, in ``[-scale, scale]``."""
        phrases = self.encode_text(input_ids, attention_mask)  # [N, D]
        scores: Tensor = self.scale * phrases[:, None] @ features.flatten(2)[image_index]  # [N, 1, h w]
        return scores.view(len(scores), 1, *features.shape[2:])

    def forward(self, batch: Batch) -> Tensor:
        """In training the scores of all pairs ``[I, N, h, w]``, else those of each phrase in its image."""
        if not self.training:
            return super().forward(batch)
        features = self.encode_image(self.preprocess.normalize(batch.images))
        phrases = self.encode_text(batch.input_ids, batch.attention_mask)
        scores: Tensor = self.scale * phrases @ features.flatten(2)
        return scores.view(*scores.shape[:2], *features.shape[2:])

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """All parameters at one rate; norms, embeddings and single vectors without decay."""
        return parameter_groups([Part("all", self, 1.0, _uses_weight_decay)], lr, weight_decay)


def _uses_weight_decay(name: str, module: nn.Module) -> bool:
    return not (isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.Embedding)) or name.endswith(("position", "bias")))
