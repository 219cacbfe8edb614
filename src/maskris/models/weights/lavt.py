"""The official LAVT.

In its variant ``lavt_one`` BERT is a part of the network, under ``text_encoder.``. In the variant ``lavt`` it stands
beside the network, and checkpoints hold two dicts, ``model`` and ``bert_model``. Join these first::

    weights = checkpoint["model"] | {f"text_encoder.{name}": value for name, value in checkpoint["bert_model"].items()}
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maskris.models.weights.encoders import BERT_RULES, SWIN_RULES, bert_config, swin_config
from maskris.models.weights.options import PUBLISHED, ConversionOptions
from maskris.models.weights.rules import Dropped, Rule, below, inner

_PWAM = {
    "vis_project.0": "visual",
    "image_lang_att.f_query.0": "query",
    "image_lang_att.f_key.0": "key",
    "image_lang_att.f_value.0": "value",
    "image_lang_att.W.0": "output",
    "project_mm.0": "merge",
}
_DECODER = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}

LAVT_RULES: list[Rule] = [
    (r"backbone\.layers\.3\.res_gate\..+", Dropped("a dead parameter: the last stage's gate changes unused features")),
    (r"backbone\.layers\.(\d+)\.res_gate\.0\.(.+)", r"gates.\1.inner.\2"),
    (r"backbone\.layers\.(\d+)\.res_gate\.2\.(.+)", r"gates.\1.outer.\2"),
    *[
        (rf"backbone\.layers\.(\d+)\.fusion\.{re.escape(theirs)}\.(.+)", rf"fusions.\1.{ours}.\2")
        for theirs, ours in _PWAM.items()
    ],
    *below(r"backbone\.", "vision.backbone.", SWIN_RULES),
    *below(r"text_encoder\.", "text.", BERT_RULES),
    *[
        (rf"classifier\.{theirs}_{4 - block}\.(.+)", rf"decoder.blocks.{block}.{ours}.\1")
        for block in range(3)
        for theirs, ours in _DECODER.items()
    ],
    (r"classifier\.conv1_1\.(.+)", r"decoder.last.\1"),
]


def lavt_config(weights: Mapping[str, Tensor], options: ConversionOptions = PUBLISHED) -> dict[str, Any]:
    """Arguments of `LAVT` from the official names of the whole network, BERT included (see above)."""
    bert = inner(weights, "text_encoder.")
    if not bert:
        raise ValueError(
            "There is no text encoder in these weights (text_encoder.*): the variant `lavt` keeps it beside the "
            "network. Add what its dict bert_model holds, with text_encoder. before every name"
        )
    return {
        "vision": swin_config(inner(weights, "backbone."), options.window),
        "text": bert_config(bert, options),
        "fusion_heads": list(options.fusion_heads),
        "keep_end_token": False,  # so they were trained and evaluated
    }
