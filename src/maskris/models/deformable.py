"""Multi-scale deformable attention (Zhu et al., arXiv 2010.04159, section 4.1) in pure PyTorch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskris.models.sampling import Shapes, can_sample_rows, sample_rows


class DeformableAttention(nn.Module):
    """Every query samples a few points around itself on every level.

    Args:
        width: Channels.
        heads: Number of heads.
        levels: Number of levels.
        points: Points per head and level.

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
        """Attend.

        Args:
            query: ``[N, Q, D]``.
            value: ``[N, S, D]``, the levels one after the other, each row by row.
            reference: ``[Q, 2]``, the centre (x, y) of each query in [0, 1].
            shapes: Height and width of each level; their products add up to `S`.

        Returns:
            ``[N, Q, D]``; the sampling runs in single precision or, for double inputs, in double, never in half.
        """
        n, q, _ = query.shape
        values = self.value_proj(value)
        offsets = self.sampling_offsets(query).view(n, q, self.heads, self.levels, self.points, 2)
        weights = self.attention_weights(query).view(n, q, self.heads, self.levels * self.points)
        with torch.autocast(query.device.type, enabled=False):
            full = torch.promote_types(values.dtype, torch.float32)
            sizes = torch.tensor([(w, h) for h, w in shapes], dtype=full, device=query.device)[:, None]
            locations = reference[:, None, None, None] + offsets.to(full) / sizes  # [N, Q, heads, levels, points, 2]
            weights = weights.to(full).softmax(-1).view(n, q, self.heads, self.levels, self.points)
            sampled = sample_levels(values.to(full), locations, weights, shapes)
        output: Tensor = self.output_proj(sampled)
        return output


def sample_levels(values: Tensor, locations: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """The weighted sum of bilinear samples, zero outside a level, by the fastest way there is (`sample_rows`).

    Args:
        values: ``[N, S, D]``.
        locations: ``[N, Q, heads, levels, points, 2]``, (x, y) in [0, 1] of the level's extent.
        weights: ``[N, Q, heads, levels, points]``.
        shapes: Height and width of each level.

    Returns:
        ``[N, Q, D]``.
    """
    if can_sample_rows(values, locations.shape[2], shapes):
        return sample_rows(values, locations, weights, shapes)
    return sample_grid(values, locations, weights, shapes)


def sample_grid(values: Tensor, locations: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """`sample_levels` by `grid_sample`, for every device, precision and compiler."""
    n, q, heads, levels, points, _ = locations.shape
    grid = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # [levels, N * heads, Q, points, 2]
    maps = values.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1).flatten(0, 1)  # [N * heads, D / heads, S]
    samples = [
        F.grid_sample(level.unflatten(-1, shape), grid[i], mode="bilinear", padding_mode="zeros", align_corners=False)
        for i, (level, shape) in enumerate(zip(maps.split([h * w for h, w in shapes], dim=-1), shapes, strict=True))
    ]  # levels x [N * heads, D / heads, Q, points]
    weight = weights.permute(0, 2, 1, 3, 4).reshape(n * heads, 1, q, levels * points)
    summed = (torch.cat(samples, dim=-1) * weight).sum(-1)  # [N * heads, D / heads, Q]
    return summed.view(n, -1, q).transpose(1, 2)


def pixel_centres(shapes: Shapes, device: torch.device | None = None) -> Tensor:
    """The centre (x, y) in [0, 1] of every position of every level: ``[S, 2]``."""
    centres = []
    for h, w in shapes:
        y = (torch.arange(h, device=device) + 0.5) / h
        x = (torch.arange(w, device=device) + 0.5) / w
        centres.append(torch.stack(torch.broadcast_tensors(x[None], y[:, None]), dim=-1).flatten(0, 1))
    return torch.cat(centres)
