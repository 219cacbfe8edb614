"""ETRIS once more, in float64, official names and plain functions: the formulas of the papers, taken literally.

It shares no code with the package, so it can judge configurations without a golden file; it is itself held against the
golden files. `c` is a configuration as the golden files have it: ``{"clip": {...}, "cfg": {...}}``.
"""

import math
from collections.abc import Generator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]
Config = dict[str, Any]


def is_vit(c: Config) -> bool:
    return not isinstance(c["clip"]["vision_layers"], list)


def vision_channels(c: Config) -> list[int]:
    width = c["clip"]["vision_width"]
    return [width] * 3 if is_vit(c) else [width * 8, width * 16, width * 32]


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every official name with its shape."""
    clip, cfg = c["clip"], c["cfg"]
    s: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, inner: int) -> None:
        s[f"{name}.weight"], s[f"{name}.bias"] = (out, inner), (out,)

    def norm(name: str, width: int) -> None:
        s[f"{name}.weight"], s[f"{name}.bias"] = (width,), (width,)

    def batch_norm(name: str, width: int) -> None:
        norm(name, width)
        s[f"{name}.running_mean"], s[f"{name}.running_var"] = (width,), (width,)
        s[f"{name}.num_batches_tracked"] = ()

    def conv(name: str, out: int, inner: int, kernel: int, transposed: bool = False) -> None:
        s[f"{name}.0.weight"] = (inner, out, kernel, kernel) if transposed else (out, inner, kernel, kernel)
        batch_norm(f"{name}.1", out)

    def attention(name: str, width: int) -> None:
        s[f"{name}.in_proj_weight"], s[f"{name}.in_proj_bias"] = (3 * width, width), (3 * width,)
        linear(f"{name}.out_proj", width, width)

    def transformer(name: str, width: int, layers: int) -> None:
        for i in range(layers):
            b = f"{name}.resblocks.{i}"
            attention(f"{b}.attn", width)
            norm(f"{b}.ln_1", width)
            norm(f"{b}.ln_2", width)
            linear(f"{b}.mlp.c_fc", 4 * width, width)
            linear(f"{b}.mlp.c_proj", width, 4 * width)

    text, embed, width = clip["transformer_width"], clip["embed_dim"], clip["vision_width"]
    s["backbone.positional_embedding"], s["backbone.token_embedding.weight"] = (77, text), (clip["vocab_size"], text)
    s["backbone.text_projection"], s["backbone.logit_scale"] = (text, embed), ()
    transformer("backbone.transformer", text, clip["transformer_layers"])
    norm("backbone.ln_final", text)
    p = "backbone.visual"
    if is_vit(c):
        grid, patch = cfg["input_size"] // clip["vision_patch_size"], clip["vision_patch_size"]
        s[f"{p}.conv1.weight"], s[f"{p}.class_embedding"] = (width, 3, patch, patch), (width,)
        s[f"{p}.positional_embedding"], s[f"{p}.proj"] = (grid * grid + 1, width), (width, embed)
        norm(f"{p}.ln_pre", width)
        norm(f"{p}.ln_post", width)
        transformer(f"{p}.transformer", width, clip["vision_layers"])
    else:
        for i, (out, inner) in enumerate([(width // 2, 3), (width // 2, width // 2), (width, width // 2)]):
            s[f"{p}.conv{i + 1}.weight"] = (out, inner, 3, 3)
            batch_norm(f"{p}.bn{i + 1}", out)
        inner = width
        for i, layers in enumerate(clip["vision_layers"]):
            planes = width * 2**i
            for j in range(layers):
                b = f"{p}.layer{i + 1}.{j}"
                for k, (a, z, kernel) in enumerate([(planes, inner, 1), (planes, planes, 3), (4 * planes, planes, 1)]):
                    s[f"{b}.conv{k + 1}.weight"] = (a, z, kernel, kernel)
                    batch_norm(f"{b}.bn{k + 1}", a)
                if j == 0:
                    s[f"{b}.downsample.0.weight"] = (4 * planes, inner, 1, 1)
                    batch_norm(f"{b}.downsample.1", 4 * planes)
                inner = 4 * planes
        s[f"{p}.attnpool.positional_embedding"] = ((clip["image_resolution"] // 32) ** 2 + 1, inner)
        for part in "qkv":
            linear(f"{p}.attnpool.{part}_proj", inner, inner)
        linear(f"{p}.attnpool.c_proj", embed, inner)
        conv(f"{p}.attnpool.connect", embed, inner, 1)

    ladder = cfg["ladder_dim"]
    for i in range(3 - cfg["multi_stage"], 3):
        channels, k = vision_channels(c)[i], cfg["stride"][i]
        inward = (channels, ladder) if i == 2 else (ladder, channels)  # transposed at the last stage
        outward = (channels, ladder) if i == 2 else (ladder, channels)
        for name, (a, z), out in ((f"zoom_in.{i}", inward, ladder), (f"zoom_out.{i}", outward, channels)):
            s[f"bridger.{name}.{'0.' if is_vit(c) else ''}weight"] = (a, z, k, k)
            if is_vit(c):
                batch_norm(f"bridger.{name}.1", out)
        linear(f"bridger.linear1.{i}", ladder, text)
        linear(f"bridger.linear2.{i}", text, ladder)
        for side in "vt":
            b = f"bridger.fusion_{side}.{i}"
            attention(f"{b}.multihead_attn", ladder)
            if not is_vit(c):
                attention(f"{b}.self_attn", ladder)
                linear(f"{b}.linear1", 128, ladder)
                linear(f"{b}.linear2", ladder, 128)
                for k_norm in (1, 2, 3):
                    norm(f"{b}.norm{k_norm}", ladder)
            if i > 3 - cfg["multi_stage"]:
                norm(f"bridger.ln_{side}.{i - 1}", ladder)

    d = cfg["fpn_out"][1]
    for i, (inner, k) in enumerate(zip(cfg["fpn_in"], cfg["stride"], strict=True)):
        attention(f"neck.fusion{i + 3}.multihead_attn", d)
        conv(f"neck.f{i + 3}_proj", d, inner, k, transposed=i == 2)
    linear("neck.txt_proj", d, embed)
    conv("neck.aggr", d, 3 * d, 1)
    conv("neck.coordconv.0.conv1", d, d + 2, 3)
    conv("neck.coordconv.1", d, d, 3)
    for i in range(cfg["num_layers"]):
        b = f"decoder.layers.{i}"
        for part in ("self_attn_norm", "cross_attn_norm", "norm1", "norm2", "norm3"):
            norm(f"{b}.{part}", d)
        attention(f"{b}.self_attn", d)
        attention(f"{b}.multihead_attn", d)
        linear(f"{b}.ffn.0", cfg["dim_ffn"], d)
        norm(f"{b}.ffn.3", cfg["dim_ffn"])
        linear(f"{b}.ffn.4", d, cfg["dim_ffn"])
    norm("decoder.norm", d)
    conv("proj.vis.1", d, d, 3)
    conv("proj.vis.3", d // 2, d, 3)
    linear("proj.vis.4", d // 2, d // 2)
    s["proj.vis.4.weight"] = (d // 2, d // 2, 1, 1)
    linear("proj.txt", d // 2 * 9 + 1, embed)
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


def etris(weights: Weights, c: Config, images: Tensor, ids: Tensor, train: bool = False) -> dict[str, Any]:
    """Images ``[N, 3, H, W]`` and ids ``[N, L]`` to everything that the golden files hold.

    `train` normalizes with batch statistics; there is no dropout.
    """
    cfg = c["cfg"]
    w = {name: value if value.requires_grad else value.double() for name, value in weights.items()}
    w["train"] = torch.tensor(train)
    vis, words, state = encoders(w, c, images.double(), ids)
    neck = neck_of(w, c, vis, state)
    decoded = decoder(w, neck, words, ids == 0, cfg["num_layers"], cfg["num_head"])
    logits = projector(w, decoded.transpose(1, 2).reshape(neck.shape), state)
    return {"vis": vis, "words": words, "state": state, "neck": neck, "decoder_out": decoded.mT, "logits": logits}


def encoders(w: Weights, c: Config, images: Tensor, ids: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Both encoders in step, and the bridger between them."""
    clip, cfg = c["clip"], c["cfg"]
    words = w["backbone.token_embedding.weight"][ids] + w["backbone.positional_embedding"][: ids.shape[1]]
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    steps = (vit if is_vit(c) else resnet)(w, c, images)
    outputs, before = [], None
    vis = next(steps)
    for i in range(3):
        share = clip["transformer_layers"] // 3
        for j in range(i * share, (i + 1) * share):
            words = block(w, f"backbone.transformer.resblocks.{j}", words, causal)
        vis = steps.send(vis) if i else vis
        if i >= 3 - cfg["multi_stage"]:
            vision_delta, words_delta, before = bridge(w, c, i, vis, words, before)
            vis, words = vis + vision_delta, words + words_delta
        outputs.append(vis)
    outputs[2] = steps.send(vis)
    words = layer_norm(w, "backbone.ln_final", words)
    state = words[torch.arange(len(ids)), ids.argmax(1)] @ w["backbone.text_projection"]
    return outputs, words, state


