"""Multi-scale deformable attention (Zhu et al., arXiv 2010.04159, section 4.1) in pure PyTorch."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskris.models.layers.sampling import Shapes, can_sample_rows, sample_rows


class DeformableAttention(nn.Module):
    """Every query samples a few points around itself on every level.

    Raises:
        ValueError: If `width` is not a multiple of `heads`.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"The width {width} must be a multiple of the {heads} heads")
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with each head looking in its own direction, point `p` at distance `p`, all weights equal."""
        angle = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)  # [heads, 2]
        distance = torch.arange(1, self.points + 1, dtype=torch.float32)
        bias = direction[:, None, None] * distance[:, None]  # [heads, 1, points, 2]
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, value: Tensor, reference: Tensor, shapes: Shapes) -> Tensor:
        """Queries to ``[N, Q, D]``; the sampling runs in single precision or, for double inputs, in double.

        Args:
            query: ``[N, Q, D]``.
            value: ``[N, S, D]``, the levels one after the other, each row by row.
            reference: ``[Q, 2]``, the center (x, y) of each query in [0, 1].
            shapes: Height and width of each level; their products add up to `S`.
        """
        n, q, _ = query.shape
        shape = (n, q, self.heads, self.levels, self.points)
        values = self.value_proj(value)
        # Rows of the weight alternate between x and y; taken apart they give contiguous results.
        x, y = (F.linear(query, self.sampling_offsets.weight[i::2], self.sampling_offsets.bias[i::2]) for i in (0, 1))
        logits = self.attention_weights(query).unflatten(2, (self.heads, -1))  # [N, Q, heads, levels * points]
        with torch.autocast(query.device.type, enabled=False):
            full = torch.promote_types(values.dtype, torch.float32)
            x, y = (
                (offset.to(full) + start).view(shape)
                for offset, start in zip((x, y), self.starts(reference.to(full), shapes), strict=True)
            )
            sampled = sample_levels(values.to(full), x, y, _softmax(logits.to(full)).view(shape), shapes)
        return cast(Tensor, self.output_proj(sampled))

    def starts(self, reference: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor]:
        """Where in each level, in pixels, the offsets start from: x and y, ``[Q, heads * levels * points]``."""
        sizes = reference.new_tensor(shapes)  # [levels, 2]: height and width
        pixels = (reference[:, None] * sizes.flip(1) - 0.5)[:, None, :, None]  # [Q, 1, levels, 1, 2]
        x, y = pixels.expand(-1, self.heads, -1, self.points, -1).unbind(-1)
        return x.flatten(1), y.flatten(1)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over few numbers; the CPU is ten times slower on rows that don't fill a vector register."""
    few = logits.shape[-1]
    if logits.device.type != "cpu" or few >= 16 or torch.compiler.is_compiling():
        return logits.softmax(-1)
    return F.pad(logits, (0, 16 - few), value=float("-inf")).softmax(-1)[..., :few].contiguous()


def sample_levels(values: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """The weighted sum of bilinear samples ``[N, Q, D]``, zero outside a level, by the fastest way there is.

    Args:
        values: ``[N, S, D]``.
        x: ``[N, Q, heads, levels, points]`` in pixels of the level, 0 at the center of the first.
        y: As `x`, downwards.
        weights: As `x`.
        shapes: Height and width of each level.
    """
    sample = sample_rows if can_sample_rows(values, x.shape[2], shapes) else sample_grid
    return sample(values, x, y, weights, shapes)


def sample_grid(values: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """`sample_levels` by `grid_sample`, for every device, precision and compiler."""
    n, q, heads, levels, points = x.shape
    sizes = x.new_tensor(shapes)  # [levels, 2]: height and width
    grid = torch.stack(((2 * x + 1) / sizes[:, 1:] - 1, (2 * y + 1) / sizes[:, :1] - 1), dim=-1)
    grid = grid.permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # [levels, N * heads, Q, points, 2]
    maps = values.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)  # [N * heads, D / heads, S]
    samples = [
        F.grid_sample(level.unflatten(-1, shape), grid[i], mode="bilinear", padding_mode="zeros", align_corners=False)
        for i, (level, shape) in enumerate(zip(maps.split([h * w for h, w in shapes], dim=-1), shapes, strict=True))
    ]  # levels x [N * heads, D / heads, Q, points]
    weight = weights.permute(0, 2, 1, 3, 4).reshape(n * heads, 1, q, levels * points)
    summed = (torch.cat(samples, dim=-1) * weight).sum(-1)  # [N * heads, D / heads, Q]
    return summed.view(n, -1, q).transpose(1, 2)


def pixel_centers(shapes: Shapes, device: torch.device | None = None) -> Tensor:
    """The center (x, y) in [0, 1] of every position of every level: ``[S, 2]``."""
    centers = []
    for h, w in shapes:
        y = (torch.arange(h, device=device) + 0.5) / h
        x = (torch.arange(w, device=device) + 0.5) / w
        centers.append(torch.stack(torch.broadcast_tensors(x[None], y[:, None]), dim=-1).flatten(0, 1))
    return torch.cat(centers)
