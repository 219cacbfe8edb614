"""CARIS (Liu et al., ACM MM 2023), the network of MaskRIS: Swin, BERT with conditional prompts, deformable decoder.

The image reaches the text encoder through the conditional prompts; image and text are merged in the decoder.
`encode_image` holds all that depends on the image alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.caris.decoder import CARISDecoder
from maskris.models.encoders.sources import Source, build_tokenizer
from maskris.models.encoders.text import TextEncoder
from maskris.models.encoders.tokenizers import default_tokenizer
from maskris.models.encoders.vision import VisionEncoder
from maskris.models.layers.initialization import Initialization
from maskris.models.optimizer_groups import Part, parameter_groups


class CARISFeatures(NamedTuple):
    """Features of `I` images alone."""

    maps: tuple[Tensor, ...]
    """The encoder's four maps ``[I, c, h, w]``, finest first."""
    prompts: Tensor
    """Conditional prompts ``[I, P, T]``."""
    levels: tuple[Tensor, ...]
    """The decoder's input ``[I, D, h, w]`` per level, coarsest first."""
    laterals: tuple[Tensor, ...]
    """The finer maps at the decoder's width ``[I, D, h, w]``, finest first."""


class CARIS(RISModel):
    """CARIS with any vision backbone that gives four maps and any text encoder whose words extra vectors can join.

    Args:
        vision: Hub id, local folder, packaged encoder, or configuration with ``model_type`` (random weights then).
        text: Hub id, local folder, packaged encoder, or configuration with ``model_type``.
        width: Channels D of the decoder.
        layers: Decoder layers.
        heads: Heads of every attention in the decoder.
        points: Points per head and level of the deformable attention.
        levels: How many maps the decoder refines, from the coarsest.
        prompts: Learned visual prompts, the words of the background.
        prompt_levels: Sides of the grids to which the coarsest map is pooled for the conditional prompts.
        ffn_ratio: Inner width of the feed-forward networks over `width`.
        attention_ratio: Inner width of the attentions over `width`.
        init: ``"published"`` begins with weights so small that the words hardly matter at first, which suits pretrained
            encoders; ``"scratch"`` keeps the scale of its inputs in every layer of the decoder, so that small models
            without any pretrained weights learn to use the words hundreds of steps sooner.
        drop_path: Stochastic depth of the vision encoder.
        encoder_lr: Learning rate of both encoders over that of the rest; 1 for encoders without pretrained weights.
        tokenizer: Hub id, folder, list of words or tokenizer; by default that of `text`.
        max_tokens: Most tokens of an expression, special ones included.
        keep_end_token: Whether an expression of too many tokens keeps its end token; the published code cuts it off.
        preprocess: Input size and normalization; by default 448 x 448, stretched.
        gradient_checkpointing: Gradient checkpointing of the blocks of the vision encoder and the layers of the
            decoder: the same gradients, a third of the activations' memory, a fourth more time.

    Raises:
        ValueError: If the arguments contradict each other.
    """

    align_corners = True

    def __init__(
        self,
        vision: Source = "microsoft/swin-base-patch4-window7-224-in22k",
        text: Source = "bert-base-uncased",
        width: int = 256,
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        levels: int = 3,
        prompts: int = 5,
        prompt_levels: Sequence[int] = (1, 2),
        ffn_ratio: int = 4,
        attention_ratio: int = 4,
        init: Initialization = "published",
        drop_path: float = 0.3,
        encoder_lr: float = 0.1,
        tokenizer: str | list[str] | PreTrainedTokenizerBase | None = None,
        max_tokens: int = 20,
        keep_end_token: bool = True,
        preprocess: Preprocess | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= levels <= 4:
            raise ValueError(f"levels must be 1 to 4, the maps of the vision encoder, not {levels}")
        self.encoder_lr = encoder_lr
        self.vision = VisionEncoder(vision, drop_path)
        self.text = TextEncoder(text)
        self.conditional_prompts = ConditionalPrompts(self.vision.channels[-1], self.text.width, prompt_levels, init)
        self.decoder = CARISDecoder(
            self.vision.channels,
            self.text.width,
            width=width,
            layers=layers,
            heads=heads,
            points=points,
            levels=levels,
            prompts=prompts,
            ffn_ratio=ffn_ratio,
            attention_ratio=attention_ratio,
            init=init,
        )
        if gradient_checkpointing:
            self.vision.set_gradient_checkpointing(True)
            self.decoder.gradient_checkpointing = True
        vocabulary = build_tokenizer(tokenizer or default_tokenizer("text encoder", text))
        if self.text.causal and not keep_end_token:
            raise ValueError("CLIP's text encoder needs keep_end_token: its end token has the features of the sentence")
        self.set_inputs(preprocess, vocabulary, max_tokens, keep_end_token)
        self.set_config(vision=self.vision.config, text=self.text.config, prompt_levels=list(prompt_levels))

    def encode_image(self, images: Tensor) -> CARISFeatures:
        """Normalized images ``[I, 3, H, W]`` of any size to the maps, prompts and decoder inputs."""
        maps = self.vision(images)
        return CARISFeatures(maps, self.conditional_prompts(maps[-1]), *self.decoder.project(maps))

    def encode_text(self, prompts: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Words ``[N, L]`` with prompts ``[N, P, T]`` to text features ``[N, L + P, T]``."""
        return cast(Tensor, self.text(input_ids, attention_mask, prompts))

    def segment(
        self, features: CARISFeatures, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor
    ) -> Tensor:
        """Logits ``[N, 2, H / 4, W / 4]``: background, referent."""
        words = self.encode_text(features.prompts[image_index], input_ids, attention_mask)[:, : input_ids.shape[1]]
        levels = [level[image_index] for level in features.levels]
        laterals = [lateral[image_index] for lateral in features.laterals]
        summary = self.text.summary_index(attention_mask)
        return cast(Tensor, self.decoder(levels, laterals, words, attention_mask.bool(), summary))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The coarsest map ``[N, h, w, Dv]`` and the words, conditioned on the image, ``[N, L, Dw]``."""
        maps = self.vision(self.preprocess.normalize(batch.images))
        prompts = self.conditional_prompts(maps[-1])[batch.image_index]
        words = self.encode_text(prompts, batch.input_ids, batch.attention_mask)[:, : batch.input_ids.shape[1]]
        return maps[-1][batch.image_index].movedim(1, -1), words

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The official six groups: encoders at `encoder_lr` times the rate; norms and tables without decay.

        As published (in the official code): biases and the group norms of the decoder are decayed, all embeddings of
        the text encoder, the bias tables of the vision encoder and the learned prompts are not.
        """
        parts = (
            Part("text", self.text, self.encoder_lr, self.text.uses_weight_decay),
            Part("vision", self.vision, self.encoder_lr, self.vision.uses_weight_decay),
            Part("decoder", nn.ModuleList([self.conditional_prompts, self.decoder]), 1.0, _uses_weight_decay),
        )
        return parameter_groups(parts, lr, weight_decay)


def _uses_weight_decay(name: str, module: nn.Module) -> bool:
    return not (isinstance(module, nn.LayerNorm) or name.endswith("_prompts.weight"))


class ConditionalPrompts(nn.Module):
    """Vectors for the text encoder that depend on the image (CARIS section 3.2): `side`² for each pooled grid."""

    def __init__(self, channels: int, text_width: int, sides: Sequence[int], init: Initialization) -> None:
        super().__init__()
        self.sides = tuple(sides)
        self.in_linears = nn.ModuleList(nn.Linear(channels, text_width) for _ in self.sides)
        self.out_linears = nn.ModuleList(nn.Linear(text_width, text_width) for _ in self.sides)
        self.lang_prompts = nn.Embedding(sum(side**2 for side in self.sides), text_width)
        self.norm = nn.LayerNorm(text_width)
        for linear in (*self.in_linears, *self.out_linears) if init == "published" else ():
            nn.init.trunc_normal_(cast(nn.Linear, linear).weight, std=0.02)
            nn.init.zeros_(cast(nn.Linear, linear).bias)

    def forward(self, coarsest: Tensor) -> Tensor:
        """``[I, c, h, w]`` to ``[I, P, T]``."""
        rows = []
        for side, inner, outer in zip(self.sides, self.in_linears, self.out_linears, strict=True):
            pooled = F.adaptive_avg_pool2d(coarsest, side).flatten(2).transpose(1, 2)  # [I, side², c]
            rows.append(outer(F.relu(inner(pooled))))
        return cast(Tensor, self.norm(torch.cat(rows, dim=1) + self.lang_prompts.weight))
