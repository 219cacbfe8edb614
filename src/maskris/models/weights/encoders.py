"""Swin, BERT and CLIP as published and as the published networks contain them: their names and configurations."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor, nn

from maskris.data.tokenizer import ExpressionTokenizer
from maskris.models.clip.resnet import resize_positions
from maskris.models.clip.towers import CLIP, CLIPVisionTransformer
from maskris.models.encoders.sources import Source, read_config
from maskris.models.weights.checkpoint import is_torchscript, read_checkpoint, read_torchscript
from maskris.models.weights.options import PUBLISHED, ConversionOptions
from maskris.models.weights.rules import Dropped, Rule, count, load_mapped, map_state, shape

_SWIN_BLOCK = (
    (r"norm1\.(.+)", r"layernorm_before.\2"),
    (r"norm2\.(.+)", r"layernorm_after.\2"),
    (r"attn\.(relative_position_bias_table)", r"attention.relative_position_bias.\2"),
    (r"attn\.qkv\.(.+)", r"attention.{q,k,v}_proj.\2"),
    (r"attn\.proj\.(.+)", r"attention.o_proj.\2"),
    (r"(mlp\..+)", r"\2"),
)

SWIN_RULES: list[Rule] = [
    (r"mask_token", Dropped("a dead parameter: the masking of tokens inside Swin is never switched on")),
    (r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_index", Dropped("a table that follows from the window")),
    (r"layers\.\d+\.blocks\.\d+\.attn_mask", Dropped("a mask that follows from the image size")),
    (r"patch_embed\.proj\.(.+)", r"swin.embeddings.patch_embeddings.projection.\1"),
    (r"patch_embed\.norm\.(.+)", r"swin.embeddings.norm.\1"),
    *[(rf"(layers\.\d+\.blocks\.\d+)\.{old}", rf"swin.encoder.\1.{new}") for old, new in _SWIN_BLOCK],
    (r"(layers\.\d+\.downsample\..+)", r"swin.encoder.\1"),
    *[(rf"norm{i}\.(.+)", rf"hidden_states_norms.stage{i + 1}.\1") for i in range(4)],
]
"""Official names as those of `transformers.SwinBackbone`."""

SWIN_IMAGENET_RULES: list[Rule] = [
    (r"head\..+", Dropped("the classifier")),
    (r"norm\..+", Dropped("the norm before the classifier: every stage has a norm of its own instead")),
    *SWIN_RULES,
]

BERT_RULES: list[Rule] = [
    (r"pooler\..+", Dropped("the pooler, whose output is not used")),
    (r"embeddings\.position_ids", Dropped("the numbers 0, 1, 2, ... of old transformers")),
    (r"(.+)", r"model.\1"),
]
"""The names of `transformers.BertModel` as those of `TextEncoder`."""


def swin_config(weights: Mapping[str, Tensor], window: int | None = None) -> dict[str, Any]:
    """Values for `transformers.SwinConfig` from official names; `window` replaces that of the bias tables.

    Raises:
        ValueError: If a name is missing or a shape makes no sense.
    """
    width, channels, patch, _ = shape(weights, "patch_embed.proj.weight", 4)
    stages = range(count(weights, r"layers\.(\d+)\."))
    tables = [shape(weights, f"layers.{i}.blocks.0.attn.relative_position_bias_table", 2) for i in stages]
    side = math.isqrt(tables[0][0])
    if side * side != tables[0][0] or side % 2 == 0:
        raise ValueError(f"A bias table needs (2 window - 1)² rows, not {tables[0][0]}")
    return {
        "model_type": "swin",
        "embed_dim": width,
        "depths": [count(weights, rf"layers\.{i}\.blocks\.(\d+)\.") for i in stages],
        "num_heads": [heads for _, heads in tables],
        "window_size": window or (side + 1) // 2,
        "patch_size": patch,
        "num_channels": channels,
        "mlp_ratio": shape(weights, "layers.0.blocks.0.mlp.fc1.weight", 2)[0] / width,
        "qkv_bias": "layers.0.blocks.0.attn.qkv.bias" in weights,
    }


def bert_config(weights: Mapping[str, Tensor], options: ConversionOptions = PUBLISHED) -> dict[str, Any]:
    """Values for `transformers.BertConfig`; `options` give the heads and what else the shapes don't (activation, ...).

    Raises:
        ValueError: If a name is missing, the configuration can't be found or contradicts the shapes, or the heads must
            be given because 64 doesn't divide the width.
    """
    vocabulary, width = shape(weights, "embeddings.word_embeddings.weight", 2)
    shapes = {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": count(weights, r"encoder\.layer\.(\d+)\."),
        "intermediate_size": shape(weights, "encoder.layer.0.intermediate.dense.weight", 2)[0],
        "max_position_embeddings": shape(weights, "embeddings.position_embeddings.weight", 2)[0],
        "type_vocab_size": shape(weights, "embeddings.token_type_embeddings.weight", 2)[0],
    }
    heads = options.text_heads
    if options.text is not None:
        try:
            config = read_config(options.text)
        except OSError as error:
            raise ValueError(f"There is no configuration of a text encoder at {options.text}: {error}") from error
        known = config.to_dict() | {"model_type": config.model_type}
        wrong = [f"{key} is {known.get(key)}, not {value}" for key, value in shapes.items() if known.get(key) != value]
        if wrong:
            raise ValueError(f"The given text configuration contradicts the weights: {'; '.join(wrong)}")
        shapes = {**config.to_diff_dict(), **shapes}
        heads = heads or known["num_attention_heads"]
    if heads is None and width % 64:
        raise ValueError(
            f"The text encoder's number of heads can't be guessed: its width {width} is no multiple of 64. Give the "
            "heads (text_heads) or the text encoder's configuration (text)"
        )
    return shapes | {"num_attention_heads": heads or width // 64}


# Hub ids of OpenAI's weights by OpenAI's names for them.
_OPENAI = {
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-B/32": "openai/clip-vit-base-patch32",
}
_LAYOUTS = (("open_clip_model.safetensors", "open_clip_config.json"), ("model.safetensors", "config.json"))
_TRANSPOSED = ("text_projection.weight", "visual_projection.weight")


def read_clip(source: str | Path) -> dict[str, Tensor]:
    """The weights of a published CLIP under their own names, on the CPU, in the precision of the file.

    Args:
        source: ``"RN50"``, ``"RN101"``, ``"ViT-B/16"`` or ``"ViT-B/32"``; OpenAI's TorchScript archive (``RN50.pt``),
            of which no code is run; a state dict as ``.pt``, ``.pth`` or ``.safetensors``; or a folder or Hub id in the
            format of transformers (``CLIPModel``) or OpenCLIP.

    Raises:
        FileNotFoundError: If there is nothing of this name, or no weights in it.
        ValueError: If the file is refused or damaged, or holds another kind of CLIP.
    """
    name = _OPENAI.get(str(source), str(source))
    path = Path(name)
    if path.is_file():
        return read_torchscript(path) if is_torchscript(path) else read_checkpoint(path).weights
    if path.suffix in (".pt", ".pth", ".safetensors"):
        raise FileNotFoundError(f"There is no file {path} with CLIP's weights")
    return _read_repository(name)


def build_clip(
    source: Source, tokenizer: ExpressionTokenizer | None = None, image_resolution: int | None = None
) -> CLIP:
    """A CLIP with published or random weights, in fp32.

    Args:
        source: See `read_clip`, or a dict of arguments of `CLIP` (random weights then).
        tokenizer: What will be used with it; checked against the vocabulary and the length of its sentences.
        image_resolution: Side of the images for which the positions of a vision transformer are stored; published
            ones are resized to it.

    Raises:
        FileNotFoundError: See `read_clip`.
        ValueError: If the weights are incomplete or none of CLIP's, or the tokenizer doesn't fit.
    """
    if isinstance(source, dict):
        try:
            clip = CLIP(**source | ({"image_resolution": image_resolution} if image_resolution else {}))
        except TypeError as error:  # a missing or misspelt key
            raise ValueError(f"This is no configuration of CLIP: {error}") from error
    else:
        weights = read_clip(source)
        rules = CLIP_RULES
        if any(name.startswith("text_model.") for name in weights):
            rules = _TRANSFORMERS_RULES
            weights = {name: value.T if name in _TRANSPOSED else value for name, value in weights.items()}
        try:
            clip = CLIP(**clip_config(weights, rules))
            # OpenAI's files lack the branch that CRIS adds to the attention pool, and some the numbers of batches.
            load_mapped(clip, weights, rules, optional=r".+\.connect\..+|.+\.num_batches_tracked")
        except ValueError as error:
            raise ValueError(f"{source} holds no whole CLIP: {error}") from error
        if image_resolution is not None and isinstance(clip.visual, CLIPVisionTransformer):
            side = image_resolution // clip.visual.patch_size
            positions = resize_positions(clip.visual.positional_embedding.detach(), side, side)
            clip.visual.positional_embedding = nn.Parameter(positions)
            clip.config["image_resolution"] = image_resolution
    vocabulary, length = clip.config["vocab_size"], clip.config["context_length"]
    if tokenizer is not None and tokenizer.vocabulary_size > vocabulary:
        known = tokenizer.vocabulary_size
        raise ValueError(f"The tokenizer knows {known} tokens, CLIP's text encoder only {vocabulary}")
    if tokenizer is not None and tokenizer.max_length > length:
        most = tokenizer.max_length
        raise ValueError(f"max_tokens = {most} is more than the {length} that CLIP's text encoder takes")
    return clip


def _read_repository(name: str) -> dict[str, Tensor]:
    for weights_file, config_file in _LAYOUTS:
        weights, config = _fetch(name, weights_file), _fetch(name, config_file)
        if weights is not None and config is not None:
            if not _quick_gelu(name, json.loads(config.read_text(encoding="utf-8"))):
                raise ValueError(
                    f"{name} was trained with the exact GELU; only CLIPs with OpenAI's approximation are supported"
                )
            return read_checkpoint(weights).weights
    files = " or ".join(f"{weights} with {config}" for weights, config in _LAYOUTS)
    raise FileNotFoundError(f"{name} holds no CLIP: there is no {files} in it")


def _fetch(name: str, file: str) -> Path | None:
    if Path(name).is_dir():
        return path if (path := Path(name) / file).is_file() else None
    if name.count("/") != 1 or Path(name).is_absolute():
        known = ", ".join(_OPENAI)
        raise FileNotFoundError(f"There is no CLIP {name}: give {known}, a file, a folder or a Hub id (owner/name)")
    try:
        return Path(hf_hub_download(name, file))
    except EntryNotFoundError:
        return None
    except OSError as error:
        raise FileNotFoundError(f"There is no folder {name}, nor can it be had from the Hub: {error}") from error


def _quick_gelu(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a CLIP uses OpenAI's approximation of GELU; with it many CLIPs by others would be silently wrong."""
    if "model_cfg" in config:  # OpenCLIP; the oldest repositories of OpenAI's weights leave the flag out
        return bool(config["model_cfg"].get("quick_gelu", name.endswith(".openai")))
    parts = (config.get(part) or {} for part in ("text_config", "vision_config"))
    return all(part.get("hidden_act", "quick_gelu") == "quick_gelu" for part in parts)


