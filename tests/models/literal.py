"""The official network once more, in NumPy float64 and official names: the formulas of the papers, taken literally.

It shares no code with the package and takes no shortcut, so it can judge configurations without a golden file.
It is itself held against the golden file. Everything is computed for one image and one expression.
"""

import math
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]
Config = dict[str, Any]

erf = np.vectorize(math.erf)


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every official name with its shape. `c` has the arguments of CARIS, `vision` and `text` as dicts."""
    s: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, inner: int) -> None:
        s[f"{name}.weight"], s[f"{name}.bias"] = (out, inner), (out,)

    def norm(name: str, width: int) -> None:
        s[f"{name}.weight"], s[f"{name}.bias"] = (width,), (width,)

    v, t, d = c["vision"], c["text"], c["width"]
    e, window, wide = v["embed_dim"], v["window_size"], t["hidden_size"]
    channels = [e * 2**i for i in range(4)]
    p = "backbone.vis_encoder"
    s[f"{p}.mask_token"] = (1, 1, e)
    s[f"{p}.patch_embed.proj.weight"], s[f"{p}.patch_embed.proj.bias"] = (e, 3, 4, 4), (e,)
    norm(f"{p}.patch_embed.norm", e)
    for i, (depth, heads) in enumerate(zip(v["depths"], v["num_heads"], strict=True)):
        for j in range(depth):
            b, w = f"{p}.layers.{i}.blocks.{j}", channels[i]
            norm(f"{b}.norm1", w)
            norm(f"{b}.norm2", w)
            s[f"{b}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads)
            s[f"{b}.attn.relative_position_index"] = (window**2, window**2)
            linear(f"{b}.attn.qkv", 3 * w, w)
            linear(f"{b}.attn.proj", w, w)
            linear(f"{b}.mlp.fc1", 4 * w, w)
            linear(f"{b}.mlp.fc2", w, 4 * w)
        if i < 3:
            s[f"{p}.layers.{i}.downsample.reduction.weight"] = (2 * channels[i], 4 * channels[i])
            norm(f"{p}.layers.{i}.downsample.norm", 4 * channels[i])
        norm(f"{p}.norm{i}", channels[i])
    p = "backbone.lang_encoder"
    s[f"{p}.embeddings.word_embeddings.weight"] = (t["vocab_size"], wide)
    s[f"{p}.embeddings.position_embeddings.weight"] = (t["max_position_embeddings"], wide)
    s[f"{p}.embeddings.token_type_embeddings.weight"] = (2, wide)
    norm(f"{p}.embeddings.LayerNorm", wide)
    for i in range(t["num_hidden_layers"]):
        b = f"{p}.encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{b}.attention.{part}", wide, wide)
        norm(f"{b}.attention.output.LayerNorm", wide)
        linear(f"{b}.intermediate.dense", t["intermediate_size"], wide)
        linear(f"{b}.output.dense", wide, t["intermediate_size"])
        norm(f"{b}.output.LayerNorm", wide)
    p = "backbone.conditional_prompts"
    for i, _ in enumerate(c["prompt_levels"]):
        linear(f"{p}.in_linears.{i}", wide, channels[3])
        linear(f"{p}.out_linears.{i}", wide, wide)
    s[f"{p}.lang_prompts.weight"] = (sum(side**2 for side in c["prompt_levels"]), wide)
    norm(f"{p}.lang_prompts_norm", wide)
    p = "pixel_decoder"
    for i in range(c["levels"]):
        s[f"{p}.input_convs.{i}.conv.weight"] = (d, channels[3 - i], 1, 1)
        s[f"{p}.input_convs.{i}.conv.bias"] = (d,)
        norm(f"{p}.input_convs.{i}.gn", d)
    for i in range(4 - c["levels"]):
        s[f"{p}.lateral_convs.{i}.conv.weight"] = (d, channels[i], 1, 1)
        norm(f"{p}.lateral_convs.{i}.gn", d)
        s[f"{p}.output_convs.{i}.conv.weight"] = (d, d, 3, 3)
        norm(f"{p}.output_convs.{i}.gn", d)
    for i in range(c["layers"]):
        b, samples = f"{p}.encoder.{i}", c["heads"] * c["levels"] * c["points"]
        s[f"{b}.gamma_v2l"] = s[f"{b}.gamma_l2v"] = (1, 1, d)
        linear(f"{b}.vis_self_attn.sampling_offsets", 2 * samples, d)
        linear(f"{b}.vis_self_attn.attention_weights", samples, d)
        linear(f"{b}.vis_self_attn.value_proj", d, d)
        linear(f"{b}.vis_self_attn.output_proj", d, d)
        for attention in ("v2l_cross_attn", "lang_self_attn", "l2v_cross_attn"):
            for part in "qkv":
                linear(f"{b}.{attention}.{part}_proj", c["attention_ratio"] * d, d)
            linear(f"{b}.{attention}.out_proj", d, c["attention_ratio"] * d)
        for mlp in ("vis_mlp", "lang_mlp"):
            linear(f"{b}.{mlp}.fc1", c["ffn_ratio"] * d, d)
            linear(f"{b}.{mlp}.fc2", d, c["ffn_ratio"] * d)
        for k in (1, 2, 3):
            norm(f"{b}.v_norm{k}", d)
            norm(f"{b}.l_norm{k}", d)
    s[f"{p}.level_encoding.weight"] = (c["levels"], d)
    linear(f"{p}.lang_in_linear", d, wide)
    norm(f"{p}.lang_in_norm", d)
    s[f"{p}.vis_prompts.weight"] = (c["prompts"], d)
    for i in (0, 2, 4):
        linear(f"{p}.mask_feature.{i}", d, d)
        s[f"{p}.mask_feature.{i}.weight"] = (d, d, 1, 1)
        linear(f"{p}.lang_embed.{i}", d, d)
    s["criterion.seg_criterion.weight"] = (2,)
    return s


def random_weights(c: Config, seed: int) -> Weights:
    """Weights under which everything matters: no bias is zero, no scale is one, sampling points scatter."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes(c).items():
        noise = rng.standard_normal(shape).astype(np.float32)
        if name.endswith("relative_position_index"):
            noise = np.zeros(shape, dtype=np.int64)
        elif len(shape) > 1 and "embedding" not in name and "prompts.weight" not in name and "encoding" not in name:
            noise *= 1.0 if "table" in name else 1.2 / math.sqrt(math.prod(shape[1:]))
        elif len(shape) == 1:
            noise *= 2.0 if "sampling_offsets" in name else 0.2
        if "gamma" in name or (name.endswith(".weight") and len(shape) == 1):
            noise = 1 + 0.2 * noise
        weights[name] = noise
    return weights


