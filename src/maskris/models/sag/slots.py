"""Entity discovery and reconstruction of SaG: slots compete for the patches of an image, and draw it again."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskris.models.layers.attention import sine_encoding


class Queries(nn.Module):
    """Where slots begin: every group is a normal distribution, from which its slots are drawn."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, groups, width)))
        log_variance = nn.init.xavier_uniform_(torch.empty(1, groups, width))
        self.log_variance = nn.Parameter(log_variance - torch.tensor(float(width)).log())

    def forward(self, noise: Tensor) -> Tensor:
        """Standard normal noise ``[I, S, D]`` to slots of the same shape, those of a group side by side."""
        each = noise.shape[1] // self.mean.shape[1]
        mean, log_variance = (part.repeat_interleave(each, 1) for part in (self.mean, self.log_variance))
        return mean + (log_variance / 2).exp() * noise


class CrossAttention(nn.Module):
    """Projections of an attention without biases but of the output; queries and context are normalized first."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_width**-0.5
        self.norm, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, heads * head_width, bias=False) for _ in range(3))
        self.to_out = nn.Linear(heads * head_width, width)
        self.dropout = nn.Dropout(dropout)

    def project(self, queries: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[A, Q, D]`` and ``[B, K, D]`` to queries, keys and values by head ``[…, heads, Q or K, c]``."""
        context = self.norm_context(context)
        parts = self.to_q(self.norm(queries)), self.to_k(context), self.to_v(context)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return q * self.scale, k, v

    def output(self, attended: Tensor) -> Tensor:
        """What the heads gathered ``[…, heads, Q, c]`` to ``[…, Q, D]``."""
        return cast(Tensor, self.dropout(self.to_out(attended.transpose(-3, -2).flatten(-2))))


class FeedForward(nn.Sequential):
    """Norm, four times the width, GELU, and back."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(
            *(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout)),
            nn.Linear(4 * width, width),
        )


class GroupAttention(nn.Module):
    """Self-attention among the slots of a group alone."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, heads * head_width, bias=False) for _ in range(3))
        self.to_out = nn.Linear(heads * head_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, slots: Tensor) -> Tensor:
        """``[groups, slots of a group, D]`` to the same shape."""
        x = self.norm(slots)
        q, k, v = (
            cast(Tensor, project(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return cast(Tensor, self.dropout(self.to_out(attended)))


class EntityDiscovery(nn.Module):
    """Slots divide the patches of an image among them, in rounds with one set of weights.

    Keys and values are patches with the sine encoding of their place. The softmax is over the slots, so that they
    compete; then each slot takes the mean of its patches.

    Args:
        width: Channels of slots and patches.
        groups: Groups of slots; a group shares a distribution, and its slots talk to each other.
        slots_per_group: Slots in each.
        rounds: How often.
        heads: Of either attention.
        cross_width: Channels of a head of the attention to patches.
        group_width: Channels of a head of the attention within groups.
        dropout: Of attentions and feed-forward networks.
    """

    def __init__(
        self,
        width: int,
        groups: int,
        slots_per_group: int,
        rounds: int,
        heads: int,
        cross_width: int,
        group_width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.rounds, self.slots_per_group = rounds, slots_per_group
        self.queries = Queries(groups, width)
        self.cross = CrossAttention(width, heads, cross_width, dropout)
        self.cross_ff = FeedForward(width, dropout)
        self.group = GroupAttention(width, heads, group_width, dropout)
        self.group_ff = FeedForward(width, dropout)
        self.output, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, patches: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Discover entities.

        Args:
            patches: ``[I, h, w, D]``.
            noise: ``[I, S, D]``, see `Queries`.

        Returns:
            Slots ``[I, S, D]``, and the shares ``[I, S, h, w]`` of each patch that slots have in the last round; the
            shares of a patch add up to 1.
        """
        height, width = patches.shape[1:3]
        places = sine_encoding(height, width, patches.shape[3], patches.device)
        context = patches.flatten(1, 2) + places.to(patches.dtype)
        slots = self.queries(noise)
        shares = patches.new_empty(0)
        for _ in range(self.rounds):
            q, k, v = self.cross.project(slots, context)
            shares = (q @ k.mT).softmax(2)  # [I, heads, S, h * w], over the slots
            weights = shares / (shares.sum(-1, keepdim=True) + 1e-7)
            slots = slots + self.cross.output(weights.to(v.dtype) @ v)
            slots = slots + self.cross_ff(slots)
            grouped = slots.unflatten(1, (-1, self.slots_per_group)).flatten(0, 1)  # [I * groups, 3, D]
            grouped = grouped + self.group(grouped)
            slots = (grouped + self.group_ff(grouped)).view_as(slots)
        return self.norm(self.output(slots)), shares.mean(1).unflatten(2, (height, width))


class Gathering(nn.Module):
    """A sentence gathers the slots of an image that it is about: one block of cross-attention.

    Args:
        width: Channels of sentences and slots.
        heads: Of the attention.
        head_width: Channels of each head.
        dropout: Of attention and feed-forward network.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.attention = CrossAttention(width, heads, head_width, dropout)
        self.ff = FeedForward(width, dropout)

    def forward(self, sentences: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Every sentence with every image.

        Args:
            sentences: ``[N, D]``.
            slots: ``[I, S, D]``.

        Returns:
            What is gathered ``[I, N, D]``, of length 1, and the slots' relevance ``[I, N, S]``, which adds up to 1.
        """
        q, k, v = self.attention.project(sentences[None], slots)  # [1, heads, N, c], [I, heads, S, c] twice
        relevance = (q @ k.mT).softmax(-1)  # [I, heads, N, S]
        gathered = sentences + self.attention.output(relevance.to(v.dtype) @ v)
        gathered = gathered + self.ff(gathered)
        return F.normalize(gathered, dim=-1), relevance.mean(1)


class SlotDecoder(nn.Module):
    """Each slot draws all patches of the image and says which are its own; a softmax over slots mixes the drawings.

    Args:
        width: Channels of slots.
        output: Channels of the patches.
        most: Most rows and columns of patches.
    """

    def __init__(self, width: int, output: int, most: int = 50) -> None:
        super().__init__()
        self.columns, self.rows = nn.Embedding(most, width // 2), nn.Embedding(most, width - width // 2)
        for places in (self.columns, self.rows):
            nn.init.uniform_(places.weight)
        layers = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
        self.mlp = nn.Sequential(*layers, nn.Linear(width, output + 1))

    def forward(self, slots: Tensor, height: int, width: int) -> Tensor:
        """Slots ``[I, S, D]`` to patches ``[I, height, width, output]``.

        Raises:
            ValueError: If there are more rows or columns than positions.
        """
        most = self.rows.num_embeddings
        if max(height, width) > most:
            raise ValueError(f"The decoder of the slots has {most} positions a side, not {height} x {width}")
        columns = self.columns.weight[:width].expand(height, -1, -1)
        rows = self.rows.weight[:height, None].expand(-1, width, -1)
        drawn = self.mlp(slots[:, :, None, None] + torch.cat([columns, rows], dim=-1))  # [I, S, h, w, output + 1]
        return cast(Tensor, (drawn[..., :-1] * drawn[..., -1:].softmax(1)).sum(1))
