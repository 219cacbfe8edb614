"""Affinities of neighboring pixels from a map of edges, and random walks along them (IRNet, Ahn et al., CVPR 2019)."""

import torch
from torch import Tensor

Line = tuple[tuple[int, int], list[tuple[int, int]]]
"""Where a line from (0, 0) ends, and the pixels that it passes, both ends included; all as rows and columns."""


def lines_within(radius: int) -> list[Line]:
    """The digital lines to all pixels nearer than `radius`, of each two opposite ones the one that goes down or right.

    A line passes the pixels of its bounding box whose distance to it is less than 1.

    Raises:
        ValueError: If `radius` is less than 2, so that there are no neighbors.
    """
    if radius < 2:
        raise ValueError(f"radius must be at least 2, not {radius}")
    ends = [(0, x) for x in range(1, radius)]
    ends += [(y, x) for y in range(1, radius) for x in range(1 - radius, radius) if y * y + x * x < radius**2]
    return [((dy, dx), _passed(dy, dx)) for dy, dx in ends]


def _passed(dy: int, dx: int) -> list[tuple[int, int]]:
    box = [(y, x) for y in range(dy + 1) for x in range(min(dx, 0), max(dx, 0) + 1)]
    return [(y, x) for y, x in box if (dx * y - dy * x) ** 2 < dy * dy + dx * dx]


def affinity_matrix(edges: Tensor, radius: int = 5) -> Tensor:
    """Affinities of all pixels of a map, 1 minus the strongest edge on the line between two.

    Args:
        edges: ``[h, w]`` float in [0, 1].
        radius: Pixels as far as this, or farther, have none.

    Returns:
        ``[h w, h w]``, symmetric, with ones on the diagonal.
    """
    height, width = edges.shape
    places = torch.arange(height * width, device=edges.device).view(height, width)
    affinity = torch.eye(height * width, dtype=edges.dtype, device=edges.device)
    for (dy, dx), passed in lines_within(radius):
        rows, columns = height - dy, width - abs(dx)
        if rows <= 0 or columns <= 0:
            continue
        left = max(-dx, 0)  # of the first pixel whose line stays in the map
        strongest = torch.stack([edges[y : y + rows, left + x : left + x + columns] for y, x in passed]).amax(
            0
        )  # [rows, columns]
        start = places[:rows, left : left + columns].flatten()
        end = places[dy:, left + dx : left + dx + columns].flatten()
        affinity[start, end] = affinity[end, start] = 1 - strongest.flatten()
    return affinity


def random_walk(maps: Tensor, edges: Tensor, radius: int = 5, beta: float = 10.0, doublings: int = 8) -> Tensor:
    """Spread maps to pixels that no edge divides from them.

    Args:
        maps: ``[C, h, w]``, at least 0.
        edges: ``[h, w]`` in [0, 1].
        radius: Of a step.
        beta: Exponent of the affinities: the larger, the more an edge holds back.
        doublings: The walk has ``2 ** doublings`` steps.

    Returns:
        ``[C, h, w]``.
    """
    affinity = affinity_matrix(edges, radius) ** beta
    walk = affinity / affinity.sum(0, keepdim=True)
    for _ in range(doublings):
        walk = walk @ walk
    return ((maps * (1 - edges)).flatten(1) @ walk).view_as(maps)