def caris(weights: Weights, c: Config, image: np.ndarray, ids: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Image ``[3, H, W]``, ids and mask ``[L]`` to maps, prompts, text features and logits (ARCHITECTURE section 1)."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    maps = swin(_inside(w, "backbone.vis_encoder."), c["vision"], image.astype(np.float64))
    prompts = conditional_prompts(_inside(w, "backbone.conditional_prompts."), c["prompt_levels"], maps[3])
    text = bert(_inside(w, "backbone.lang_encoder."), c["text"], ids, mask, prompts)
    logits = decoder(_inside(w, "pixel_decoder."), c, maps, text[: len(ids)], mask)
    return {"maps": maps, "prompts": prompts, "text": text, "logits": logits}


def swin(w: Weights, v: Config, image: np.ndarray) -> list[np.ndarray]:
    """Section 2: ``[3, H, W]`` to four maps ``[c, h, w]``."""
    image = np.pad(image, ((0, 0), (0, -image.shape[1] % 4), (0, -image.shape[2] % 4)))
    height, width = image.shape[1] // 4, image.shape[2] // 4
    x = np.empty((height, width, v["embed_dim"]))
    for i in range(height):
        for j in range(width):
            patch = image[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            x[i, j] = np.tensordot(w["patch_embed.proj.weight"], patch, 3) + w["patch_embed.proj.bias"]
    x = _norm(w, "patch_embed.norm", x)
    maps = []
    for i, depth in enumerate(v["depths"]):
        for j in range(depth):
            shift = v["window_size"] // 2 if j % 2 else 0
            block = _inside(w, f"layers.{i}.blocks.{j}.")
            x = x + window_attention(block, _norm(block, "norm1", x), v["num_heads"][i], v["window_size"], shift)
            x = x + _linear(block, "mlp.fc2", _gelu(_linear(block, "mlp.fc1", _norm(block, "norm2", x))))
        maps.append(_norm(w, f"norm{i}", x).transpose(2, 0, 1))
        if i < 3:
            x = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2), (0, 0)))
            x = np.concatenate([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], axis=-1)
            x = _norm(w, f"layers.{i}.downsample.norm", x) @ w[f"layers.{i}.downsample.reduction.weight"].T
    return maps


