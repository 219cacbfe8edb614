"""From a response map, edges and displacements to the masks of IRNet (Ahn et al., CVPR 2019), as TRIS uses them."""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from maskris.labeling.refine.affinity import random_walk
from maskris.labeling.refine.centroids import instances


class Synthesis(NamedTuple):
    """Connected pieces of an object, `K` of them, disjoint."""

    masks: Tensor
    """``[K, H, W]`` bool."""
    scores: Tensor
    """``[K]``, the highest response in each; 0 for pieces that are smaller than a hundredth of the photo."""

    @property
    def mask(self) -> Tensor:
        """All pieces together ``[H, W]`` bool, the small ones too, as published."""
        return self.masks.any(0)


def synthesize(
    response: Tensor,
    edges: Tensor,
    field: Tensor,
    *,
    stride: int = 4,
    background: float = 0.25,
    radius: int = 5,
    beta: float = 10.0,
    doublings: int = 8,
) -> Synthesis:
    """Masks of the parts of a response map that no edge divides.

    Args:
        response: ``[H, W]``, at least 0.
        edges: ``[ceil(H / stride), ceil(W / stride)]`` in [0, 1].
        field: Displacements ``[2, …]`` at the same size.
        stride: Of edges and field.
        background: Share of the highest response of all below which a pixel is background.
        radius: As the next two, see `random_walk`.
        beta: Exponent of the affinities.
        doublings: The walk has ``2 ** doublings`` steps.

    Raises:
        ImportError: If scikit-image is missing.
        ValueError: If the sizes don't go together.
    """
    (height, width), size = response.shape, tuple(edges.shape)
    if size != (-(-height // stride), -(-width // stride)) or tuple(field.shape[1:]) != size:
        raise ValueError(
            f"A response of {height} x {width} needs edges and displacements of {-(-height // stride)} x "
            f"{-(-width // stride)} at stride {stride}, not {size} and {tuple(field.shape[1:])}"
        )
    small = F.interpolate(response[None, None], size, mode="bilinear", align_corners=True)[0]  # [1, h, w]
    walked = random_walk(instances(field) * small, edges, radius, beta, doublings)
    large = F.interpolate(walked[None], scale_factor=stride, mode="bilinear", align_corners=False)[0]
    large = large[:, :height, :width] / large[:, :height, :width].amax().clamp(min=1e-12)
    number = torch.cat([large.new_full((1, height, width), background), large]).argmax(0)
    pieces = [piece for i in range(len(large)) for piece in _pieces(number == i + 1)]
    masks = torch.stack(pieces) if pieces else number.new_zeros((0, height, width), dtype=torch.bool)
    highest = large.amax(0)
    large_enough = masks.sum((1, 2)) >= height * width / 100
    return Synthesis(masks, (highest * masks).amax((1, 2)) * large_enough)


def _pieces(mask: Tensor) -> list[Tensor]:
    """The parts of a mask that are connected by rows and columns, in reading order."""
    from skimage import measure

    found = torch.from_numpy(cast(Any, measure).label(mask.cpu().numpy(), connectivity=1)).to(mask.device)
    return [found == i for i in range(1, int(found.max()) + 1)]
