"""The official LAVT once more, in NumPy float64 and official names: ARCHITECTURE of lavt, taken literally.

Swin's windows and BERT come from `literal`; what LAVT adds stands here. It shares no code with the package, judges
configurations without a golden file, and is itself held against the golden file. Everything is computed for one image
and one expression, in evaluation mode.
"""

import math
from typing import Any

import numpy as np
from models import literal
from models.literal import Config, Weights, _conv, _gelu, _inside, _norm, _softmax


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every official name with its shape; `c` has ``vision``, ``text`` and ``fusion_heads`` as `LAVT` has them."""
    e, wide = c["vision"]["embed_dim"], c["text"]["hidden_size"]
    channels = [e * 2**i for i in range(4)]
    encoders = literal.shapes(
        {"vision": c["vision"], "text": c["text"], "prompt_levels": [1]}
        | {"width": 1, "levels": 0, "layers": 0, "prompts": 0}
    )
    s = {}
    for name, shape in encoders.items():
        if name.startswith(("backbone.vis_encoder.", "backbone.lang_encoder.")) and "mask_token" not in name:
            new = name.replace("backbone.vis_encoder.", "backbone.")
            s[new.replace("backbone.lang_encoder.", "text_encoder.")] = shape
    for i, width in enumerate(channels):
        p = f"backbone.layers.{i}"
        for name, inner in {
            "vis_project.0": width,
            "image_lang_att.f_query.0": width,
            "image_lang_att.f_key.0": wide,
            "image_lang_att.f_value.0": wide,
            "image_lang_att.W.0": width,
            "project_mm.0": width,
        }.items():
            s[f"{p}.fusion.{name}.weight"], s[f"{p}.fusion.{name}.bias"] = (width, inner, 1), (width,)
        s[f"{p}.res_gate.0.weight"] = s[f"{p}.res_gate.2.weight"] = (width, width)
    hidden = 4 * e
    for level, inner in (("4", channels[3] + channels[2]), ("3", hidden + channels[1]), ("2", hidden + channels[0])):
        s[f"classifier.conv1_{level}.weight"] = (hidden, inner, 3, 3)
        s[f"classifier.conv2_{level}.weight"] = (hidden, hidden, 3, 3)
        for k in "12":
            for name in ("weight", "bias", "running_mean", "running_var"):
                s[f"classifier.bn{k}_{level}.{name}"] = (hidden,)
            s[f"classifier.bn{k}_{level}.num_batches_tracked"] = ()
    s["classifier.conv1_1.weight"], s["classifier.conv1_1.bias"] = (2, hidden, 1, 1), (2,)
    return s


def random_weights(c: Config, seed: int) -> Weights:
    """Weights under which everything matters: words that differ, attention that chooses, gates that are open."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes(c).items():
        noise = np.asarray(rng.standard_normal(shape))
        if name.endswith(("relative_position_index", "num_batches_tracked")):
            noise = np.zeros(shape)
        elif name.endswith("running_var"):
            noise = 0.5 + noise**2
        elif len(shape) > 1 and "embedding" not in name:
            scale = 1.0 if "table" in name else 1.2 / math.sqrt(math.prod(shape[1:]))
            noise = scale * (3 if "f_key" in name else 1) * noise
        elif len(shape) == 1:
            noise = 0.2 * noise + (1 if name.endswith(".weight") else 0)
        weights[name] = noise.astype(np.float32)
    return weights