def window_attention(w: Weights, x: np.ndarray, heads: int, window: int, shift: int) -> np.ndarray:
    """``[h, w, C]`` to the same: every pixel attends to those of its window that belong to its region."""
    height, width, channels = x.shape
    x = np.pad(x, ((0, -height % window), (0, -width % window), (0, 0)))
    rows, columns = x.shape[:2]
    out = np.empty_like(x)
    size = channels // heads
    inside = [(y, z) for y in range(window) for z in range(window)]
    span = 2 * window - 1
    bias = np.array([[(a - c + window - 1) * span + b - d + window - 1 for c, d in inside] for a, b in inside])

    def region(position: int, length: int) -> int:
        return 0 if position < length - window else 1 if position < length - shift else 2

    for top in range(0, rows, window):
        for left in range(0, columns, window):
            shifted = [(top + y, left + z) for y, z in inside]
            regions = np.array([region(y, rows) * 3 + region(z, columns) if shift else 0 for y, z in shifted])
            source = [((y + shift) % rows, (z + shift) % columns) for y, z in shifted]
            qkv = _linear(w, "attn.qkv", np.stack([x[y, z] for y, z in source]))
            results = []
            for head in range(heads):
                q, k, value = (
                    qkv[:, part * channels + head * size : part * channels + (head + 1) * size] for part in range(3)
                )
                scores = (q * size**-0.5) @ k.T + w["attn.relative_position_bias_table"][bias, head]
                scores = scores - 100.0 * (regions[:, None] != regions[None])
                results.append(_softmax(scores) @ value)
            result = _linear(w, "attn.proj", np.concatenate(results, axis=1))
            for (y, z), row in zip(source, result, strict=True):
                out[y, z] = row
    return out[:height, :width]


def conditional_prompts(w: Weights, sides: list[int], coarsest: np.ndarray) -> np.ndarray:
    """Section 3: ``[c, h, w]`` to ``[P, T]``."""
    _, height, width = coarsest.shape
    rows = []
    for i, side in enumerate(sides):
        for y in range(side):
            for x in range(side):
                cell = coarsest[
                    :,
                    y * height // side : -(-(y + 1) * height // side),
                    x * width // side : -(-(x + 1) * width // side),
                ]
                hidden = np.maximum(_linear(w, f"in_linears.{i}", cell.mean((1, 2))), 0)
                rows.append(_linear(w, f"out_linears.{i}", hidden))
    return _norm(w, "lang_prompts_norm", np.stack(rows) + w["lang_prompts.weight"])


