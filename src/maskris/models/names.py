"""Published parameter names as ours: every name has a rule, which renames it or says why it is left behind."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Dropped:
    """What takes the place of our name where a published parameter is knowingly left behind.

    Attributes:
        reason: Why nothing is lost.
    """

    reason: str


Rule = tuple[str, str | Dropped]
"""A pattern for whole published names and our name for it, or why there is none."""

_SWIN: list[Rule] = [
    (r"mask_token", Dropped("a dead parameter: the masking of tokens inside Swin is never switched on")),
    (r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_index", Dropped("a table that follows from the window")),
    (r"layers\.\d+\.blocks\.\d+\.attn_mask", Dropped("a mask that follows from the image size")),
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


def _below(old: str, new: str, rules: list[Rule]) -> list[Rule]:
    """The same rules for a network that is part of another."""
    return [(old + pattern, target if isinstance(target, Dropped) else new + target) for pattern, target in rules]


CARIS_RULES: list[Rule] = [
    (r"criterion\.seg_criterion\.weight", Dropped("class weights of the loss, which belong to the strategy")),
    (r"backbone\.lang_encoder\.embeddings\.position_ids", Dropped("the numbers 0, 1, 2, ... of old transformers")),
    *_below(r"backbone\.vis_encoder\.", "vision.backbone.swin.", _SWIN),
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
    (r"head\..+", Dropped("the classifier")),
    (r"norm\..+", Dropped("the norm before the classifier: every stage has a norm of its own instead")),
    *_below("", "swin.", _SWIN),
]


def rename(name: str, rules: list[Rule]) -> list[str] | None:
    """Our names for one published parameter: one, three for a fused projection, none if it is knowingly dropped.

    Returns:
        ``None`` if no rule knows the name.
    """
    for pattern, new in rules:
        match = re.fullmatch(pattern, name)
        if match:
            if isinstance(new, Dropped):
                return []
            ours = match.expand(new)
            return [ours.replace("{q,k,v}", part) for part in "qkv"] if "{q,k,v}" in ours else [ours]
    return None


def dropped(names: Iterable[str], rules: list[Rule]) -> dict[str, list[str]]:
    """Of these published names those that are left behind, under the reason."""
    found: dict[str, list[str]] = {}
    for name in names:
        target = next((new for pattern, new in rules if re.fullmatch(pattern, name)), None)
        if isinstance(target, Dropped):
            found.setdefault(target.reason, []).append(name)
    return found
