"""Blocks of Swin without detours: the parameters and the function of those of `transformers`, in fewer operations.

Padding is put in after the projections, where it equals their bias, instead of being projected; at 448 px and a window
of 12 every third pixel is padding.
"""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.models.swin.modeling_swin import SwinLayer


def replace_blocks(backbone: nn.Module) -> None:
    """Replace the blocks of a Swin of `transformers`; the parameters keep their names.

    Blocks with dropout or another activation than GELU, which no published Swin has, stay as they are.
    """
    for stage in cast(Any, backbone).swin.encoder.layers:
        for i, layer in enumerate(stage.blocks):
            config = layer.attention.config
            if not (config.hidden_dropout_prob or config.attention_probs_dropout_prob) and config.hidden_act == "gelu":
                stage.blocks[i] = SwinBlock(layer)


class SwinBlock(nn.Module):
    """A block of Swin whose windows are always padded and shifted, as in its authors' detection code."""

    def __init__(self, layer: SwinLayer) -> None:
        super().__init__()
        self.attention, self.layernorm_before = layer.attention, layer.layernorm_before
        self.layernorm_after, self.mlp = layer.layernorm_after, layer.mlp
        self.drop_path = layer.drop_path
        self.window, self.shift = int(layer.window_size), int(layer.shift_size)
        self.gradient_checkpointing = False
        """Gradient checkpointing of the block, its dropped paths included."""

    def forward(self, hidden_states: Tensor, size: tuple[int, int], **_: Any) -> tuple[Tensor, None]:
        """``[I, h * w, C]`` and ``(h, w)`` to the same shape; no attention weights."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(self._block, hidden_states, size, use_reentrant=False), None
        return self._block(hidden_states, size), None

    def _block(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        attention = cast(Any, self.attention)
        grid = Grid(*size, self.window, self.shift)
        bias = self.bias()
        y = self.layernorm_before(x)
        q, k, v = (
            grid.split(linear(y), linear.bias).unflatten(-1, (bias.shape[1], -1)).transpose(1, 2)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
        )  # [I * windows, heads, T, C / heads]
        if self.shift:
            bias = (bias + grid.mask(x.device)[:, None]).repeat(len(x), 1, 1, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = x + self.drop_path(attention.o_proj(grid.join(mixed.transpose(1, 2).flatten(2))))
        return x + cast(Tensor, self.mlp(self.layernorm_after(x)))

    def bias(self) -> Tensor:
        """What is added to the scores for the relative position of two pixels: ``[1, heads, T, T]``."""
        part = cast(Any, self.attention).relative_position_bias
        table = part.relative_position_bias_table  # [(2 * window - 1)², heads]
        index = part.relative_position_index.view(1, -1).expand(table.shape[1], -1)
        # Not by indexing rows, whose gradient would take as long as the attention.
        return cast(Tensor, table.t().gather(1, index).view(1, -1, self.window**2, self.window**2))


class Grid(NamedTuple):
    """How a map is cut into windows of `T` pixels: padded at the right and bottom, then shifted to the upper left."""

    height: int
    width: int
    window: int
    shift: int

    def split(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """``[I, h * w, C]`` to ``[I * windows, T, C]``, with `padding` ``[C]``, or zeros, outside of the map."""
        border = (0, 0, 0, -self.width % self.window, 0, -self.height % self.window)
        x = F.pad(x.unflatten(1, (self.height, self.width)), border)
        if padding is not None and any(border):
            x = x + (1 - F.pad(x.new_ones(self.height, self.width, 1), border)) * padding
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.unflatten(2, (-1, self.window)).unflatten(1, (-1, self.window))
        return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)

    def join(self, x: Tensor) -> Tensor:
        """The opposite of `split`, ``[I * windows, T, C]`` to ``[I, h * w, C]``; the padding is dropped."""
        rows, columns = -(-self.height // self.window), -(-self.width // self.window)
        x = x.unflatten(1, (self.window, self.window)).unflatten(0, (-1, rows, columns))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # [I, rows * window, columns * window, C]
        if self.shift:
            x = torch.roll(x, (self.shift, self.shift), (1, 2))
        return x[:, : self.height, : self.width].flatten(1, 2)

    def mask(self, device: torch.device | None = None) -> Tensor:
        """-100 between pixels that the shift has brought together from opposite sides: ``[windows, T, T]``."""

        def region(side: int) -> Tensor:
            padded = side + -side % self.window
            i = torch.arange(padded, device=device)
            return (i >= padded - self.window).float() + (i >= padded - self.shift).float()

        regions = 3 * region(self.height)[:, None] + region(self.width)  # of the shifted map
        whole = Grid(regions.shape[0], regions.shape[1], self.window, 0)
        windows = whole.split(regions.reshape(1, -1, 1), None)[..., 0]  # [windows, T]
        return (windows[:, :, None] != windows[:, None]).float() * -100.0
