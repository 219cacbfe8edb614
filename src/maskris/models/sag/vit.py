"""A plain vision transformer with timm's names, whose weights load without timm (Dosovitskiy et al., ICLR 2021)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from maskris.models.encoders.sources import Source
from maskris.models.encoders.vision import resize_to_multiple
from maskris.models.hub import hub_file
from maskris.utils.files import read_tensors

_FILE = "model.safetensors"


class VisionTransformer(nn.Module):
    """Patches of images as features behind the final norm; the class token takes part and is dropped at the end.

    Args:
        width: Channels of the features.
        layers: How many blocks.
        heads: Of the attention.
        patch_size: Side of a patch in pixels.
        grid: Side of the square grid of positions; for other grids they are resized in every forward pass.
        drop_path: Stochastic depth of the last block, growing linearly from 0 at the first.

    Raises:
        ValueError: If `heads` doesn't divide `width`.
    """

    def __init__(self, width: int, layers: int, heads: int, patch_size: int, grid: int, drop_path: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"The {heads} heads of the vision transformer must divide its width {width}")
        self.config = {"width": width, "layers": layers, "heads": heads, "patch_size": patch_size, "grid": grid}
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch_size, patch_size)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid**2, width))
        rates = [drop_path * i / max(layers - 1, 1) for i in range(layers)]
        self.blocks = nn.ModuleList(_Block(width, heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Normalized images ``[I, 3, H, W]`` to ``[I, h, w, width]``; both sides are rounded up to whole patches."""
        patches = self.patch_embed["proj"](resize_to_multiple(images, self.config["patch_size"]))  # [I, width, h, w]
        height, width = patches.shape[2:]
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).mT], dim=1)
        tokens = tokens + resize_positions(self.pos_embed, height, width)
        for block in self.blocks:
            tokens = block(tokens)
        return cast(Tensor, self.norm(tokens)[:, 1:].unflatten(1, (height, width)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = _SelfAttention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + cast(Tensor, self.drop_path(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))))


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [I, heads, L, c] each
        return cast(Tensor, self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))


def resize_positions(
    table: Tensor, height: int, width: int, mode: Literal["bilinear", "bicubic"] = "bilinear"
) -> Tensor:
    """Positions ``[1, 1 + s², D]`` for another grid, ``[1, 1 + height * width, D]``.

    Bilinear without antialiasing as SaG does it in every forward pass; bicubic with, as timm does it when it loads.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    if (side, side) == (height, width):
        return table
    grid = table[:, 1:].mT.unflatten(2, (side, side)).float()
    grid = F.interpolate(grid, size=(height, width), mode=mode, align_corners=False, antialias=mode == "bicubic")
    return torch.cat([table[:, :1], grid.flatten(2).mT.to(table.dtype)], dim=1)


def build_vit(source: Source, grid: int, drop_path: float) -> VisionTransformer:
    """A vision transformer from the arguments of `VisionTransformer` (random weights), or with those of timm.

    Args:
        source: A repository of the Hub (``timm/vit_small_patch16_384.augreg_in21k_ft_1k``), a folder, or arguments.
        grid: Of pretrained weights, the grid to which their positions are brought once.
        drop_path: As for `VisionTransformer`.

    Raises:
        ValueError: If arguments are unknown or missing, or the weights are those of another network.
        DownloadError: If the Hub doesn't have them.
    """
    if isinstance(source, dict):
        try:
            return VisionTransformer(**source, drop_path=drop_path)
        except TypeError as error:
            needed = "width, layers, heads, patch_size and grid"
            raise ValueError(f"A vision transformer needs {needed}, and nothing else: {error}") from None
    folder = Path(source)
    file = folder / _FILE if folder.is_dir() else hub_file(str(source), _FILE)
    state = {name: value for name, value in read_tensors(file).items() if not name.startswith("head.")}
    vit = VisionTransformer(**_shape_of(state, file), grid=grid, drop_path=drop_path)
    state["pos_embed"] = resize_positions(state["pos_embed"], grid, grid, "bicubic")
    if different := sorted(state.keys() ^ vit.state_dict().keys()):
        raise ValueError(f"{file} is no plain vision transformer of timm: {', '.join(different[:3])} differ")
    vit.load_state_dict(state)
    return vit


def _shape_of(state: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """Arguments that follow from weights; the heads of all published sizes have 64 channels."""
    if (patches := state.get("patch_embed.proj.weight")) is None or "pos_embed" not in state:
        raise ValueError(
            f"{file} is no plain vision transformer of timm: it lacks patch_embed.proj.weight or pos_embed"
        )
    layers = 1 + max((int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))), default=-1)
    width, _, patch_size, _ = patches.shape
    return {"width": width, "layers": layers, "heads": max(1, width // 64), "patch_size": patch_size}
