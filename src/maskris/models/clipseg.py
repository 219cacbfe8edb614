"""CLIPSeg (Lüddecke and Ecker, CVPR 2022) of `transformers`: a small decoder on a frozen CLIP."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import CLIPSegForImageSegmentation, PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.encoders.sources import Source, describe, read_config
from maskris.models.encoders.tokenizers import build_clip_tokenizer, default_tokenizer
from maskris.models.encoders.vision import resize_to_multiple
from maskris.models.optimizer_groups import Part, parameter_groups

Features = tuple[list[Tensor], tuple[int, int]]
"""Class token and patches ``[I, 1 + h * w, D]`` of the extracted layers, deepest first, and (h, w)."""


class CLIPSeg(RISModel):
    """CLIPSeg as published or of any size; the sentence scales and shifts the features of CLIP's patches (FiLM).

    Args:
        clipseg: Hub id, local folder, or a configuration with ``model_type: clipseg`` (random weights then).
        freeze_clip: Train the decoder alone, as published; false for a CLIP without pretrained weights.
        encoder_lr: Learning rate of CLIP, where it isn't frozen, over that of the decoder.
        tokenizer: Hub id, folder, merges file, list of words or tokenizer; by default that of `clipseg`.
        max_tokens: Most tokens of an expression, start and end included.
        preprocess: Input size and normalization; by default 352 x 352, stretched.

    Raises:
        ValueError: If `clipseg` is another model, or the tokenizer is not for its text encoder.
    """

    def __init__(
        self,
        clipseg: Source = "CIDAS/clipseg-rd64-refined",
        freeze_clip: bool = True,
        encoder_lr: float = 0.1,
        tokenizer: str | list[str] | PreTrainedTokenizerBase | None = None,
        max_tokens: int = 77,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__()
        self.model = _build(clipseg)
        self.encoder_lr = encoder_lr
        vocabulary = build_clip_tokenizer(tokenizer or default_tokenizer("CLIPSeg", clipseg))
        self.set_inputs(preprocess or Preprocess(352, 352), vocabulary, max_tokens)
        words, end = cast(Any, self.model.config.text_config), self.tokenizer.tokenizer.eos_token_id
        if max_tokens > words.max_position_embeddings:
            raise ValueError(f"This CLIP reads {words.max_position_embeddings} tokens; max_tokens is {max_tokens}")
        if words.eos_token_id not in (2, end):  # with 2, a slip in old configurations, the largest id ends the sentence
            raise ValueError(f"This CLIP ends a sentence with id {words.eos_token_id}, but the tokenizer with {end}")
        clip, last = self.model.clip, max(self.model.config.extract_layers)
        clip.requires_grad_(not freeze_clip)
        unused = clip.visual_projection, clip.vision_model.post_layernorm, *clip.vision_model.encoder.layers[last + 1 :]
        for parameter in (clip.logit_scale, *(p for module in unused for p in module.parameters())):
            parameter.requires_grad_(False)
        self.set_config(clipseg=describe(self.model))

    def _see(self, images: Tensor) -> Features:
        tower, extracted = self.model.clip.vision_model, self.model.config.extract_layers
        patch = cast(Any, self.model.config.vision_config).patch_size
        images = resize_to_multiple(images, patch)
        outputs = [tower.pre_layrnorm(tower.embeddings(images))]  # positions are interpolated to any size
        for layer in tower.encoder.layers[: max(extracted) + 1]:
            outputs.append(layer(outputs[-1], None))
        size = images.shape[2] // patch, images.shape[3] // patch
        return [outputs[i + 1] for i in reversed(extracted)], size

    def encode_image(self, images: Tensor) -> Features:
        """Normalized images ``[I, 3, H, W]`` of any size to patches at the decoder's width."""
        outputs, size = self._see(images)
        return [reduce(x) for reduce, x in zip(self.model.decoder.reduces, outputs, strict=True)], size

    def segment(self, features: Features, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits ``[N, 1, H, W]``; H and W at the next multiple of a patch."""
        decoder = self.model.decoder
        sentence = self.model.clip.get_text_features(input_ids, attention_mask=attention_mask).pooler_output[:, None]
        x = torch.zeros_like(features[0][0][image_index])  # [N, 1 + h * w, D]
        for i, (tokens, layer) in enumerate(zip(features[0], decoder.layers, strict=True)):
            x = x + tokens[image_index]
            if i == decoder.conditional_layer:
                x = decoder.film_mul(sentence) * x + decoder.film_add(sentence)
            x = layer(x, None)
        patches = x[:, 1:].transpose(1, 2).unflatten(2, features[1])  # without the class token
        return cast(Tensor, decoder.transposed_convolution(patches))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The deepest extracted patches ``[N, h, w, Dv]`` and CLIP's words ``[N, L, Dw]``."""
        outputs, size = self._see(self.preprocess.normalize(batch.images))
        words = self.model.clip.text_model(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        return outputs[0][:, 1:].unflatten(1, size)[batch.image_index], words

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Decoder and, where it learns, CLIP; norms, tables and single vectors without decay."""
        parts = (
            Part("clip", self.model.clip, self.encoder_lr, _uses_weight_decay),
            Part("decoder", self.model.decoder, 1.0, _uses_weight_decay),
        )
        return [group for group in parameter_groups(parts, lr, weight_decay) if group["params"]]


def _uses_weight_decay(name: str, module: nn.Module) -> bool:
    return not (isinstance(module, (nn.LayerNorm, nn.Embedding)) or name.endswith(("class_embedding", "logit_scale")))


def _build(source: Source) -> CLIPSegForImageSegmentation:
    config = read_config(source)
    if config.model_type != "clipseg":
        raise ValueError(f"{config.model_type} is no CLIPSeg; a configuration says model_type: clipseg")
    if not isinstance(source, dict):
        return CLIPSegForImageSegmentation.from_pretrained(source, config=config)
    for part in ("text", "vision"):  # whose keys are checked like its own
        read_config({"model_type": f"clipseg_{part}_model", **(source.get(f"{part}_config") or {})})
    return CLIPSegForImageSegmentation(config)
