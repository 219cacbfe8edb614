"""CRIS once more, in float64, official names and plain functions: the formulas of the paper, taken literally.

It shares no code with the package; encoders, decoder and projector are those of `literal_etris`. It is itself held
against the golden file. `c` is a configuration as the golden file has it: ``{"clip": {...}, "cfg": {...}}``.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from models import literal_etris
from models.literal_etris import Config, Weights, batch_norm, block, conv_layer, decoder, layer_norm, projector, resnet
from torch import Tensor

_SHARED = ("backbone.", "decoder.", "proj.")


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every official name with its shape."""
    cfg = c["cfg"]
    bridged = {"ladder_dim": 8, "multi_stage": 0, "stride": [2, 1, 2], "nhead": 1}
    kin = literal_etris.shapes({"clip": c["clip"], "cfg": cfg | bridged})
    s = {name: shape for name, shape in kin.items() if name.startswith(_SHARED)}

    def norm(name: str, width: int) -> None:
        s.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        s[f"{name}.num_batches_tracked"] = ()

    def conv(name: str, out: int, inner: int, kernel: int) -> None:
        s[f"{name}.0.weight"] = (out, inner, kernel, kernel)
        norm(f"{name}.1", out)

    (in3, in4, in5), (c3, c4, c5) = cfg["fpn_in"], cfg["fpn_out"]
    s["neck.txt_proj.0.weight"] = (c5, cfg["word_dim"])
    norm("neck.txt_proj.1", c5)
    norm("neck.norm_layer.0", c5)
    for name, out, inner, kernel in (
        ("f1_v_proj", c5, in5, 1),
        ("f2_v_proj", c4, in4, 3),
        ("f3_v_proj", c3, in3, 3),
        ("f2_cat", c4, c4 + c5, 1),
        ("f3_cat", c4, c3 + c4, 1),
        ("f4_proj5", c4, c5, 3),
        ("f4_proj4", c4, c4, 3),
        ("f4_proj3", c4, c4, 3),
        ("aggr", c4, 3 * c4, 1),
        ("coordconv.0.conv1", c4, c4 + 2, 3),
        ("coordconv.1", c4, c4, 3),
    ):
        conv(f"neck.{name}", out, inner, kernel)
    return s


def random_weights(c: Config, seed: int) -> Weights:
    """Weights under which everything matters: no bias is zero, no scale and no variance is one."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(c).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            noise = torch.tensor(3)
        elif name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):
            noise = (0.2 * noise).exp()
        elif len(shape) == 1:
            noise *= 0.2
        elif "embedding" not in name and len(shape) > 1:
            noise *= 1.2 / math.sqrt(math.prod(shape[1:]))
        weights[name] = noise
    return weights


def cris(weights: Weights, c: Config, images: Tensor, ids: Tensor, train: bool = False) -> dict[str, Any]:
    """Images ``[N, 3, H, W]`` and ids ``[N, L]`` to everything that the golden file holds.

    `train` normalizes with batch statistics; there is no dropout.
    """
    cfg = c["cfg"]
    w = {name: value if value.requires_grad else value.double() for name, value in weights.items()}
    w["train"] = torch.tensor(train)
    steps = resnet(w, c, images.double())
    c3 = next(steps)
    c4 = steps.send(c3)
    c5 = steps.send(steps.send(c4))
    words, state = text(w, c, ids)
    neck = fpn(w, c3, c4, c5, state)
    decoded = decoder(w, neck, words, ids == 0, cfg["num_layers"], cfg["num_head"])
    logits = projector(w, decoded.transpose(1, 2).reshape(neck.shape), state)
    return {
        **{"vis0": c3, "vis1": c4, "vis2": c5, "words": words, "state": state},
        **{"neck": neck, "decoder_out": decoded.mT, "logits": logits},
    }


def text(w: Weights, c: Config, ids: Tensor) -> tuple[Tensor, Tensor]:
    words = w["backbone.token_embedding.weight"][ids] + w["backbone.positional_embedding"][: ids.shape[1]]
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    for i in range(c["clip"]["transformer_layers"]):
        words = block(w, f"backbone.transformer.resblocks.{i}", words, causal)
    words = layer_norm(w, "backbone.ln_final", words)
    return words, words[torch.arange(len(ids)), ids.argmax(1)] @ w["backbone.text_projection"]


def fpn(w: Weights, c3: Tensor, c4: Tensor, c5: Tensor, state: Tensor) -> Tensor:
    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    projected = (state @ w["neck.txt_proj.0.weight"].T)[:, :, None, None]
    gate = batch_norm(w, "neck.txt_proj.1", projected).relu()
    f5 = batch_norm(w, "neck.norm_layer.0", conv_layer(w, "neck.f1_v_proj", c5) * gate).relu()
    f4 = conv_layer(w, "neck.f2_cat", torch.cat([conv_layer(w, "neck.f2_v_proj", c4), up(f5)], 1))
    f3 = F.avg_pool2d(conv_layer(w, "neck.f3_v_proj", c3), 2)
    f3 = conv_layer(w, "neck.f3_cat", torch.cat([f3, f4], 1))
    q5, q4, q3 = (conv_layer(w, f"neck.f4_proj{i}", f) for i, f in ((5, f5), (4, f4), (3, f3)))
    x = conv_layer(w, "neck.aggr", torch.cat([q3, q4, up(q5)], 1))
    height, width = x.shape[2:]
    rows = torch.linspace(-1, 1, height, dtype=x.dtype)[:, None].expand(len(x), 1, height, width)
    columns = torch.linspace(-1, 1, width, dtype=x.dtype)[None].expand(len(x), 1, height, width)
    x = conv_layer(w, "neck.coordconv.0.conv1", torch.cat([x, columns, rows], 1))
    return conv_layer(w, "neck.coordconv.1", x)