_BLOCK = (
    (r"attn\.in_proj_(.+)", r"self_attn.{q,k,v}_proj.\2"),
    (r"attn\.out_proj\.(.+)", r"self_attn.out_proj.\2"),
    (r"ln_(\d)\.(.+)", r"layer_norm\2.\3"),
    (r"mlp\.c_fc\.(.+)", r"mlp.fc1.\2"),
    (r"mlp\.c_proj\.(.+)", r"mlp.fc2.\2"),
)

CLIP_RULES: list[Rule] = [
    (r"logit_scale|logit_bias", Dropped("the temperature of CLIP's contrastive loss, unused in the features")),
    (r"input_resolution|context_length|vocab_size", Dropped("numbers that follow from the shapes")),
    *[(rf"visual\.transformer\.resblocks\.(\d+)\.{old}", rf"visual.blocks.\1.{new}") for old, new in _BLOCK],
    *[(rf"transformer\.resblocks\.(\d+)\.{old}", rf"text.blocks.\1.{new}") for old, new in _BLOCK],
    (r"(visual\.(?!transformer\.).+)", r"\1"),
    (r"((?:positional_embedding|token_embedding|ln_final|text_projection).*)", r"text.\1"),
]
"""OpenAI's names as those of `CLIP`."""

_TRANSFORMERS_RULES: list[Rule] = [
    (r"logit_scale|.+\.position_ids", Dropped("the temperature, and the numbers 0, 1, 2, ... of old transformers")),
    (r"text_model\.embeddings\.token_embedding\.weight", "text.token_embedding.weight"),
    (r"text_model\.embeddings\.position_embedding\.weight", "text.positional_embedding"),
    (r"text_model\.encoder\.layers\.(.+)", r"text.blocks.\1"),
    (r"text_model\.final_layer_norm\.(.+)", r"text.ln_final.\1"),
    (r"text_projection\.weight", "text.text_projection"),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.(.+)", r"visual.ln_pre.\1"),  # so spelt in transformers
    (r"vision_model\.encoder\.layers\.(.+)", r"visual.blocks.\1"),
    (r"vision_model\.post_layernorm\.(.+)", r"visual.ln_post.\1"),
    (r"visual_projection\.weight", "visual.proj"),
]
"""The names of `transformers.CLIPModel` as those of `CLIP`; its two projections are transposed."""


