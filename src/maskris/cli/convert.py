"""`maskris convert`: turns published weights into a model folder."""

from pathlib import Path
from typing import Literal

from maskris.cli.common import say


def convert(
    source: Path,
    *,
    out: Path,
    kind: Literal["auto", "maskris", "lavt", "cris", "etris", "swin"] = "auto",
    window: int | None = None,
    image_size: int | None = None,
    text: str | None = None,
    text_heads: int | None = None,
    tokenizer: str | None = None,
    heads: int = 8,
    prompt_levels: list[int] | None = None,
    fusion_heads: list[int] | None = None,
    bridge_heads: int | None = None,
    max_tokens: int | None = None,
) -> None:
    """Turn a published checkpoint into a folder of safetensors that this package loads; nothing in it is executed.

    The configuration is read off the shapes of the weights; the options are for what leaves no trace in them.

    Args:
        source: The `.pth` or `.safetensors` file.
        out: The folder to write.
        kind: maskris for MaskRIS or CARIS, lavt, cris, etris, or swin for ImageNet weights of a Swin; auto looks at the
            names in it.
        window: Resize the relative position tables of the Swin to this window.
        image_size: Height and width of the model's input; by default those of the training script's arguments in the
            file, or the published ones.
        text: Hub id or folder of BERT's configuration; by default it follows from the weights.
        text_heads: Attention heads of BERT, instead of its configuration; one for every 64 channels by default.
        tokenizer: Hub id, folder or vocab.txt of the text encoder's tokenizer; by default the published one.
        heads: Attention heads of the decoder (MaskRIS, CRIS, ETRIS).
        prompt_levels: Sides of the grids of MaskRIS's conditional prompts, if their number leaves a choice.
        fusion_heads: Attention heads of LAVT's four fusions; one each by default.
        bridge_heads: Attention heads of ETRIS's bridges; 4 with a ResNet and 8 with a transformer by default.
        max_tokens: Most tokens of an expression; by default the published number.
    """
    from maskris.models.weights.convert import convert_checkpoint
    from maskris.models.weights.options import ConversionOptions

    options = ConversionOptions(
        window=window,
        image_size=image_size,
        text=text,
        text_heads=text_heads,
        tokenizer=tokenizer,
        heads=heads,
        prompt_levels=prompt_levels,
        fusion_heads=fusion_heads or (1, 1, 1, 1),
        bridge_heads=bridge_heads,
        max_tokens=max_tokens,
    )
    say(str(convert_checkpoint(source, out, kind, options)))