def lavt(weights: Weights, c: Config, image: np.ndarray, ids: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Image ``[3, H, W]``, ids and mask ``[L]`` to words, maps, the last attention and logits."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    nothing = np.zeros((0, c["text"]["hidden_size"]))
    words = literal.bert(_inside(w, "text_encoder."), c["text"], ids, mask, nothing)
    maps, attended = backbone(_inside(w, "backbone."), c, image.astype(np.float64), words, mask)
    return {
        "words": words,
        "maps": maps,
        "attended": attended,
        "logits": decoder(_inside(w, "classifier."), maps),
    }


def backbone(
    w: Weights, c: Config, image: np.ndarray, words: np.ndarray, mask: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    v = c["vision"]
    image = np.pad(image, ((0, 0), (0, -image.shape[1] % 4), (0, -image.shape[2] % 4)))
    height, width = image.shape[1] // 4, image.shape[2] // 4
    patches = image.reshape(3, height, 4, width, 4).transpose(1, 3, 0, 2, 4).reshape(height, width, 48)
    x = patches @ w["patch_embed.proj.weight"].reshape(-1, 48).T + w["patch_embed.proj.bias"]
    x = _norm(w, "patch_embed.norm", x)
    maps = []
    for i, depth in enumerate(v["depths"]):
        layer = _inside(w, f"layers.{i}.")
        for j in range(depth):
            block, shift = _inside(layer, f"blocks.{j}."), v["window_size"] // 2 if j % 2 else 0
            h = _norm(block, "norm1", x)
            x = x + literal.window_attention(block, h, v["num_heads"][i], v["window_size"], shift)
            h = _gelu(literal._linear(block, "mlp.fc1", _norm(block, "norm2", x)))
            x = x + literal._linear(block, "mlp.fc2", h)
        shape = x.shape
        residual, attended = pwam(_inside(layer, "fusion."), c["fusion_heads"][i], x.reshape(-1, shape[2]), words, mask)
        gate = np.maximum(residual @ layer["res_gate.0.weight"].T, 0) @ layer["res_gate.2.weight"].T
        x = x + (np.tanh(gate) * residual).reshape(shape)
        maps.append(_norm(w, f"norm{i}", residual).reshape(shape).transpose(2, 0, 1))
        if i < 3:
            x = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2), (0, 0)))
            x = np.concatenate([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], axis=-1)
            x = _norm(layer, "downsample.norm", x) @ layer["downsample.reduction.weight"].T
    return maps, attended


def pwam(w: Weights, heads: int, x: np.ndarray, words: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``[S, C]`` to the fused residual and the attention's output, both ``[S, C]``."""
    channels = x.shape[1]
    q = _instance_norm(_project(w, "image_lang_att.f_query.0", x))
    k = _project(w, "image_lang_att.f_key.0", words) * mask[:, None]
    v = _project(w, "image_lang_att.f_value.0", words) * mask[:, None]
    size = channels // heads
    gathered = np.empty_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T * channels**-0.5 + (1e4 * mask - 1e4)
        gathered[:, part] = _softmax(scores) @ v[:, part]
    attended = _instance_norm(_project(w, "image_lang_att.W.0", gathered))
    visual = _gelu(_project(w, "vis_project.0", x))
    return _gelu(_project(w, "project_mm.0", visual * attended)), attended


def decoder(w: Weights, maps: list[np.ndarray]) -> np.ndarray:
    """Four maps, finest first, to logits ``[2, h, w]``."""
    y = maps[3]
    for level, finer in (("4", maps[2]), ("3", maps[1]), ("2", maps[0])):
        y = np.concatenate([upsample_corners(y, *finer.shape[1:]), finer])
        for k in "12":
            y = np.maximum(_batch_norm(w, f"bn{k}_{level}", _conv(w, f"conv{k}_{level}", y)), 0)
    return _conv(w, "conv1_1", y)


def upsample_corners(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, ``align_corners=True``: ``[c, h, w]`` to ``[c, height, width]``."""

    def matrix(old: int, new: int) -> np.ndarray:
        m = np.zeros((new, old))
        for i in range(new):
            source = i * (old - 1) / (new - 1) if new > 1 else 0.0
            low = min(int(source), old - 1)
            m[i, low] += 1 - (source - low)
            m[i, min(low + 1, old - 1)] += source - low
        return m

    return np.einsum("ih,jw,chw->cij", matrix(x.shape[1], height), matrix(x.shape[2], width), x)


def _project(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"][:, :, 0].T + w[f"{name}.bias"]


def _instance_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def _batch_norm(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    mean, var, scale, bias = (
        w[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias
