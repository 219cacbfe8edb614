"""What IRNet learns edges and displacements from: pairs of pixels with the same label and with different ones."""

from typing import NamedTuple

import torch
from torch import Tensor

from maskris.labeling.refine.affinity import lines_within

IGNORED = 255
"""The label of pixels that are neither surely the object nor surely the background."""

_LEAST = 1e-5  # beside logarithms and counts, as published


class PairLabels(NamedTuple):
    """Of ``D`` directions and ``P`` pixels from which all lines stay in the map, each ``[D, P]`` bool."""

    background: Tensor
    """Both pixels are background."""
    object: Tensor
    """Both are of one object."""
    different: Tensor
    """They are of two, or of one and the background."""


class IRNLosses(NamedTuple):
    """Scalars, unweighted."""

    background: Tensor
    """Of the affinities of pairs in the background."""
    object: Tensor
    different: Tensor
    object_displacement: Tensor
    """Pixels of one object point to the same place."""
    background_displacement: Tensor
    """Pixels of the background move together."""

    @property
    def total(self) -> Tensor:
        """Affinities and displacements, each half, pairs of the same label and of different ones alike."""
        same = (self.background + self.object) / 2
        return (same + self.different) / 2 + (self.object_displacement + self.background_displacement) / 2


def seed_labels(maps: Tensor, sure: float = 0.3, unsure: float = 0.1) -> Tensor:
    """Labels of a response map in [0, 1]: 1 above `sure`, 0 up to `unsure`, `IGNORED` between; without a dense CRF."""
    labels = torch.full_like(maps, IGNORED, dtype=torch.uint8)
    labels[maps > sure] = 1
    labels[maps <= unsure] = 0
    return labels


def pair_labels(labels: Tensor, radius: int = 10) -> PairLabels:
    """What the labels ``[h, w]`` of the ends of each line say, directions as `lines_within` has them."""
    start, ends = _ends(labels, radius)
    known = (ends != IGNORED) & (start != IGNORED)
    same = known & (ends == start)
    return PairLabels(same & (start == 0), same & (start > 0), known & (ends != start))


def irn_losses(edges: Tensor, field: Tensor, labels: PairLabels, radius: int = 10) -> IRNLosses:
    """The losses of a batch.

    Args:
        edges: ``[N, h, w]`` in [0, 1].
        field: ``[N, 2, h, w]``, displacements in rows and columns.
        labels: Of the same maps, ``[N, D, P]`` each or ``[D, P]`` for all.
        radius: As of the labels.
    """
    lines = lines_within(radius)
    strongest = [torch.stack([_shifted(edges, at, radius) for at in passed]).amax(0) for _, passed in lines]
    affinity = 1 - torch.stack(strongest, dim=1).flatten(2)  # [N, D, P]
    start, ends = _ends(field, radius)  # [N, 2, D, P]
    change = start - ends
    offsets = torch.tensor([end for end, _ in lines]).to(field).T[:, :, None]  # [2, D, 1]

    background, of_object, different = (
        chosen.expand(len(edges), *chosen.shape[-2:]).to(edges) for chosen in labels
    )  # [N, D, P]
    return IRNLosses(
        _mean(-(affinity + _LEAST).log(), background),
        _mean(-(affinity + _LEAST).log(), of_object),
        _mean(-(1 + _LEAST - affinity).log(), different),
        _mean((change - offsets).abs().sum(1) / 2, of_object),
        _mean(change.abs().sum(1) / 2, background),
    )


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / (chosen.sum() + _LEAST)


def _ends(values: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Values ``[…, h, w]`` at the starts ``[…, 1, P]`` and at the ends ``[…, D, P]`` of all lines."""
    start = _shifted(values, (0, 0), radius).flatten(-2)[..., None, :]
    return start, torch.stack([_shifted(values, end, radius).flatten(-2) for end, _ in lines_within(radius)], dim=-2)


def _shifted(values: Tensor, at: tuple[int, int], radius: int) -> Tensor:
    """Values at an offset from all pixels whose lines stay in the map."""
    margin = radius - 1
    height, width = values.shape[-2] - margin, values.shape[-1] - 2 * margin
    top, left = at[0], margin + at[1]
    return values[..., top : top + height, left : left + width]
