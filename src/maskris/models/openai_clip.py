"""CLIP with published weights: OpenAI's own files, plain state dicts, and repositories of the Hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor

from maskris.data.tokenizer import ExpressionTokenizer
from maskris.models.checkpoints import read_checkpoint
from maskris.models.clip import CLIP
from maskris.models.clip_vision import resize_positions
from maskris.models.encoders import Source
from maskris.models.official.clip import CLIP_RULES, clip_config, from_transformers
from maskris.models.official.rules import rename
from maskris.models.torchscript import is_torchscript, read_torchscript

PUBLISHED = {
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",
    "ViT-B/16": "openai/clip-vit-base-patch16",
}
"""Hub ids of OpenAI's weights by OpenAI's names for them."""

_LAYOUTS = (("open_clip_model.safetensors", "open_clip_config.json"), ("model.safetensors", "config.json"))
_RESNET_CONNECT = "visual.attnpool.connect."


def read_clip(source: str | Path) -> dict[str, Tensor]:
    """The weights of a published CLIP under OpenAI's names, on the CPU, in the precision of the file.

    Args:
        source: ``"RN50"``, ``"RN101"`` or ``"ViT-B/16"``; OpenAI's TorchScript archive (``RN50.pt``), of which no code
            is run; a state dict as ``.pt``, ``.pth`` or ``.safetensors``; or a folder or Hub id in the format of
            transformers (``CLIPModel``) or OpenCLIP.

    Raises:
        FileNotFoundError: If there is nothing of this name, or no weights in it.
        ValueError: If the file is refused or damaged, or holds another kind of CLIP.
    """
    name = PUBLISHED.get(str(source), str(source))
    path = Path(name)
    if path.is_file():
        weights = read_torchscript(path) if is_torchscript(path) else read_checkpoint(path).weights
    elif path.suffix in (".pt", ".pth", ".safetensors"):
        raise FileNotFoundError(f"There is no file {path} with CLIP's weights")
    else:
        weights = _read_repository(name)
    return from_transformers(weights) if any(key.startswith("text_model.") for key in weights) else weights


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
            clip = CLIP(**(source if image_resolution is None else source | {"image_resolution": image_resolution}))
        except TypeError as error:  # a missing or misspelt key
            raise ValueError(f"This is no configuration of CLIP: {error}") from error
    else:
        weights = read_clip(source)
        try:
            config = clip_config(weights)
        except ValueError as error:
            raise ValueError(f"{source} holds no whole CLIP: {error}") from error
        if image_resolution is not None and config["vision_patch_size"] is not None:
            side = image_resolution // config["vision_patch_size"]
            name = "visual.positional_embedding"
            weights = {**weights, name: resize_positions(weights[name], side, side)}
            config["image_resolution"] = image_resolution
        clip = CLIP(**config)
        _load(clip, weights, str(source))
    if tokenizer is not None:
        _check(clip, tokenizer)
    return clip


def _load(clip: CLIP, weights: Mapping[str, Tensor], source: str) -> None:
    """Strictly, but for the branch that CRIS adds to the attention pool and OpenAI's files can't have."""
    ours: dict[str, Tensor] = {}
    problems = []
    for name, tensor in weights.items():
        names = rename(name, CLIP_RULES)
        if names is None:
            problems.append(f"unknown key {name}")
        for new in names or []:
            ours[new] = tensor
    target = clip.state_dict()
    problems += [f"{name} has no place in CLIP" for name in sorted(ours.keys() - target.keys())]
    missing = sorted(name for name in target.keys() - ours.keys() if not name.startswith(_RESNET_CONNECT))
    problems += [f"nothing was found for {name}" for name in missing if not name.endswith("num_batches_tracked")]
    problems += [
        f"{name} has shape {list(ours[name].shape)}, not {list(target[name].shape)}"
        for name in ours.keys() & target.keys()
        if ours[name].shape != target[name].shape
    ]
    if problems:
        listed = "\n  ".join(problems[:20])
        raise ValueError(f"{source} holds no whole CLIP ({len(problems)} problem(s)):\n  {listed}")
    clip.load_state_dict(ours, strict=False)


def _check(clip: CLIP, tokenizer: ExpressionTokenizer) -> None:
    vocabulary, length = clip.config["vocab_size"], clip.config["context_length"]
    if tokenizer.vocabulary_size > vocabulary:
        raise ValueError(
            f"The tokenizer knows {tokenizer.vocabulary_size} tokens, CLIP's text encoder only {vocabulary}"
        )
    if tokenizer.max_length > length:
        raise ValueError(
            f"max_tokens = {tokenizer.max_length} is more than the {length} that CLIP's text encoder reads"
        )


def _read_repository(name: str) -> dict[str, Tensor]:
    for weights_file, config_file in _LAYOUTS:
        weights, config = _fetch(name, weights_file), _fetch(name, config_file)
        if weights is not None and config is not None:
            _check_activation(name, json.loads(config.read_text(encoding="utf-8")))
            return read_checkpoint(weights).weights
    files = " or ".join(f"{weights} with {config}" for weights, config in _LAYOUTS)
    raise FileNotFoundError(f"{name} holds no CLIP: there is no {files} in it")


def _fetch(name: str, file: str) -> Path | None:
    if Path(name).is_dir():
        return path if (path := Path(name) / file).is_file() else None
    if name.count("/") != 1 or Path(name).is_absolute():
        known = ", ".join(PUBLISHED)
        raise FileNotFoundError(f"There is no CLIP {name}: give {known}, a file, a folder or a Hub id (owner/name)")
    try:
        return Path(hf_hub_download(name, file))
    except EntryNotFoundError:
        return None
    except OSError as error:
        raise FileNotFoundError(f"There is no folder {name}, nor can it be had from the Hub: {error}") from error


def _check_activation(name: str, config: Mapping[str, Any]) -> None:
    """Many CLIPs by others use the exact GELU; with OpenAI's approximation they would be silently wrong."""
    if "model_cfg" in config:  # OpenCLIP; the oldest repositories of OpenAI's weights leave the flag out
        fits = bool(config["model_cfg"].get("quick_gelu", name.endswith(".openai")))
    else:
        parts = [config.get(part) or {} for part in ("text_config", "vision_config")]
        fits = all(part.get("hidden_act", "quick_gelu") == "quick_gelu" for part in parts)
    if not fits:
        raise ValueError(
            f"{name} was trained with the exact GELU; only CLIPs with OpenAI's approximation are supported"
        )