def bert(w: Weights, t: Config, ids: np.ndarray, mask: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Section 4: words and prompts to ``[L + P, T]``."""
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = np.concatenate([_norm(w, "embeddings.LayerNorm", x, eps=1e-12), prompts])
    visible = np.concatenate([mask, np.ones(len(prompts))])
    heads = t["num_attention_heads"]
    for i in range(t["num_hidden_layers"]):
        layer = _inside(w, f"encoder.layer.{i}.")
        q, k, v = (_linear(layer, f"attention.self.{name}", x) for name in ("query", "key", "value"))
        parts = []
        for one, two, three in zip(*(np.split(a, heads, axis=1) for a in (q, k, v)), strict=True):
            scores = one @ two.T / math.sqrt(one.shape[1]) + (1 - visible) * -10000
            parts.append(_softmax(scores) @ three)
        attended = _linear(layer, "attention.output.dense", np.concatenate(parts, axis=1))
        x = _norm(layer, "attention.output.LayerNorm", x + attended, eps=1e-12)
        inner = _linear(layer, "output.dense", _gelu(_linear(layer, "intermediate.dense", x)))
        x = _norm(layer, "output.LayerNorm", x + inner, eps=1e-12)
    return x


def decoder(w: Weights, c: Config, maps: list[np.ndarray], words: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Section 5: maps and words ``[L, T]`` to logits ``[2, H / 4, W / 4]``."""
    levels = [_conv_norm(w, f"input_convs.{i}", maps[3 - i]) for i in range(c["levels"])]
    sizes = [level.shape[1:] for level in levels]
    vis = np.concatenate([level.reshape(level.shape[0], -1).T for level in levels])
    position = np.concatenate(
        [sine(h, x, c["width"]) + w["level_encoding.weight"][i] for i, (h, x) in enumerate(sizes)]
    )
    reference = np.array([((x + 0.5) / k, (y + 0.5) / h) for h, k in sizes for y in range(h) for x in range(k)])
    text = np.concatenate([_norm(w, "lang_in_norm", _linear(w, "lang_in_linear", words)), w["vis_prompts.weight"]])
    visible = np.concatenate([mask, np.ones(c["prompts"])]).astype(bool)
    everything = np.ones(len(vis), dtype=bool)
    for i in range(c["layers"]):
        u = _inside(w, f"encoder.{i}.")
        read = attention(u, "v2l_cross_attn", c["heads"], text, vis + position, vis, everything)
        text = _norm(u, "l_norm1", text + u["gamma_v2l"][0, 0] * read)
        text = _norm(u, "l_norm2", text + attention(u, "lang_self_attn", c["heads"], text, text, text, visible))
        text = _norm(u, "l_norm3", text + _mlp(u, "lang_mlp", text))
        read = attention(u, "l2v_cross_attn", c["heads"], vis + position, text, text, visible)
        vis = _norm(u, "v_norm2", vis + u["gamma_l2v"][0, 0] * read)
        sampled = deformable(_inside(u, "vis_self_attn."), c, vis + position, vis, reference, sizes)
        vis = _norm(u, "v_norm1", vis + sampled)
        vis = _norm(u, "v_norm3", vis + _mlp(u, "vis_mlp", vis))
    y = vis[-math.prod(sizes[-1]) :].T.reshape(-1, *sizes[-1])
    for i in reversed(range(4 - c["levels"])):
        lateral = _conv_norm(w, f"lateral_convs.{i}", maps[i])
        y = np.maximum(_conv_norm(w, f"output_convs.{i}", lateral + upsample(y, *lateral.shape[1:])), 0)
    m = np.maximum(_conv(w, "mask_feature.0", y), 0)
    m = _conv(w, "mask_feature.4", np.maximum(_conv(w, "mask_feature.2", m), 0))
    classes = np.stack([text[len(words) :].mean(0), text[0]])
    for i in (0, 2, 4):
        classes = _linear(w, f"lang_embed.{i}", classes if i == 0 else np.maximum(classes, 0))
    return np.einsum("qc,chw->qhw", classes, m)


def attention(
    w: Weights, name: str, heads: int, query: np.ndarray, key: np.ndarray, value: np.ndarray, visible: np.ndarray
) -> np.ndarray:
    q, k, v = (
        np.split(_linear(w, f"{name}.{part}_proj", x), heads, axis=1)
        for part, x in (("q", query), ("k", key), ("v", value))
    )
    parts = []
    for one, two, three in zip(q, k, v, strict=True):
        scores = (one * one.shape[1] ** -0.5) @ two.T
        parts.append(_softmax(np.where(visible, scores, -np.inf)) @ three)
    return _linear(w, f"{name}.out_proj", np.concatenate(parts, axis=1))


def deformable(
    w: Weights, c: Config, query: np.ndarray, value: np.ndarray, reference: np.ndarray, sizes: list[tuple[int, int]]
) -> np.ndarray:
    heads, levels, points = c["heads"], len(sizes), c["points"]
    n = len(query)
    values = _linear(w, "value_proj", value).reshape(n, heads, -1)
    offsets = _linear(w, "sampling_offsets", query).reshape(n, heads, levels, points, 2)
    weights = _softmax(_linear(w, "attention_weights", query).reshape(n, heads, levels * points))
    weights = weights.reshape(n, heads, levels, points)
    out = np.zeros_like(values)
    start = 0
    for level, (h, k) in enumerate(sizes):
        for head in range(heads):
            grid = values[start : start + h * k, head].reshape(h, k, -1)
            for point in range(points):
                x = (reference[:, 0] + offsets[:, head, level, point, 0] / k) * k - 0.5
                y = (reference[:, 1] + offsets[:, head, level, point, 1] / h) * h - 0.5
                for row in (np.floor(y), np.floor(y) + 1):
                    for column in (np.floor(x), np.floor(x) + 1):
                        share = (1 - abs(y - row)) * (1 - abs(x - column)) * weights[:, head, level, point]
                        share = share * ((row >= 0) & (row < h) & (column >= 0) & (column < k))
                        corner = grid[row.clip(0, h - 1).astype(int), column.clip(0, k - 1).astype(int)]
                        out[:, head] += share[:, None] * corner
        start += h * k
    return _linear(w, "output_proj", out.reshape(n, -1))


def sine(height: int, width: int, channels: int) -> np.ndarray:
    """``[height * width, channels]``."""
    half = channels // 2
    out = np.empty((height, width, channels))
    for k in range(half):
        frequency = 10000 ** (2 * (k // 2) / half)
        wave = np.cos if k % 2 else np.sin
        out[:, :, k] = wave(np.arange(1, height + 1) / (height + 1e-6) * 2 * np.pi / frequency)[:, None]
        out[:, :, half + k] = wave(np.arange(1, width + 1) / (width + 1e-6) * 2 * np.pi / frequency)
    return out.reshape(-1, channels)


def upsample(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, ``align_corners=False``: ``[c, h, w]`` to ``[c, height, width]``."""

    def matrix(old: int, new: int) -> np.ndarray:
        m = np.zeros((new, old))
        for i in range(new):
            source = max((i + 0.5) * old / new - 0.5, 0.0)
            low = min(int(source), old - 1)
            m[i, low] += 1 - (source - low)
            m[i, min(low + 1, old - 1)] += source - low
        return m

    return np.einsum("ih,jw,chw->cij", matrix(x.shape[1], height), matrix(x.shape[2], width), x)


def _inside(w: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


def _linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _mlp(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    return _linear(w, f"{name}.fc2", np.maximum(_linear(w, f"{name}.fc1", x), 0))


def _conv(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    kernel = w[f"{name}.weight"]
    side = kernel.shape[2]
    padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    out = np.zeros((kernel.shape[0], *x.shape[1:]))
    for i in range(side):
        for j in range(side):
            out += np.tensordot(kernel[:, :, i, j], padded[:, i : i + x.shape[1], j : j + x.shape[2]], 1)
    return out + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else out


def _conv_norm(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    y = _conv(w, f"{name}.conv", x)
    groups = y.reshape(32, -1)
    groups = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
    return groups.reshape(y.shape) * w[f"{name}.gn.weight"][:, None, None] + w[f"{name}.gn.bias"][:, None, None]


def _norm(w: Weights, name: str, x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def _softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)
