"""Bilinear sampling of several levels as sums of table rows: deformable attention for the CPU, gradients included.

`grid_sample` moves one channel at a time. Here a pixel is a row of a table per head, and a query adds the rows of the
pixels around its points, each times its bilinear share and attention weight: `embedding_bag`, the kernel of embedding
tables, which moves whole rows. The levels lie in one table with two rows and columns of zeros before them, so that
points outside need no case of their own. The four corners of a point are one index and four shifts of the table.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = list[tuple[int, int]]
"""Height and width of each level."""

_BORDER = 2  # a point at -2 has zeros around it only, so its gradient vanishes as it does anywhere outside
_EXACT = 2**24  # whole numbers below are exact in single precision


def can_sample_rows(values: Tensor, heads: int, shapes: Shapes) -> bool:
    """Whether `sample_rows` may serve: eager mode, on the CPU, in single precision, with indices that are exact."""
    return (
        not torch.compiler.is_compiling()
        and values.device.type == "cpu"
        and values.dtype == torch.float32
        and values.shape[0] * _Table(shapes).pixels * heads < _EXACT
    )


def sample_rows(values: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
    """`maskris.models.layers.deformable.sample_levels` by `embedding_bag`; differentiable once."""
    return cast(Tensor, _SampleRows.apply(values, x, y, weights, shapes))


def spread(per_level: list[int], like: Tensor) -> Tensor:
    """One number per level to one for each point of ``[N, Q, heads, levels, points]``, flat: ``[numbers]``."""
    heads, levels, points = like.shape[2:]
    numbers = torch.tensor(per_level, dtype=like.dtype, device=like.device).view(1, levels, 1)
    return numbers.expand(heads, levels, points).flatten()


class _Table:
    """Where each level lies in the table: one above the other, all rows equally long, zeros between them."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.stride = max(w for _, w in shapes) + _BORDER
        self.tops, top = [], _BORDER
        for h, _ in shapes:
            self.tops.append(top)
            top += h + _BORDER
        self.rows = top + 1  # the last corner of the last point may lie in one row more
        self.pixels = self.rows * self.stride
        self.shifts = (0, 1, self.stride, self.stride + 1)
        """From a point's upper left corner to its four corners, in pixels."""

    def fill(self, values: Tensor) -> Tensor:
        """``[N, S, D]`` to ``[N, rows, stride, D]``."""
        table = values.new_zeros(values.shape[0], self.rows, self.stride, values.shape[2])
        parts = values.split([h * w for h, w in self.shapes], dim=1)
        for part, (h, w), top in zip(parts, self.shapes, self.tops, strict=True):
            table[:, top : top + h, _BORDER : _BORDER + w] = part.unflatten(1, (h, w))
        return table

    def collect(self, corners: list[Tensor]) -> Tensor:
        """The opposite of `fill` for the gradients ``[N, rows, stride, D]`` of the four corners: ``[N, S, D]``."""
        levels = []
        for (h, w), top in zip(self.shapes, self.tops, strict=True):
            level: Tensor | None = None
            for i, corner in enumerate(corners):
                y, x = top - i // 2, _BORDER - i % 2
                part = corner[:, y : y + h, x : x + w]
                level = part.clone() if level is None else level.add_(part)
            levels.append(cast(Tensor, level).flatten(1, 2))
        return torch.cat(levels, dim=1)

    def find(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the upper left corners, int32, and how far right and below the points lie, in [0, 1)."""
        n, q, heads, levels, points = x.shape
        start = spread([top * self.stride + _BORDER for top in self.tops], x) * heads
        start += torch.arange(heads, dtype=x.dtype).repeat_interleave(levels * points)
        start = start + torch.arange(n, dtype=x.dtype).view(n, 1, 1) * self.pixels * heads  # [N, 1, numbers]
        x, y = (  # flat: operations on long rows are several times faster than on rows of four points
            torch.minimum(v.reshape(n, q, -1).clamp(min=-_BORDER), spread([shape[i] for shape in self.shapes], v))
            for i, v in ((1, x), (0, y))
        )
        left, above = x.floor(), y.floor()
        x.sub_(left)
        y.sub_(above)
        rows = above.mul_(self.stride * heads).add_(left, alpha=heads).add_(start).to(torch.int32)
        # A place that is no number has no pixel; its share is no number either, so that the result says so.
        rows.clamp_(0, n * self.pixels * heads - 1 - (self.stride + 1) * heads)
        shape = (n, q, heads, levels, points)
        return rows.view(shape), x.view(shape), y.view(shape)


def _shares(weights: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Attention weight times bilinear share of the four corners."""
    below = weights * y
    above = weights - below
    right, lower_right = above * x, below * x
    return above.sub_(right), right, below.sub_(lower_right), lower_right


class _SampleRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
        n, q, heads, levels, points = weights.shape
        layout = _Table(shapes)
        table = layout.fill(values)
        rows, x, y = layout.find(x, y)
        ctx.save_for_backward(table, rows, x, y, weights)
        ctx.layout = layout
        flat = table.view(-1, values.shape[2] // heads)  # [N * rows * stride * heads, D / heads]
        index = rows.view(-1, levels * points)
        out: Tensor | None = None
        for share, shift in zip(_shares(weights, x, y), layout.shifts, strict=True):
            part = F.embedding_bag(
                index, flat[shift * heads :], mode="sum", per_sample_weights=share.reshape(index.shape)
            )
            out = part if out is None else out.add_(part)
        return cast(Tensor, out).view(n, q, -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        table, rows, x, y, weights = ctx.saved_tensors
        layout: _Table = ctx.layout
        heads, levels, points = weights.shape[2:]
        flat = table.view(-1, table.shape[3] // heads)
        grad = grad.reshape(-1, flat.shape[1])  # [N * Q * heads, D / heads]
        index = rows.view(-1)
        to_values = to_x = to_y = to_weights = None
        if ctx.needs_input_grad[0]:
            # The transposed table: every pixel adds up the gradients of the points whose corner it is.
            order = index.sort().indices
            starts = torch.bincount(index, minlength=len(flat)).cumsum(0).roll(1)
            starts[0] = 0
            bags, starts = (order // (levels * points)).to(torch.int32), starts.to(torch.int32)
            corners = [
                F.embedding_bag(bags, grad, starts, mode="sum", per_sample_weights=share.reshape(-1)[order])
                for share in _shares(weights, x, y)
            ]
            to_values = layout.collect([corner.view(table.shape) for corner in corners])
        if any(ctx.needs_input_grad[1:4]):
            per_bag = torch.arange(0, len(index), levels * points, dtype=torch.int32)
            bag_of = torch.arange(len(grad), dtype=torch.int32).repeat_interleave(levels * points)
            seen = [  # the pixel at each corner times the gradient
                torch.ops.aten._embedding_bag_per_sample_weights_backward(
                    grad, flat[shift * heads :], index, per_bag, bag_of, 0
                ).view(weights.shape)
                for shift in layout.shifts
            ]
            across = seen[1].sub_(seen[0]), seen[3].sub_(seen[2])
            above, below = torch.addcmul(seen[0], across[0], x), torch.addcmul(seen[2], across[1], x)
            down = below.sub_(above)
            to_weights = torch.addcmul(above, down, y)
            to_x = torch.lerp(across[0], across[1], y).mul_(weights)
            to_y = down.mul_(weights)
        return to_values, to_x, to_y, to_weights, None
