"""The published networks by kind: how a file is recognized, and what it takes to build ours from its weights."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from maskris.data.preprocess import CLIP_LETTERBOX, Preprocess
from maskris.models.base import RISModel
from maskris.models.caris.model import CARIS
from maskris.models.cris.model import CRIS
from maskris.models.etris.model import ETRIS
from maskris.models.lavt import LAVT
from maskris.models.tris.model import TRIS
from maskris.models.tris_localizer import TRISLocalizer
from maskris.models.weights.caris import CARIS_RULES, caris_config
from maskris.models.weights.cris import CRIS_RULES, cris_config
from maskris.models.weights.etris import ETRIS_RULES, etris_config
from maskris.models.weights.lavt import LAVT_RULES, lavt_config
from maskris.models.weights.options import ConversionOptions, Kind
from maskris.models.weights.rules import Rule
from maskris.models.weights.tris import TRIS_LOCALIZER_RULES, TRIS_RULES, tris_config, tris_localizer_config

_MARKS: dict[Kind, tuple[str, str]] = {
    "maskris": ("backbone.vis_encoder.", "pixel_decoder."),
    "lavt": ("classifier.conv1_4.weight", "backbone.layers.0.fusion."),
    "cris": ("neck.f1_v_proj.0.weight", "backbone.token_embedding.weight"),
    "etris": ("neck.f3_proj.0.weight", "bridger."),
    "tris-localizer": ("attn_fusion.v_proj1.", "lan_project.weight"),
    "tris": ("attention2.Wq.weight", "final_seg1."),
    "swin": ("patch_embed.proj.weight", "layers.0.blocks."),
}
"""Beginnings of names that occur together in the weights of one kind only."""


@dataclass(frozen=True)
class Network:
    """One published network.

    Attributes:
        label: Its name for people.
        model: Our class.
        rules: Published parameter names as ours.
        configure: The model's arguments, from the weights and the options; a ValueError if these don't fit together.
        preprocess: How images were prepared in its training.
        tokenizer: Hub id of its tokenizer.
        max_tokens: Most tokens of an expression.
    """

    label: str
    model: type[RISModel]
    rules: list[Rule]
    configure: Callable[[Mapping[str, Tensor], ConversionOptions], dict[str, Any]]
    preprocess: Preprocess
    tokenizer: str
    max_tokens: int


_BERT, _CLIP = "bert-base-uncased", "openai/clip-vit-base-patch32"  # one vocabulary serves all of OpenAI's CLIPs

NETWORKS: dict[str, Network] = {
    "maskris": Network("MaskRIS (CARIS)", CARIS, CARIS_RULES, caris_config, Preprocess(448, 448), _BERT, 20),
    "lavt": Network("LAVT", LAVT, LAVT_RULES, lavt_config, Preprocess(480, 480), _BERT, 20),
    "cris": Network("CRIS", CRIS, CRIS_RULES, cris_config, CLIP_LETTERBOX, _CLIP, 17),
    "etris": Network("ETRIS", ETRIS, ETRIS_RULES, etris_config, CLIP_LETTERBOX, _CLIP, 17),
    "tris-localizer": Network(
        *("TRIS (first stage)", TRISLocalizer, TRIS_LOCALIZER_RULES, tris_localizer_config, Preprocess(320, 320)),
        *(_CLIP, 20),
    ),
    "tris": Network("TRIS (second stage)", TRIS, TRIS_RULES, tris_config, Preprocess(320, 320), _CLIP, 20),
}


def kind_of(names: Collection[str]) -> Kind:
    """The kind of weights by their parameter names: one of the published networks, or a Swin trained on ImageNet.

    Raises:
        ValueError: If they are neither.
    """
    for kind, marks in _MARKS.items():
        if all(any(name.startswith(mark) for name in names) for mark in marks):
            return kind
    labels = ", ".join(network.label for network in NETWORKS.values())
    raise ValueError(
        f"These weights are neither those of a published network ({labels}) nor of a Swin trained on ImageNet "
        f"(patch_embed.*, layers.*): the first names are {', '.join(list(names)[:3])}"
    )
