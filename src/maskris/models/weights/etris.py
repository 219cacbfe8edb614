"""The official ETRIS, with a ResNet or a vision transformer."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maskris.models.etris.encoder import STAGES
from maskris.models.weights.cris import check_heads, decoder_config
from maskris.models.weights.encoders import CLIP_RULES, clip_config
from maskris.models.weights.options import PUBLISHED, ConversionOptions
from maskris.models.weights.rules import Rule, below, inner, shape

ETRIS_RULES: list[Rule] = [
    *below(r"backbone\.", "encoders.clip.", CLIP_RULES),
    # A convolution alone in the bridges of a ResNet; with batch norm and ReLU in those of a vision transformer.
    (r"bridger\.(zoom_in|zoom_out)\.(\d)\.weight", r"encoders.bridger.\2.\1.0.weight"),
    (r"bridger\.(zoom_in|zoom_out)\.(\d)\.(\d\..+)", r"encoders.bridger.\2.\1.\3"),
    (r"bridger\.linear1\.(\d)\.(.+)", r"encoders.bridger.\1.text_in.\2"),
    (r"bridger\.linear2\.(\d)\.(.+)", r"encoders.bridger.\1.text_out.\2"),
    (r"bridger\.fusion_v\.(\d)\.(.+)", r"encoders.bridger.\1.read_words.\2"),
    (r"bridger\.fusion_t\.(\d)\.(.+)", r"encoders.bridger.\1.read_pixels.\2"),
    # The first bridge has no norm, so that the published numbers of the norms are one behind.
    *[(rf"bridger\.ln_v\.{i}\.(.+)", rf"encoders.bridger.{i + 1}.vision_norm.\1") for i in range(STAGES - 1)],
    *[(rf"bridger\.ln_t\.{i}\.(.+)", rf"encoders.bridger.{i + 1}.text_norm.\1") for i in range(STAGES - 1)],
    # Attention to a single key: queries and keys influence nothing (see `maskris.models.etris.model.Gate`).
    *[
        (rf"neck\.fusion{i + 3}\.multihead_attn\.in_proj_(.+)", rf"neck.gates.{i}.{{,,v}}_proj.\1")
        for i in range(STAGES)
    ],
    *[(rf"neck\.fusion{i + 3}\.multihead_attn\.out_proj\.(.+)", rf"neck.gates.{i}.out_proj.\1") for i in range(STAGES)],
    *[(rf"neck\.f{i + 3}_proj\.(.+)", rf"neck.zooms.{i}.\1") for i in range(STAGES)],
    (r"((?:neck\.(?:txt_proj|aggr|coordconv)|decoder|proj)\..+)", r"\1"),
]


def etris_config(weights: Mapping[str, Tensor], options: ConversionOptions = PUBLISHED) -> dict[str, Any]:
    """Arguments of `ETRIS` from the official names of the whole network."""
    clip = clip_config(inner(weights, "backbone."))
    fused = [i for i in range(STAGES) if f"bridger.linear1.{i}.weight" in weights]
    if not fused or fused != list(range(fused[0], STAGES)):
        raise ValueError(f"The bridges must be at the last stages, not at {fused}")
    ladder_dim = shape(weights, f"bridger.linear1.{fused[0]}.weight", 2)[0]
    nhead = options.bridge_heads or (4 if clip["vision_patch_size"] is None else 8)
    check_heads(nhead, "bridges'", ladder_dim)
    return {
        "clip": clip,
        "ladder_dim": ladder_dim,
        "nhead": nhead,
        "multi_stage": len(fused),
        "stride": [shape(weights, f"neck.f{i + 3}_proj.0.weight", 4)[3] for i in range(STAGES)],
        **decoder_config(weights, options.heads),
    }