def clip_config(weights: Mapping[str, Tensor], rules: list[Rule] = CLIP_RULES) -> dict[str, Any]:
    """Arguments of `CLIP`; `rules` map the names to its own. Heads have 64 channels, as in all of OpenAI's.

    Raises:
        ValueError: If a name is missing or a shape makes no sense.
    """
    weights, *_ = map_state(weights, rules)
    width, embed_dim = shape(weights, "text.text_projection", 2)
    common = {
        "embed_dim": embed_dim,
        "context_length": shape(weights, "text.positional_embedding", 2)[0],
        "vocab_size": shape(weights, "text.token_embedding.weight", 2)[0],
        "transformer_width": width,
        "transformer_layers": count(weights, r"text\.blocks\.(\d+)\."),
    }
    if "visual.proj" in weights:
        vision_width, _, patch, _ = shape(weights, "visual.conv1.weight", 4)
        return common | {
            "vision_layers": count(weights, r"visual\.blocks\.(\d+)\."),
            "vision_width": vision_width,
            "vision_patch_size": patch,
            "image_resolution": _side(weights, "visual.positional_embedding") * patch,
        }
    return common | {
        "vision_layers": [count(weights, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)],
        "vision_width": shape(weights, "visual.conv3.weight", 4)[0],
        "vision_patch_size": None,
        "image_resolution": _side(weights, "visual.attnpool.positional_embedding") * 32,
    }


def _side(weights: Mapping[str, Tensor], name: str) -> int:
    rows = shape(weights, name, 2)[0]
    side = math.isqrt(max(0, rows - 1))
    if side * side != rows - 1:
        raise ValueError(f"{name} needs 1 + s² rows for a grid of s x s positions, not {rows}")
    return side
