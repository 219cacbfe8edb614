"""Published weights under our parameter names: every key is mapped, knowingly dropped, or named in an error."""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rule = tuple[str, str | None]
"""A pattern for whole published names and our name for it, or ``None`` for what is knowingly dropped."""

_SWIN: list[Rule] = [
    (r"mask_token", None),  # a dead parameter: Swin's own token masking is never switched on
    (r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_index", None),  # follows from the window
    (r"layers\.\d+\.blocks\.\d+\.attn_mask", None),  # follows from the image size
    (r"patch_embed\.proj\.(.+)", r"embeddings.patch_embeddings.projection.\1"),
    (r"patch_embed\.norm\.(.+)", r"embeddings.norm.\1"),
    (r"(layers\.\d+\.blocks\.\d+)\.norm1\.(.+)", r"encoder.\1.layernorm_before.\2"),
    (r"(layers\.\d+\.blocks\.\d+)\.norm2\.(.+)", r"encoder.\1.layernorm_after.\2"),
    (
        r"(layers\.\d+\.blocks\.\d+)\.attn\.(relative_position_bias_table)",
        r"encoder.\1.attention.relative_position_bias.\2",
    ),
    (r"(layers\.\d+\.blocks\.\d+)\.attn\.qkv\.(.+)", r"encoder.\1.attention.{q,k,v}_proj.\2"),
    (r"(layers\.\d+\.blocks\.\d+)\.attn\.proj\.(.+)", r"encoder.\1.attention.o_proj.\2"),
    (r"(layers\.\d+\.blocks\.\d+\.mlp\..+)", r"encoder.\1"),
    (r"(layers\.\d+\.downsample\..+)", r"encoder.\1"),
]

CARIS_RULES: list[Rule] = [
    (r"criterion\.seg_criterion\.weight", None),  # class weights of the loss, which belong to the strategy
    (r"backbone\.lang_encoder\.embeddings\.position_ids", None),  # a buffer of old versions of transformers
    *[
        (rf"backbone\.vis_encoder\.{old}", None if new is None else rf"vision.backbone.swin.{new}")
        for old, new in _SWIN
    ],
    *[
        (rf"backbone\.vis_encoder\.norm{i}\.(.+)", rf"vision.backbone.hidden_states_norms.stage{i + 1}.\1")
        for i in range(4)
    ],
    (r"backbone\.lang_encoder\.(.+)", r"text.model.\1"),
    (r"backbone\.conditional_prompts\.lang_prompts_norm\.(.+)", r"conditional_prompts.norm.\1"),
    (r"backbone\.(conditional_prompts\..+)", r"\1"),
    (r"pixel_decoder\.encoder\.(\d+\.(?:lang|vis)_mlp)\.fc1\.(.+)", r"decoder.layers.\1.0.\2"),
    (r"pixel_decoder\.encoder\.(\d+\.(?:lang|vis)_mlp)\.fc2\.(.+)", r"decoder.layers.\1.2.\2"),
    (r"pixel_decoder\.encoder\.(.+)", r"decoder.layers.\1"),
    (r"pixel_decoder\.((?:input|lateral|output)_convs\.\d+)\.conv\.(.+)", r"decoder.\1.0.\2"),
    (r"pixel_decoder\.((?:input|lateral|output)_convs\.\d+)\.gn\.(.+)", r"decoder.\1.1.\2"),
    (r"pixel_decoder\.(.+)", r"decoder.\1"),
]

SWIN_IMAGENET_RULES: list[Rule] = [
    (r"head\..+", None),  # the classifier
    (r"norm\..+", None),  # the norm before the classifier; each stage gets a norm of its own instead
    *[(old, None if new is None else f"swin.{new}") for old, new in _SWIN],
]

_RULES = {"CARIS": CARIS_RULES}


def rename(name: str, rules: list[Rule]) -> list[str] | None:
    """Our names for one published parameter: one, three for a fused projection, none if it is knowingly dropped.

    Returns:
        ``None`` if no rule knows the name.
    """
    for pattern, new in rules:
        match = re.fullmatch(pattern, name)
        if match:
            if new is None:
                return []
            ours = match.expand(new)
            return [ours.replace("{q,k,v}", part) for part in "qkv"] if "{q,k,v}" in ours else [ours]
    return None


def map_state(
    state_dict: Mapping[str, Tensor], rules: list[Rule]
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Published weights under our names.

    Returns:
        Our names with their tensors, our names with the published name each came from, and the published names that
        no rule knows.
    """
    ours: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unknown = []
    for name, tensor in state_dict.items():
        names = rename(name, rules)
        if names is None:
            unknown.append(name)
            continue
        for new, part in zip(names, tensor.chunk(len(names)) if len(names) > 1 else [tensor], strict=False):
            ours[new] = part
            origin[new] = name
    return ours, origin, unknown


def load_mapped(model: nn.Module, state_dict: Mapping[str, Tensor], rules: list[Rule], optional: str = "") -> None:
    """Load published weights into a model, strictly.

    Args:
        model: Receives the weights in place, in its own dtype and on its own device.
        state_dict: Published names and tensors.
        rules: How published names become ours; the first pattern that matches counts.
        optional: A pattern of our names that may be absent and then keep their values.

    Raises:
        ValueError: Naming every published key that no rule knows, every parameter of ours that got nothing, and every
            shape that differs. Nothing is loaded then. (Bias tables of another window are resized, not refused.)
    """
    ours, origin, unknown = map_state(state_dict, rules)
    target = model.state_dict()
    problems = [f"unknown key {name}" for name in unknown]
    problems += [f"{origin[name]} has no place in this model (as {name})" for name in ours.keys() - target.keys()]
    missing = [name for name in target.keys() - ours.keys() if not (optional and re.fullmatch(optional, name))]
    problems += [f"nothing was found for {name}" for name in missing]
    for name in ours.keys() & target.keys():
        if name.endswith("relative_position_bias_table"):
            ours[name] = resize_bias_table(ours[name], target[name].shape[0])
        if ours[name].shape != target[name].shape:
            problems.append(
                f"{origin[name]} has shape {list(ours[name].shape)}, {name} needs {list(target[name].shape)}"
            )
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise ValueError(f"These weights do not fit {type(model).__name__} ({len(problems)} problems):\n  {listed}")
    model.load_state_dict(ours, strict=False)


def load_official(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load the weights of a published implementation, under its own names, into our model.

    Args:
        model: `CARIS` (weights of the official MaskRIS or CARIS).
        state_dict: Bare weights, without ``module.`` in front; `maskris.models.checkpoints` reads whole files.

    Raises:
        TypeError: If there is no published implementation of this kind of model.
        ValueError: If anything does not fit; see `load_mapped`.
    """
    rules = _RULES.get(type(model).__name__)
    if rules is None:
        raise TypeError(f"No published weights are known for {type(model).__name__}; known: {', '.join(_RULES)}")
    load_mapped(model, state_dict, rules)


def resize_bias_table(table: Tensor, length: int) -> Tensor:
    """Resize a relative position bias table to another window, bicubically.

    Args:
        table: ``[(2 w - 1)², heads]``.
        length: ``(2 w' - 1)²`` of the new window w'.

    Returns:
        ``[length, heads]``; the same tensor if the length is the same.
    """
    old, new = round(table.shape[0] ** 0.5), round(length**0.5)
    if old == new or old * old != table.shape[0] or new * new != length:
        return table
    grid = table.T.reshape(1, -1, old, old).to(torch.float32)
    resized = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return resized.reshape(-1, length).T.to(table.dtype)
