"""CLIP's ResNet (Radford et al., 2021), which `transformers` lacks, with the attention pool of CRIS; OpenAI's names."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModifiedResNet(nn.Module):
    """CLIP's ResNet: three convolutions in the stem, average pools instead of strides, attention pool at the end.

    Whole: ``c3, c4, c5 = resnet(images)`` of strides 8, 16 and 32. Step by step: `stem` (stride 4), `layer1` (4),
    `layer2` (8), `layer3` (16), `layer4` (32) and `attnpool`. The stem has `width` channels, the stages have 4, 8, 16
    and 32 times as many. Positions of the attention pool are stored for images with sides of `image_resolution`.
    Without `attention_pool` there is no `attnpool` and no `forward`: `stages` gives all there is.
    """

    def __init__(
        self,
        layers: Sequence[int],
        output_dim: int,
        heads: int,
        image_resolution: int = 224,
        width: int = 64,
        attention_pool: bool = True,
    ) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, layers[0], stride=1)
        self.layer2 = _stage(width * 4, width * 2, layers[1], stride=2)
        self.layer3 = _stage(width * 8, width * 4, layers[2], stride=2)
        self.layer4 = _stage(width * 16, width * 8, layers[3], stride=2)
        if attention_pool:
            self.attnpool = AttentionPool2d(image_resolution // 32, width * 32, heads, output_dim)

    def stem(self, images: Tensor) -> Tensor:
        """Normalized images ``[I, 3, H, W]`` to ``[I, width, H / 4, W / 4]``."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)

    def stages(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalized images ``[I, 3, H, W]`` to the four maps ``[I, c, h, w]`` at strides 4, 8, 16 and 32, unpooled."""
        first = self.layer1(self.stem(images))
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalized images ``[I, 3, H, W]`` to C3, C4 and the pooled C5 ``[I, c, h, w]`` at strides 8, 16 and 32."""
        _, c3, c4, last = self.stages(images)
        return c3, c4, self.attnpool(last)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a residual; a stride is an average pool after the second one."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * 4)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != width * 4:
            shortcut = {"pool": self.pool, "0": nn.Conv2d(inputs, width * 4, 1, bias=False)}
            self.downsample = nn.Sequential(OrderedDict({**shortcut, "1": nn.BatchNorm2d(width * 4)}))
        nn.init.zeros_(self.bn3.weight)  # as OpenAI does: every block begins as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        """``[I, inputs, h, w]`` to ``[I, 4 width, h / stride, w / stride]``."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.pool(F.relu(self.bn2(self.conv2(y))))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class AttentionPool2d(nn.Module):
    """CLIP's attention pool as CRIS changed it: all positions attend to each other, and a convolution joins their map.

    Positions are stored for a grid of `side`² cells, after a first row for OpenAI's mean token, which isn't used.
    """

    def __init__(self, side: int, width: int, heads: int, output_dim: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"The attention pool's {heads} heads must divide its width {width}")
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) / width**0.5)
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, output_dim)
        self.connect = nn.Sequential(nn.Conv2d(width, output_dim, 1, bias=False), nn.BatchNorm2d(output_dim))
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(linear.weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``[I, width, h, w]`` to ``[I, output_dim, h, w]``."""
        h, w = x.shape[-2:]
        positions = resize_positions(self.positional_embedding, h, w)[1:]
        tokens = x.flatten(2).transpose(1, 2) + positions.to(x.dtype)  # [I, h w, width]
        q, k, v = (
            projection(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # [I, heads, h w, width / heads]
        pooled = self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # [I, h w, output_dim]
        return F.relu(pooled.transpose(1, 2).unflatten(2, (h, w)) + self.connect(x))


def resize_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Resize a table of learned positions to another grid, bicubically (``align_corners=False``).

    The table ``[1 + s², D]`` has a row for the class token, and then a square grid row by row.

    Returns:
        ``[1 + height * width, D]``; the same tensor if the grid is the same.

    Raises:
        ValueError: If the table holds no square grid.
    """
    side = round((len(table) - 1) ** 0.5)
    if side * side != len(table) - 1:
        raise ValueError(f"A table of positions needs 1 + s² rows, not {len(table)}")
    if (side, side) == (height, width):
        return table
    return torch.cat([table[:1], resize_grid(table[1:], height, width)])


def resize_grid(rows: Tensor, height: int, width: int) -> Tensor:
    """The rows ``[s², D]`` of a square grid as those of another: ``[height * width, D]``, bicubically."""
    side = round(len(rows) ** 0.5)
    if (side, side) == (height, width):
        return rows
    # Half precision has no bicubic kernel on some devices.
    grid = rows.T.reshape(1, -1, side, side).to(torch.promote_types(rows.dtype, torch.float32))
    grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    return grid.flatten(2)[0].T.to(rows.dtype)


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride)
    return nn.Sequential(first, *(Bottleneck(width * 4, width, 1) for _ in range(blocks - 1)))
