"""The published networks by kind: how a file is recognized, and what it takes to build ours from its weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from maskris.data.preprocess import CLIP_LETTERBOX, Preprocess
from maskris.models.base import RISModel
from maskris.models.caris.model import CARIS
from maskris.models.cris.model import CRIS
from maskris.models.etris.model import ETRIS
from maskris.models.lavt import LAVT
from maskris.models.weights.caris import CARIS_RULES, caris_config, is_caris
from maskris.models.weights.cris import CRIS_RULES, cris_config, is_cris
from maskris.models.weights.etris import ETRIS_RULES, etris_config, is_etris
from maskris.models.weights.lavt import LAVT_RULES, is_lavt, lavt_config
from maskris.models.weights.rules import Rule

Kind = Literal["maskris", "lavt", "cris", "etris", "swin"]


@dataclass(frozen=True)
class ConversionOptions:
    """What leaves no trace in the shapes of weights; the defaults are the published values.

    Attributes:
        heads: Heads of the decoder (CARIS, CRIS, ETRIS).
        prompt_levels: Sides of the grids of CARIS's conditional prompts; ``None`` if their number tells them.
        fusion_heads: Heads of LAVT's four fusions.
        bridge_heads: Heads of ETRIS's bridges; ``None`` for 4 with a ResNet and 8 with a transformer.
        text_heads: Heads of BERT; ``None`` for one for every 64 channels.
        text: A known configuration of BERT.
        window: Another window for Swin than that of the file.
    """

    heads: int = 8
    prompt_levels: Sequence[int] | None = None
    fusion_heads: Sequence[int] = (1, 1, 1, 1)
    bridge_heads: int | None = None
    text_heads: int | None = None
    text: Mapping[str, Any] | None = None
    window: int | None = None


@dataclass(frozen=True)
class Network:
    """One published network.

    Attributes:
        label: Its name for people.
        model: Our class.
        rules: Published parameter names as ours.
        recognize: Whether weights are its own, by their names.
        configure: The model's arguments, from the weights and what they don't tell.
        preprocess: How it was trained to see images.
        tokenizer: Hub id of its tokenizer.
        max_tokens: Most tokens of an expression.
    """

    label: str
    model: type[RISModel]
    rules: list[Rule]
    recognize: Callable[[Mapping[str, Tensor]], bool]
    configure: Callable[[Mapping[str, Tensor], ConversionOptions], dict[str, Any]]
    preprocess: Preprocess
    tokenizer: str
    max_tokens: int


def _caris(weights: Mapping[str, Tensor], untold: ConversionOptions) -> dict[str, Any]:
    return caris_config(
        weights,
        heads=untold.heads,
        prompt_levels=untold.prompt_levels,
        text_heads=untold.text_heads,
        text=untold.text,
        window=untold.window,
    )


def _lavt(weights: Mapping[str, Tensor], untold: ConversionOptions) -> dict[str, Any]:
    return lavt_config(
        weights,
        fusion_heads=untold.fusion_heads,
        text_heads=untold.text_heads,
        text=untold.text,
        window=untold.window,
    )


def _cris(weights: Mapping[str, Tensor], untold: ConversionOptions) -> dict[str, Any]:
    return cris_config(weights, heads=untold.heads)


def _etris(weights: Mapping[str, Tensor], untold: ConversionOptions) -> dict[str, Any]:
    return etris_config(weights, nhead=untold.bridge_heads, num_head=untold.heads)


_BERT, _CLIP = "bert-base-uncased", "openai/clip-vit-base-patch32"  # one vocabulary serves all of OpenAI's CLIPs

NETWORKS: dict[str, Network] = {
    "maskris": Network("MaskRIS (CARIS)", CARIS, CARIS_RULES, is_caris, _caris, Preprocess(448, 448), _BERT, 20),
    "lavt": Network("LAVT", LAVT, LAVT_RULES, is_lavt, _lavt, Preprocess(480, 480), _BERT, 20),
    "cris": Network("CRIS", CRIS, CRIS_RULES, is_cris, _cris, CLIP_LETTERBOX, _CLIP, 17),
    "etris": Network("ETRIS", ETRIS, ETRIS_RULES, is_etris, _etris, CLIP_LETTERBOX, _CLIP, 17),
}


def kind_of(weights: Mapping[str, Tensor]) -> Kind:
    """What the names say: one of the published networks, or a Swin trained on ImageNet.

    Raises:
        ValueError: If they say neither.
    """
    for kind, network in NETWORKS.items():
        if network.recognize(weights):
            return kind  # type: ignore[return-value]
    if "patch_embed.proj.weight" in weights and any(name.startswith("layers.0.blocks.") for name in weights):
        return "swin"
    labels = ", ".join(network.label for network in NETWORKS.values())
    raise ValueError(
        f"These weights are neither those of a published network ({labels}) nor of a Swin trained on ImageNet "
        f"(patch_embed.*, layers.*): the first names are {', '.join(list(weights)[:3])}"
    )
