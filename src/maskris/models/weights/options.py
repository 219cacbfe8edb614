"""What a conversion can't read off the shapes of the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["maskris", "lavt", "cris", "etris", "tris-localizer", "tris", "swin"]
"""The published networks whose weights can be converted, and a Swin trained on ImageNet."""


@dataclass(frozen=True)
class ConversionOptions:
    """What leaves no trace in the shapes of weights; the defaults are the published values.

    Attributes:
        window: Resize the relative position tables of the Swin to this window; by default that of the file.
        image_size: Height and width of the model's input; by default those of the training script's arguments in the
            file, or the published ones.
        text: Hub id or folder of BERT's configuration, or the configuration itself; by default it follows from the
            weights and from BERT's habits (one head for every 64 channels, GELU).
        text_heads: Attention heads of BERT, instead of its configuration; one for every 64 channels by default.
        tokenizer: Hub id, folder or, for BERT, vocab.txt of the text encoder's tokenizer; by default the published one.
        heads: Attention heads of the decoder (MaskRIS, CRIS, ETRIS).
        prompt_levels: Sides of the grids of MaskRIS's conditional prompts, if their number leaves a choice.
        fusion_heads: Attention heads of LAVT's four fusions; one each by default.
        bridge_heads: Attention heads of ETRIS's bridges; 4 with a ResNet and 8 with a transformer by default.
        max_tokens: Most tokens of an expression; by default the published number (CRIS and ETRIS took 22 for RefCOCOg).
    """

    window: int | None = None
    image_size: int | None = None
    text: dict[str, Any] | str | Path | None = None
    text_heads: int | None = None
    tokenizer: str | None = None
    heads: int = 8
    prompt_levels: Sequence[int] | None = None
    fusion_heads: Sequence[int] = (1, 1, 1, 1)
    bridge_heads: int | None = None
    max_tokens: int | None = None


PUBLISHED = ConversionOptions()
