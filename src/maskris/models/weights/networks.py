"""The published networks by kind: how a file is recognized, and what it takes to build ours from its weights."""

from collections.abc import Callable, Mapping
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
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.rules import Rule

Kind = Literal["maskris", "lavt", "cris", "etris", "swin"]


@dataclass(frozen=True)
class Network:
    """One published network.

    Attributes:
        label: Its name for people.
        model: Our class.
        rules: Published parameter names as ours.
        recognize: Whether weights are its own, by their names.
        configure: The model's arguments, from the weights and the options.
        preprocess: How images were prepared in its training.
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


_BERT, _CLIP = "bert-base-uncased", "openai/clip-vit-base-patch32"  # one vocabulary serves all of OpenAI's CLIPs

NETWORKS: dict[str, Network] = {
    "maskris": Network("MaskRIS (CARIS)", CARIS, CARIS_RULES, is_caris, caris_config, Preprocess(448, 448), _BERT, 20),
    "lavt": Network("LAVT", LAVT, LAVT_RULES, is_lavt, lavt_config, Preprocess(480, 480), _BERT, 20),
    "cris": Network("CRIS", CRIS, CRIS_RULES, is_cris, cris_config, CLIP_LETTERBOX, _CLIP, 17),
    "etris": Network("ETRIS", ETRIS, ETRIS_RULES, is_etris, etris_config, CLIP_LETTERBOX, _CLIP, 17),
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
