"""`Corruption`: one of the standard corruptions at one of its five severities, at the model's input size."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.evaluation.perturbation import Origin
from maskris.evaluation.robustness import formulas
from maskris.evaluation.robustness.draws import Draws
from maskris.evaluation.robustness.formulas import Scale

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class _Kind:
    """A corruption: the family of Hendrycks and Dietterich, the formula, and the strength at each severity."""

    family: str
    apply: Callable[[Tensor, Any, Scale, Draws], Tensor]
    strengths: tuple[Any, Any, Any, Any, Any]


# The published strengths of snow, fog and elastic don't rise steadily in what they do to a picture; ours do.
_SNOW = (
    (0.10, 0.3, 3, 0.60, 10, 4, 0.80),
    (0.20, 0.3, 3, 0.60, 12, 4, 0.70),
    (0.30, 0.3, 3, 0.65, 12, 8, 0.70),
    (0.40, 0.3, 4, 0.70, 12, 8, 0.65),
    (0.50, 0.3, 4, 0.70, 12, 12, 0.55),
)

KINDS = {
    "gaussian-noise": _Kind("noise", formulas.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot-noise": _Kind("noise", formulas.shot_noise, (60, 25, 12, 5, 3)),
    "impulse-noise": _Kind("noise", formulas.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus-blur": _Kind("blur", formulas.defocus_blur, (3, 4, 6, 8, 10)),
    "motion-blur": _Kind("blur", formulas.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom-blur": _Kind("blur", formulas.zoom_blur, (0.1, 0.15, 0.2, 0.25, 0.3)),
    "snow": _Kind("weather", formulas.snow, _SNOW),
    "fog": _Kind("weather", formulas.fog, (1, 1.5, 2, 2.5, 3)),
    "brightness": _Kind("weather", formulas.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": _Kind("digital", formulas.contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic": _Kind("digital", formulas.elastic, (0.4, 0.8, 1.2, 1.6, 2.0)),
    "pixelate": _Kind("digital", formulas.pixelate, (1 / 0.6, 2, 2.5, 1 / 0.3, 4)),
    "jpeg": _Kind("digital", formulas.jpeg, (25, 18, 15, 10, 7)),
}
"""By name, in the order of the families."""


@dataclass(frozen=True)
class Corruption:
    """A standard corruption of the whole picture.

    What is random depends on `seed`, the name and the image's id; other severities use the same draws.

    Attributes:
        name: One of `KINDS`.
        severity: 1 to 5.
        seed: Another seed draws anew.

    Raises:
        ValueError: If there is no such corruption or severity.
    """

    name: str
    severity: int
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.name not in KINDS:
            raise ValueError(f"There is no corruption {self.name!r}, but {', '.join(KINDS)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"The severity of a corruption is 1, 2, 3, 4 or 5, not {self.severity}")

    def __call__(self, batch: Batch, origin: Origin) -> Batch:
        """The batch with corrupted images."""
        units = _to_unit(batch.images, origin.preprocess)
        corrupted = [self.image(unit, int(i)) for unit, i in zip(units, origin.image_ids, strict=True)]
        return replace(batch, images=_from_unit(torch.stack(corrupted), batch.images, origin.preprocess))

    def image(self, image: Tensor, image_id: int) -> Tensor:
        """Corrupt one image ``[3, H, W]`` float32 in [0, 1]; the result is in 255ths, as a file would hold it."""
        kind = KINDS[self.name]
        scale, draws = Scale.of(*image.shape[1:]), Draws(self.seed, self.name, image_id)
        corrupted = kind.apply(image, kind.strengths[self.severity - 1], scale, draws)
        return (corrupted.float() * 255).round().clamp(0, 255) / 255


def _to_unit(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Images of either kind as float32 in [0, 1]."""
    if not images.is_floating_point():
        return images.float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    return ((images.float() * std + mean).clamp(0, 1) * 255).round() / 255


def _from_unit(units: Tensor, like: Tensor, preprocess: Preprocess) -> Tensor:
    """The inverse, in the type of `like`."""
    pixels = (units * 255).round().to(torch.uint8)
    return preprocess.normalize(pixels).to(like.dtype) if like.is_floating_point() else pixels
