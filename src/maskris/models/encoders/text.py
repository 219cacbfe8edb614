"""Text encoders of `transformers` in two halves, so that vectors can join the words between embedding and layers."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, CLIPTextModel
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

from maskris.models.encoders.packaged import locate
from maskris.models.encoders.sources import Source, describe, read_config

WITH_POOLER = ("bert", "camembert", "data2vec-text", "ernie", "megatron-bert", "roberta", "xlm-roberta")
"""The BERT family of `transformers`, MiniLM included; its pooler is left out, because its output is not used."""

TEXT_ENCODERS = (*WITH_POOLER, "clip_text_model", "deberta-v2", "distilbert", "electra")
"""Every ``model_type`` that `TextEncoder` takes; DeBERTa v3 calls itself deberta-v2."""

_MEASURES = (
    "its layers measure how far words are apart, and extra vectors would be farther away the more padding there is"
)
_WHY_NOT = {
    "albert": "its layers begin with a projection, which vectors that join the words would have to go through",
    "deberta": "of the DeBERTas only v2 and v3 let the caller say how far words are apart",
    "mpnet": _MEASURES,
    "siglip": "it was trained with padding that words can see",
    "t5": _MEASURES,
}


class TextEncoder(nn.Module):
    """A text encoder in two halves, so that vectors can join the words between embedding and layers.

    Every word attends to the extra vectors. In the BERT family everything attends to everything. In CLIP, whose
    attention is causal, the extra vectors stand before the first word, as it were: they attend to each other and to no
    word, so that no word depends on what comes after it. In DeBERTa, whose layers measure distances, an extra vector
    is at distance 0 from everything: it has no position.

    Args:
        source: Hub id, local folder, packaged encoder (``package:all-minilm-l6-v2``) or configuration; of a whole CLIP
            the text encoder is taken.

    Attributes:
        config: The configuration as JSON types; `TextEncoder(config)` builds the same architecture.
        width: Channels of the features.
        causal: Whether a word attends only to the words before it (CLIP).

    Raises:
        ImportError: If the package of a packaged encoder is not installed.
        ValueError: If extra vectors can't join the words of this kind of model.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.model = _build(source)
        self.config = describe(self.model)
        self.width = int(cast(Any, self.model).config.hidden_size)
        self.causal = self.config["model_type"] == "clip_text_model"

    def forward(self, input_ids: Tensor, attention_mask: Tensor, extra: Tensor | None = None) -> Tensor:
        """Words, and extra vectors where there are any, to their features ``[N, L + P, T]``.

        Args:
            input_ids: ``[N, L]`` int64.
            attention_mask: ``[N, L]``, 1 for tokens and 0 for padding.
            extra: ``[N, P, T]`` vectors appended after the padding, without position, visible to every word.
        """
        model = cast(Any, self.model)
        words = model.embeddings(input_ids=input_ids)  # [N, L, T]
        if hasattr(model, "embeddings_project"):  # ELECTRA, where words are narrower than layers
            words = model.embeddings_project(words)
        extra = words[:, :0] if extra is None else extra.to(words.dtype)
        hidden = torch.cat([words, extra], dim=1)
        visible = torch.cat([attention_mask.bool(), attention_mask.new_ones(extra.shape[:2]).bool()], dim=1)
        length = input_ids.shape[1]
        if self.config["model_type"] == "deberta-v2":
            distances = self._distances(hidden[:, :length], hidden.shape[1])
            encoded = model.encoder(hidden, visible.long(), output_hidden_states=False, relative_pos=distances)
            return cast(Tensor, encoded.last_hidden_state)
        allowed = visible[:, None, None]  # [N, 1, 1, L + P]
        if self.causal:
            allowed = allowed & _before(length, hidden.shape[1], hidden.device)  # [N, 1, L + P, L + P]
        additive = torch.zeros(allowed.shape, dtype=hidden.dtype, device=hidden.device)
        additive = additive.masked_fill(~allowed, torch.finfo(hidden.dtype).min)
        layers = model.transformer if self.config["model_type"] == "distilbert" else model.encoder
        hidden = layers(hidden, attention_mask=additive).last_hidden_state
        return cast(Tensor, model.final_layer_norm(hidden)) if self.causal else hidden

    def _distances(self, words: Tensor, length: int) -> Tensor | None:
        """Distances between words as DeBERTa measures them, and 0 to extra vectors: ``[1, L + P, L + P]``."""
        encoder = cast(Any, self.model).encoder
        if not encoder.relative_attention:
            return None
        options = {"bucket_size": encoder.position_buckets, "max_position": encoder.max_relative_positions}
        between_words: Tensor = build_relative_position(words, words, **options)
        distances = between_words.new_zeros(1, length, length)
        distances[:, : words.shape[1], : words.shape[1]] = between_words
        return distances

    def summary_index(self, attention_mask: Tensor) -> Tensor:
        """The token with the features of the sentence, ``[N]`` int64: the first (``[CLS]``) or, if causal, the last."""
        last = attention_mask.long().sum(1).sub(1).clamp_min(0)
        return last if self.causal else torch.zeros_like(last)

    def uses_weight_decay(self, name: str, module: nn.Module) -> bool:
        """Whether a parameter of a module should decay: not those of norms and of tables of words or positions."""
        return not isinstance(module, (nn.LayerNorm, nn.Embedding))


def _before(length: int, total: int, device: torch.device) -> Tensor:
    """Attention mask of `length` causal words and the extra vectors behind them: ``[L + P, L + P]`` bool."""
    allowed = torch.ones(total, total, dtype=torch.bool, device=device).tril()
    allowed[:, length:] = True
    allowed[length:, :length] = False
    return allowed


def _build(source: Source) -> nn.Module:
    source = locate(source)
    config = read_config(source)
    kind = config.model_type
    if kind == "clip":
        config, kind = config.text_config, "clip_text_model"
    if kind not in TEXT_ENCODERS:
        why = next((reason for name, reason in _WHY_NOT.items() if kind.startswith(name)), "its layers are not known")
        raise ValueError(
            f"{kind} cannot be the text encoder, because extra vectors can't join its words: {why}; choose one of "
            f"{', '.join(TEXT_ENCODERS)}"
        )
    if getattr(config, "conv_kernel_size", 0) > 0:  # DeBERTa v2 xlarge and xxlarge
        raise ValueError(
            f"This {kind} convolves its words (conv_kernel_size = {config.conv_kernel_size}), so that the last would "
            "mix with the padding or the extra vectors behind it; choose a DeBERTa v3, or a v2 without convolution"
        )
    options = {"add_pooling_layer": False} if kind in WITH_POOLER else {}
    if isinstance(source, dict):
        return cast(nn.Module, AutoModel.from_config(config, **options))
    model_class: Any = CLIPTextModel if kind == "clip_text_model" else AutoModel  # which would take the whole CLIP
    return cast(nn.Module, model_class.from_pretrained(source, config=config, **options))
