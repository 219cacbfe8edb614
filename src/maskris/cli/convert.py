"""Turn published weights into a model folder."""

from pathlib import Path
from typing import Literal

from maskris.cli.common import say
from maskris.models.weights.options import ConversionOptions, Kind


def convert(
    source: str,
    *,
    out: Path,
    kind: Literal["auto", Kind] = "auto",
    options: ConversionOptions,
) -> None:
    """Turn a published checkpoint into a folder of safetensors that this package loads; nothing in it is executed.

    The configuration is read off the shapes of the weights; the options are for what leaves no trace in them.

    Args:
        source: The `.pth` or `.safetensors` file, hf:owner/name/path/file.pth for one on the Hub, or a name of
            `maskris models` to convert with other options than published.
        out: The folder to write.
        kind: maskris for MaskRIS or CARIS, lavt, cris, etris, tris-localizer and tris for the two stages of TRIS, or
            swin for ImageNet weights of a Swin; auto looks at the names in it.
        options: What leaves no trace in the shapes.
    """
    from maskris.models.weights.convert import convert_checkpoint
    from maskris.models.weights.released_files import published_file

    with published_file(source) as file:
        say(str(convert_checkpoint(file, out, kind, options)))