def resnet(w: Weights, c: Config, x: Tensor) -> Generator[Tensor, Tensor, None]:
    """The maps after layers 2, 3 and 4, then the pooled one; takes what becomes of each before the next."""
    p = "backbone.visual"
    for i, stride in ((1, 2), (2, 1), (3, 1)):
        x = batch_norm(w, f"{p}.bn{i}", F.conv2d(x, w[f"{p}.conv{i}.weight"], stride=stride, padding=1)).relu()
    x = F.avg_pool2d(x, 2)
    for i, layers in enumerate(c["clip"]["vision_layers"]):
        for j in range(layers):
            b, stride = f"{p}.layer{i + 1}.{j}", 2 if i > 0 and j == 0 else 1
            y = batch_norm(w, f"{b}.bn1", F.conv2d(x, w[f"{b}.conv1.weight"])).relu()
            y = batch_norm(w, f"{b}.bn2", F.conv2d(y, w[f"{b}.conv2.weight"], padding=1)).relu()
            y = batch_norm(w, f"{b}.bn3", F.conv2d(F.avg_pool2d(y, stride), w[f"{b}.conv3.weight"]))
            if j == 0:
                x = batch_norm(w, f"{b}.downsample.1", F.conv2d(F.avg_pool2d(x, stride), w[f"{b}.downsample.0.weight"]))
            x = (x + y).relu()
        if i > 0:
            x = yield x
    p = "backbone.visual.attnpool"
    old = int(math.sqrt(len(w[f"{p}.positional_embedding"]) - 1))
    grid = w[f"{p}.positional_embedding"][1:].T.reshape(1, -1, old, old)
    grid = F.interpolate(grid, x.shape[2:], mode="bicubic", align_corners=False)
    tokens = (x + grid).flatten(2).mT
    q, k, v = (linear(w, f"{p}.{part}_proj", tokens) for part in "qkv")
    pooled = linear(w, f"{p}.c_proj", heads_attend(q, k, v, c["clip"]["vision_width"] * 32 // 64))
    pooled = pooled.mT.unflatten(2, x.shape[2:])
    yield (pooled + batch_norm(w, f"{p}.connect.1", F.conv2d(x, w[f"{p}.connect.0.weight"]))).relu()


def vit(w: Weights, c: Config, x: Tensor) -> Generator[Tensor, Tensor, None]:
    """The patches after a third, two thirds and all of the blocks as maps, then the projected ones."""
    p = "backbone.visual"
    x = F.conv2d(x, w[f"{p}.conv1.weight"], stride=c["clip"]["vision_patch_size"])
    size = x.shape[2:]
    x = x.flatten(2).mT
    x = torch.cat([w[f"{p}.class_embedding"].expand(len(x), 1, -1), x], 1) + w[f"{p}.positional_embedding"]
    x = layer_norm(w, f"{p}.ln_pre", x)
    layers = c["clip"]["vision_layers"]
    for j in range(layers):
        x = block(w, f"{p}.transformer.resblocks.{j}", x)
        if (j + 1) % (layers // 3) == 0:
            patches = yield x[:, 1:].mT.unflatten(2, size)
            x = torch.cat([x[:, :1], patches.flatten(2).mT], 1)
    yield (layer_norm(w, f"{p}.ln_post", x[:, 1:]) @ w[f"{p}.proj"]).mT.unflatten(2, size)


def bridge(w: Weights, c: Config, i: int, vis: Tensor, words: Tensor, before: Any) -> tuple[Tensor, Tensor, Any]:
    stride, gated = c["cfg"]["stride"][i], is_vit(c)

    def zoom(name: str, x: Tensor, transposed: bool) -> Tensor:
        kind = F.conv_transpose2d if transposed else F.conv2d
        x = kind(x, w[f"{name}.{'0.' if gated else ''}weight"], stride=stride)
        return batch_norm(w, f"{name}.1", x).relu() if gated else x

    def interact(name: str, x: Tensor, memory: Tensor) -> Tensor:
        if gated:
            return x * attend(w, f"{name}.multihead_attn", x, memory, c["cfg"]["nhead"])
        x = layer_norm(w, f"{name}.norm1", x + attend(w, f"{name}.self_attn", x, x, c["cfg"]["nhead"]))
        x = layer_norm(w, f"{name}.norm2", x + attend(w, f"{name}.multihead_attn", x, memory, c["cfg"]["nhead"]))
        y = linear(w, f"{name}.linear2", linear(w, f"{name}.linear1", x).relu())
        return layer_norm(w, f"{name}.norm3", x + y)

    zoomed = zoom(f"bridger.zoom_in.{i}", vis, transposed=i == 2)
    v, t = zoomed.flatten(2).mT, linear(w, f"bridger.linear1.{i}", words)
    if before is not None:
        v = layer_norm(w, f"bridger.ln_v.{i - 1}", v + before[0])
        t = layer_norm(w, f"bridger.ln_t.{i - 1}", t + before[1])
    new_v = interact(f"bridger.fusion_v.{i}", v, t)
    new_t = interact(f"bridger.fusion_t.{i}", t, v)
    vision_delta = zoom(f"bridger.zoom_out.{i}", new_v.mT.unflatten(2, zoomed.shape[2:]), transposed=i != 2)
    return vision_delta, linear(w, f"bridger.linear2.{i}", new_t), (v, t)


def neck_of(w: Weights, c: Config, vis: list[Tensor], state: Tensor) -> Tensor:
    token = linear(w, "neck.txt_proj", state)[:, None]  # the only key and value
    maps = []
    for i, x in enumerate(vis):
        kind = F.conv_transpose2d if i == 2 else F.conv2d
        x = kind(x, w[f"neck.f{i + 3}_proj.0.weight"], stride=c["cfg"]["stride"][i])
        x = batch_norm(w, f"neck.f{i + 3}_proj.1", x).relu()
        attended = attend(w, f"neck.fusion{i + 3}.multihead_attn", x.flatten(2).mT, token, 8)
        maps.append(x * attended.mT.unflatten(2, x.shape[2:]))
    x = conv_layer(w, "neck.aggr", torch.cat(maps, 1))
    height, width = x.shape[2:]
    rows = torch.linspace(-1, 1, height, dtype=x.dtype)[:, None].expand(len(x), 1, height, width)
    columns = torch.linspace(-1, 1, width, dtype=x.dtype)[None].expand(len(x), 1, height, width)
    x = conv_layer(w, "neck.coordconv.0.conv1", torch.cat([x, columns, rows], 1))
    return conv_layer(w, "neck.coordconv.1", x)


def decoder(w: Weights, neck: Tensor, words: Tensor, padding: Tensor, layers: int, heads: int) -> Tensor:
    """``[N, HW, D]``."""
    channels, height, width = neck.shape[1:]
    columns, rows = sines(width, channels // 2), sines(height, channels // 2)
    where = torch.cat([columns[None].expand(height, -1, -1), rows[:, None].expand(-1, width, -1)], 2).flatten(0, 1)
    text_where = sines(words.shape[1], channels)
    v = neck.flatten(2).mT
    for i in range(layers):
        b = f"decoder.layers.{i}"
        y = layer_norm(w, f"{b}.norm1", v)
        y = attend(w, f"{b}.self_attn", y + where, y + where, heads, value=y)
        v = v + layer_norm(w, f"{b}.self_attn_norm", y)
        y = layer_norm(w, f"{b}.norm2", v)
        y = attend(w, f"{b}.multihead_attn", y + where, words + text_where, heads, words, ~padding[:, None, None])
        v = v + layer_norm(w, f"{b}.cross_attn_norm", y)
        y = layer_norm(w, f"{b}.ffn.3", linear(w, f"{b}.ffn.0", layer_norm(w, f"{b}.norm3", v)).relu())
        v = v + linear(w, f"{b}.ffn.4", y)
    return layer_norm(w, "decoder.norm", v)


def projector(w: Weights, x: Tensor, state: Tensor) -> Tensor:
    for name in ("proj.vis.1", "proj.vis.3"):
        x = conv_layer(w, name, F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
    x = F.conv2d(x, w["proj.vis.4.weight"], w["proj.vis.4.bias"])
    kernels = linear(w, "proj.txt", state)
    rows = [F.conv2d(x[n : n + 1], k[:-1].reshape(1, -1, 3, 3), k[-1:], padding=1) for n, k in enumerate(kernels)]
    return torch.cat(rows)


def sines(length: int, channels: int) -> Tensor:
    """``[length, channels]``."""
    angle = torch.arange(length, dtype=torch.float64)[:, None] * 10000 ** (
        -2 * torch.arange(channels // 2, dtype=torch.float64) / channels
    )
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)


def block(w: Weights, name: str, x: Tensor, visible: Tensor | None = None) -> Tensor:
    y = layer_norm(w, f"{name}.ln_1", x)
    x = x + attend(w, f"{name}.attn", y, y, max(1, x.shape[2] // 64), visible=visible)
    y = linear(w, f"{name}.mlp.c_fc", layer_norm(w, f"{name}.ln_2", x))
    return x + linear(w, f"{name}.mlp.c_proj", y * torch.sigmoid(1.702 * y))


def attend(
    w: Weights,
    name: str,
    query: Tensor,
    key: Tensor,
    heads: int,
    value: Tensor | None = None,
    visible: Tensor | None = None,
) -> Tensor:
    inputs = query, key, key if value is None else value
    weight, bias = w[f"{name}.in_proj_weight"].chunk(3), w[f"{name}.in_proj_bias"].chunk(3)
    q, k, v = (x @ part.T + b for x, part, b in zip(inputs, weight, bias, strict=True))
    return linear(w, f"{name}.out_proj", heads_attend(q, k, v, heads, visible))


def heads_attend(q: Tensor, k: Tensor, v: Tensor, heads: int, visible: Tensor | None = None) -> Tensor:
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.mT / math.sqrt(q.shape[3])
    if visible is not None:
        scores = scores.masked_fill(~visible, -math.inf)
    return (scores.softmax(3) @ v).transpose(1, 2).flatten(2)


def conv_layer(w: Weights, name: str, x: Tensor) -> Tensor:
    weight = w[f"{name}.0.weight"]
    return batch_norm(w, f"{name}.1", F.conv2d(x, weight, padding=weight.shape[3] // 2)).relu()


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def batch_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    if w["train"]:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    else:
        mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    columns = (v.view(-1, 1, 1) for v in (mean, variance, w[f"{name}.weight"], w[f"{name}.bias"]))
    mean, variance, scale, shift = columns
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift
