"""The two halves of a Swin block as functions for the CPU, with backward passes of their own.

Autograd would keep every norm, activation and matrix of scores: 20 numbers per channel and pixel. Here the norms, the
activation and the scores, a few windows at a time, are computed again: 10 numbers are kept, and nothing is slower,
because what is computed again is small and in the cache.
"""

from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskris.models.encoders.windows import Grid

_WINDOWS_AT_ONCE = 4  # of the backward pass: their scores stay in the cache


def can_fuse(x: Tensor) -> bool:
    """Whether `attend` and `feed` may serve: eager mode, on the CPU, in full precision."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
    )


def attend(x: Tensor, norm: nn.LayerNorm, linears: list[nn.Linear], bias: Tensor, grid: Grid) -> Tensor:
    """Norm, projections, attention within windows and output projection; differentiable once.

    Args:
        x: ``[I, h * w, C]``.
        norm: The norm before.
        linears: Projections of queries, keys, values and output.
        bias: ``[1, heads, T, T]``, added to the scores of every window.
        grid: How the map is cut into windows.

    Returns:
        ``[I, h * w, C]``.
    """
    parameters = [p for linear in linears for p in (linear.weight, linear.bias)]
    return cast(Tensor, _Attend.apply(x, norm.weight, norm.bias, norm.eps, *parameters, bias, _order(grid)))


def feed(x: Tensor, norm: nn.LayerNorm, linears: list[nn.Linear]) -> Tensor:
    """Norm, linear layer, GELU and linear layer; differentiable once."""
    parameters = [p for linear in linears for p in (linear.weight, linear.bias)]
    return cast(Tensor, _Feed.apply(x, norm.weight, norm.bias, norm.eps, *parameters))


class _Order(NamedTuple):
    """The windows of a grid by index."""

    tokens: int
    """Pixels of a window, T."""
    pixel: Tensor
    """The pixel at every place ``[windows * T]``; any pixel where there is padding."""
    place: Tensor
    """Where each pixel stands ``[h * w]``."""
    padding: Tensor
    """The places outside of the map."""
    mask: Tensor | None
    """-100 between strangers, ``[windows, 1, T, T]``, if the windows are shifted."""

    def split(self, x: Tensor, heads: int, padding: Tensor | None = None) -> Tensor:
        """``[I, h * w, C]`` to ``[I * windows, heads, T, C / heads]``, outside of the map `padding` or zeros."""
        windows = x.index_select(1, self.pixel)
        if len(self.padding):
            windows[:, self.padding] = windows.new_zeros(()) if padding is None else padding
        return windows.view(-1, self.tokens, heads, x.shape[2] // heads).transpose(1, 2)

    def join(self, windows: Tensor, images: int) -> Tensor:
        """The opposite of `split`; the padding is dropped."""
        return windows.transpose(1, 2).reshape(images, len(self.pixel), -1).index_select(1, self.place)

    def outside(self, windows: Tensor, images: int) -> Tensor:
        """The sum over all padding, the gradient of `padding`: ``[C]``."""
        flat = windows.transpose(1, 2).reshape(images, len(self.pixel), -1)
        return flat.index_select(1, self.padding).sum((0, 1))


@lru_cache(maxsize=16)  # two kinds of block in each of four stages, for two sizes of image
def _order(grid: Grid) -> _Order:
    with torch.inference_mode(False):  # made during inference perhaps, and used in training later
        pixels = grid.height * grid.width
        number = torch.arange(1, pixels + 1, dtype=torch.float64).view(1, pixels, 1)
        pixel = grid.split(number, None).flatten().long() - 1  # -1 where there is padding
        inside = (pixel >= 0).nonzero()[:, 0]
        place = torch.empty(pixels, dtype=torch.long)
        place[pixel[inside]] = inside
        mask = grid.mask()[:, None] if grid.shift else None
        return _Order(grid.window**2, pixel.clamp(min=0), place, (pixel < 0).nonzero()[:, 0], mask)


def _linear_backward(grad: Tensor, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Gradients of a linear layer's weight and bias."""
    grad, x = grad.flatten(0, -2), x.flatten(0, -2)
    return grad.t() @ x, None if bias is None else grad.sum(0)


def _norm_backward(grad: Tensor, saved: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    x, mean, rstd, scale, offset = saved
    return cast(
        tuple[Tensor, Tensor, Tensor],
        torch.ops.aten.native_layer_norm_backward(grad, x, x.shape[2:], mean, rstd, scale, offset, [True] * 3),
    )


class _Feed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        scale, offset, eps, w1, b1, w2, b2 = rest
        y, mean, rstd = torch.native_layer_norm(x, x.shape[2:], scale, offset, eps)
        hidden = F.linear(y, w1, b1)
        ctx.eps = eps
        ctx.save_for_backward(x, mean, rstd, scale, offset, hidden, w1, b1, w2, b2)
        return F.linear(F.gelu(hidden), w2, b2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *norm, hidden, w1, b1, w2, b2 = ctx.saved_tensors
        to_w2, to_b2 = _linear_backward(grad, F.gelu(hidden), b2)
        inner = torch.ops.aten.gelu_backward(grad @ w2, hidden)
        y = F.layer_norm(norm[0], norm[0].shape[2:], norm[3], norm[4], ctx.eps)
        to_w1, to_b1 = _linear_backward(inner, y, b1)
        return *_norm_backward(inner @ w1, tuple(norm)), None, to_w1, to_b1, to_w2, to_b2


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        scale, offset, eps, wq, bq, wk, bk, wv, bv, wo, bo, bias, order = rest
        y, mean, rstd = torch.native_layer_norm(x, x.shape[2:], scale, offset, eps)
        q, k, v = F.linear(y, wq, bq), F.linear(y, wk, bk), F.linear(y, wv, bv)
        heads, images = bias.shape[1], len(x)
        # Detached, for a mask that requires a gradient would switch off the fused kernel.
        added = bias.detach() if order.mask is None else bias + order.mask.to(bias.dtype)
        windows = order.split(q, heads), order.split(k, heads, bk), order.split(v, heads, bv)
        # Image by image, because the mask of shifted windows is the same for all and need not be copied for each.
        each: Any = zip(*(tensor.chunk(images) for tensor in windows), strict=True)
        mixed = torch.cat([order.join(F.scaled_dot_product_attention(a, b, c, attn_mask=added), 1) for a, b, c in each])
        ctx.eps, ctx.order = eps, order
        ctx.save_for_backward(x, mean, rstd, scale, offset, q, k, v, mixed, wq, bq, wk, bk, wv, bv, wo, bo, bias)
        return F.linear(mixed, wo, bo)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *norm, q, k, v, mixed, wq, bq, wk, bk, wv, bv, wo, bo, bias = ctx.saved_tensors
        order: _Order = ctx.order
        heads, images = bias.shape[1], len(q)
        to_wo, to_bo = _linear_backward(grad, mixed, bo)
        windows = [order.split(q, heads), order.split(k, heads, bk), order.split(v, heads, bv)]
        windows.append(order.split(grad @ wo, heads))  # nothing comes back from the padding
        to_bias = torch.zeros_like(bias)
        number = torch.arange(len(windows[0]))
        parts: Any = zip(*(tensor.split(_WINDOWS_AT_ONCE) for tensor in [*windows, number]), strict=True)
        for q, k, v, back, numbers in parts:
            mask = None if order.mask is None else order.mask[numbers % len(order.mask)]
            _window_backward(q, k, v, back, bias if mask is None else bias + mask.to(bias.dtype), to_bias)
        to_q, to_k, to_v = windows[:3]  # overwritten by their gradients
        outside_k, outside_v = order.outside(to_k, images), order.outside(to_v, images)
        to_q, to_k, to_v = (order.join(part, images) for part in (to_q, to_k, to_v))
        y = F.layer_norm(norm[0], norm[0].shape[2:], norm[3], norm[4], ctx.eps)
        to_wq, to_bq = _linear_backward(to_q, y, bq)
        to_wk, to_bk = _linear_backward(to_k, y, bk)
        to_wv, to_bv = _linear_backward(to_v, y, bv)
        if to_bk is not None and to_bv is not None:
            to_bk, to_bv = to_bk + outside_k, to_bv + outside_v
        to_y = torch.addmm((to_q.flatten(0, 1) @ wq).addmm_(to_k.flatten(0, 1), wk), to_v.flatten(0, 1), wv)
        of_norm = _norm_backward(to_y.view_as(norm[0]), tuple(norm))
        return *of_norm, None, to_wq, to_bq, to_wk, to_bk, to_wv, to_bv, to_wo, to_bo, to_bias, None


def _window_backward(q: Tensor, k: Tensor, v: Tensor, grad: Tensor, added: Tensor, to_bias: Tensor) -> None:
    """Turn queries, keys and values of a few windows into their gradients, in place; add up that of the bias."""
    scale = q.shape[3] ** -0.5
    queries, keys, values, grad = (x.contiguous() for x in (q, k, v, grad))
    queries = queries * scale
    scores = (queries @ keys.transpose(2, 3)).add_(added)  # [windows, heads, T, T]
    shares = scores.softmax(-1)
    to_scores = torch._softmax_backward_data(grad @ values.transpose(2, 3), shares, -1, shares.dtype)
    v.copy_(shares.transpose(2, 3) @ grad)
    q.copy_((to_scores @ keys).mul_(scale))
    k.copy_(to_scores.transpose(2, 3) @ queries)
    to_bias.add_(to_scores.sum(0))
