"""CLIPSeg (Lüddecke and Ecker, CVPR 2022) of `transformers`: a small decoder on a frozen CLIP."""

from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from transformers import CLIPSegForImageSegmentation, PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.models.base import RISModel
from maskris.models.clip_tokenizer import build_clip_tokenizer
from maskris.models.decay import split_decay
from maskris.models.sources import Source, describe, read_config
from maskris.models.vision_encoder import resize_to_multiple


class CLIPSegFeatures(NamedTuple):
    """What CLIPSeg knows of `I` images before it has read a word."""

    tokens: tuple[Tensor, ...]
    """Class token and patches ``[I, 1 + h * w, D]`` of the extracted layers at the decoder's width, deepest first."""
    size: tuple[int, int]
    """Rows and columns of patches."""


class CLIPSeg(RISModel):
    """CLIPSeg as published or of any size; a sentence scales and shifts the features of CLIP's patches (FiLM).

    Args:
        clipseg: Hub id, local folder, or a configuration with ``model_type: clipseg`` (random weights then).
        freeze_clip: Train the decoder alone, as published; false for a CLIP without pretrained weights.
        encoder_lr: Learning rate of CLIP over that of the decoder; only matters where CLIP isn't frozen.
        tokenizer: Hub id, folder, merges file, list of words or tokenizer; by default that of `clipseg`.
        max_tokens: Most tokens of an expression, start and end included; CLIP has 77 positions.
        preprocess: Input size and normalisation; by default 352 x 352, stretched.

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
        words: Any = self.model.config.text_config
        if tokenizer is None:
            if isinstance(clipseg, dict):
                raise ValueError("A CLIPSeg given as a configuration needs a tokenizer: a list of words or a folder")
            tokenizer = str(clipseg)
        self.set_inputs(preprocess or Preprocess(352, 352), build_clip_tokenizer(tokenizer), max_tokens)
        if max_tokens > words.max_position_embeddings:
            raise ValueError(f"This CLIP reads {words.max_position_embeddings} tokens; max_tokens is {max_tokens}")
        end = self.tokenizer.tokenizer.eos_token_id
        if words.eos_token_id not in (2, end):  # with 2, a slip in old configurations, the largest id ends the sentence
            raise ValueError(f"This CLIP ends a sentence with id {words.eos_token_id}, but the tokenizer with {end}")
        clip, extracted = self.model.clip, list(self.model.config.extract_layers)
        clip.requires_grad_(not freeze_clip)
        clip.logit_scale.requires_grad_(False)
        layers = clip.vision_model.encoder.layers
        for unused in (clip.visual_projection, clip.vision_model.post_layernorm, *layers[max(extracted) + 1 :]):
            unused.requires_grad_(False)
        self.set_config(clipseg=describe(self.model))

    def _see(self, images: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Class token and patches ``[I, 1 + h * w, C]`` behind each extracted layer, and (h, w)."""
        tower, extracted = self.model.clip.vision_model, list(self.model.config.extract_layers)
        patch = cast(Any, self.model.config.vision_config).patch_size
        images = resize_to_multiple(images, patch)
        x = tower.pre_layrnorm(tower.embeddings(images))  # positions are interpolated to any size
        outputs = []
        for layer in tower.encoder.layers[: max(extracted) + 1]:
            x = layer(x, None)
            outputs.append(x)
        return [outputs[i] for i in extracted], (images.shape[2] // patch, images.shape[3] // patch)

    def encode_image(self, images: Tensor) -> CLIPSegFeatures:
        """Normalised images ``[I, 3, H, W]`` of any size to patches at the decoder's width."""
        outputs, size = self._see(images)
        reduces = self.model.decoder.reduces
        return CLIPSegFeatures(tuple(reduce(x) for reduce, x in zip(reduces, outputs[::-1], strict=True)), size)

    def segment(
        self, features: CLIPSegFeatures, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor
    ) -> Tensor:
        """Logits ``[N, 1, H, W]``; H and W at the next multiple of a patch."""
        decoder = self.model.decoder
        sentence = self.model.clip.get_text_features(input_ids, attention_mask=attention_mask).pooler_output[:, None]
        x: Tensor | None = None  # [N, 1 + h * w, D]
        for i, (tokens, layer) in enumerate(zip(features.tokens, decoder.layers, strict=True)):
            x = tokens[image_index] if x is None else x + tokens[image_index]
            if i == decoder.conditional_layer:
                x = decoder.film_mul(sentence) * x + decoder.film_add(sentence)
            x = layer(x, None)
        patches = cast(Tensor, x)[:, 1:].transpose(1, 2).unflatten(2, features.size)  # without the class token
        return cast(Tensor, decoder.transposed_convolution(patches))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The deepest extracted patches ``[N, h, w, Dv]`` and CLIP's words ``[N, L, Dw]``."""
        outputs, size = self._see(self.preprocess.normalize(batch.images))
        words = self.model.clip.text_model(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        return outputs[-1][:, 1:].unflatten(1, size)[batch.image_index], words

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Decoder and, where it learns, CLIP; norms, tables and single vectors without decay."""
        groups = []
        for name, part, rate in (("clip", self.model.clip, lr * self.encoder_lr), ("decoder", self.model.decoder, lr)):
            split = split_decay(part, _decays)
            for suffix, parameters, decay in zip((", no decay", ""), split, (0.0, weight_decay), strict=True):
                learning = [parameter for parameter in parameters if parameter.requires_grad]
                if learning:
                    groups.append({"name": name + suffix, "params": learning, "lr": rate, "weight_decay": decay})
        return groups


def _decays(name: str, module: nn.Module) -> bool:
    return not (isinstance(module, (nn.LayerNorm, nn.Embedding)) or name.endswith(("class_embedding", "logit_scale")))


def _build(source: Source) -> CLIPSegForImageSegmentation:
    config = read_config(source)
    if config.model_type != "clipseg":
        raise ValueError(f"{config.model_type} is no CLIPSeg; a configuration says model_type: clipseg")
    if not isinstance(source, dict):
        return CLIPSegForImageSegmentation.from_pretrained(source, config=config)
    for part in ("text", "vision"):
        read_config({"model_type": f"clipseg_{part}_model", **(source.get(f"{part}_config") or {})})
    return CLIPSegForImageSegmentation(config)
