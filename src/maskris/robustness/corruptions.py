"""`Corruption`: one of the standard corruptions at one of its five severities, at the model's input size."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.evaluation.perturbation import Origin
from maskris.utils.rng import KeyedRandom

SEVERITIES = (1, 2, 3, 4, 5)
_GRAY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL's


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
        scale, draws = Scale.of(*image.shape[1:]), KeyedRandom(self.seed, self.name, image_id)
        corrupted = kind.formula(image, kind.strengths[self.severity - 1], scale, draws)
        return (corrupted.float() * 255).round().clamp(0, 255) / 255


@dataclass(frozen=True)
class Scale:
    """How large a picture is beside those of ImageNet-C.

    Attributes:
        length: What a length of 224 px pictures is multiplied with: the same share of the picture is smeared.
        grain: What the strength of anything that works pixel by pixel (or block by block) is multiplied with, at most
            1: the square root of `length`. A small picture has fewer pixels for noise to average out in, so the same
            noise would destroy more; full scaling would undo it. The same authors' CIFAR-10-C lies at about the root.
    """

    length: float
    grain: float

    @classmethod
    def of(cls, height: int, width: int) -> "Scale":
        """That of a picture of this size."""
        length = min(height, width) / 224
        return cls(length, math.sqrt(min(1.0, length)))


def gaussian_noise(image: Tensor, deviation: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Low light: independent normal noise."""
    return image + scale.grain * deviation * draws.normal(*image.shape)


def shot_noise(image: Tensor, photons: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Few photons: a Poisson count in each pixel and channel, `photons` of them at full brightness."""
    rate = photons / scale.grain**2  # the deviation of a count falls with the root of its mean
    return draws.poisson((image * 255).round().long(), rate) / rate


def impulse_noise(image: Tensor, share: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Broken pixels: a share of the values becomes 0 or 1, half of it each."""
    half = share * scale.grain**2 / 2  # its deviation rises with the root of the share
    noise = draws.uniform(*image.shape)
    return torch.where(noise < half, 0.0, torch.where(noise > 1 - half, 1.0, image))


def defocus_blur(image: Tensor, radius: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Out of focus: every point becomes a disk (with a smooth edge of one pixel)."""
    return _convolve(image, _disk(radius * scale.length))


def motion_blur(image: Tensor, strength: tuple[float, float], scale: Scale, draws: KeyedRandom) -> Tensor:
    """The camera moves: smeared along a line at up to 45 degrees to the horizon; reach and deviation of a normal curve.

    Smeared to both sides, so that the referent stays around its mask.
    """
    reach, deviation = (length * scale.length for length in strength)
    return _convolve(image, _streak(reach, deviation, draws.between(-45, 46)))


def zoom_blur(image: Tensor, reach: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """The camera moves forwards: the mean of pictures that are enlarged around the middle by 1 to 1 + `reach`."""
    factors = torch.linspace(1, 1 + reach, 11)
    theta = torch.zeros(11, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / factors
    copies = image[None].expand(11, -1, -1, -1)
    grid = F.affine_grid(theta, list(copies.shape), align_corners=False)
    return F.grid_sample(copies, grid, mode="bilinear", padding_mode="border", align_corners=False).mean(0)


def snow(image: Tensor, strength: tuple[float, ...], scale: Scale, draws: KeyedRandom) -> Tensor:
    """Falling snow over a paler picture.

    Strength: mean and deviation of a normal field, size of its grains, what of it is a flake, reach and deviation of
    the fall, share of the old colors.
    """
    mean, deviation, grain, threshold, reach, fall, kept = strength
    large = max(1.0, scale.length)  # on a small picture, snow as it falls on one of 224 px, which is then shrunk
    height, width = (round(n * large / scale.length) for n in image.shape[1:])
    cells = [math.ceil(n / (grain * large)) for n in (height, width)]
    field = mean + deviation * draws.normal(1, 1, *cells).float()
    flakes = F.interpolate(field, size=(height, width), mode="bilinear", align_corners=False)[0]
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1)
    flakes = _convolve(flakes, _streak(reach * large, fall * large, draws.between(45, 136)))
    flakes = F.adaptive_avg_pool2d(flakes, (image.shape[1], image.shape[2]))
    gray = torch.einsum("chw,c->hw", image, torch.tensor(_GRAY))
    pale = kept * image + (1 - kept) * torch.maximum(image, gray * 1.5 + 0.5)
    return pale + flakes + flakes.flip(1, 2)


def fog(image: Tensor, thickness: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Bright clouds of all sizes (a plasma whose octaves fade by 1.75), added and then darkened as a whole."""
    height, width = image.shape[1:]
    cloud = torch.zeros(1, 1, height, width)
    for octave in range(math.ceil(math.log2(max(height, width, 2)))):
        cells = draws.uniform(1, 1, 2 ** (octave + 1) + 1, 2 ** (octave + 1) + 1).float()
        cloud += F.interpolate(cells, size=(height, width), mode="bilinear", align_corners=True) / 1.75**octave
    cloud = (cloud[0] - cloud.min()) / (cloud.max() - cloud.min()).clamp(min=1e-6)
    brightest = image.max()
    return (image + thickness * cloud) * brightest / (brightest + thickness)


def brightness(image: Tensor, added: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Brighter light: a constant added to the value of HSV; hue and saturation stay."""
    value = image.amax(0, keepdim=True)
    brighter = (value + added).clamp(max=1)
    return torch.where(value > 0, image * (brighter / value.clamp(min=1e-6)), brighter)


def contrast(image: Tensor, kept: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Flat light: a share of the distance to each channel's mean is kept."""
    mean = image.mean((1, 2), keepdim=True)
    return mean + kept * (image - mean)


def elastic(image: Tensor, displacement: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Small wavy shifts: normal displacements of this deviation, smoothed over 2.4 px.

    The published large shears and shifts are left out: they would move the referent away from its mask.
    """
    height, width = image.shape[1:]
    field = _convolve(draws.normal(2, height, width).float(), _gaussian(2.44 * scale.length))
    field = field / field.std().clamp(min=1e-6) * displacement * scale.length  # [2, H, W], in pixels
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([(x + field[0] + 0.5) * 2 / width - 1, (y + field[1] + 0.5) * 2 / height - 1], -1)
    return F.grid_sample(image[None], grid[None], mode="bilinear", padding_mode="reflection", align_corners=False)[0]


def pixelate(image: Tensor, block: float, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Low resolution: shrunk by `block` with all pixels averaged, and enlarged again without smoothing."""
    side = 1 + (block - 1) * scale.grain
    photo = _to_pil(image)
    small = [max(1, round(n / side)) for n in photo.size]
    return _from_pil(photo.resize((small[0], small[1]), Image.Resampling.BOX).resize(photo.size, Image.Resampling.BOX))


def jpeg(image: Tensor, quality: int, scale: Scale, draws: KeyedRandom) -> Tensor:
    """Compression; `quality` as in libjpeg, whose quantization steps are what is scaled."""
    steps = (5000 / quality if quality < 50 else 200 - 2 * quality) * scale.grain  # in per cent of the standard's table
    scaled = round(5000 / steps if steps > 100 else (200 - steps) / 2)
    file = io.BytesIO()
    _to_pil(image).save(file, "JPEG", quality=scaled)
    with Image.open(file) as decoded:
        return _from_pil(decoded)


@dataclass(frozen=True)
class _Kind:
    """A corruption: the family of Hendrycks and Dietterich, the formula, and the strength at each severity."""

    family: str
    formula: Callable[[Tensor, Any, Scale, KeyedRandom], Tensor]
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
    "gaussian-noise": _Kind("noise", gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot-noise": _Kind("noise", shot_noise, (60, 25, 12, 5, 3)),
    "impulse-noise": _Kind("noise", impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus-blur": _Kind("blur", defocus_blur, (3, 4, 6, 8, 10)),
    "motion-blur": _Kind("blur", motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom-blur": _Kind("blur", zoom_blur, (0.1, 0.15, 0.2, 0.25, 0.3)),
    "snow": _Kind("weather", snow, _SNOW),
    "fog": _Kind("weather", fog, (1, 1.5, 2, 2.5, 3)),
    "brightness": _Kind("weather", brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": _Kind("digital", contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic": _Kind("digital", elastic, (0.4, 0.8, 1.2, 1.6, 2.0)),
    "pixelate": _Kind("digital", pixelate, (1 / 0.6, 2, 2.5, 1 / 0.3, 4)),
    "jpeg": _Kind("digital", jpeg, (25, 18, 15, 10, 7)),
}
"""By name, in the order of the families."""


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


def _to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _from_pil(photo: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(photo).transpose(2, 0, 1).copy()).float() / 255


def _convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of ``[C, H, W]`` with a symmetric kernel of odd sides; the outermost pixels continue outside."""
    (height, width), (rows, columns) = image.shape[1:], kernel.shape
    padded = F.pad(image[None], (columns // 2, columns // 2, rows // 2, rows // 2), mode="replicate")[0]
    size = list(padded.shape[1:])  # kernels grow with the picture, so their Fourier transforms are multiplied
    product = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel.to(image.dtype), s=size)
    blurred: Tensor = torch.fft.irfft2(product, s=size)
    return blurred[:, rows - 1 : rows - 1 + height, columns - 1 : columns - 1 + width]


def _offsets(reach: float) -> tuple[Tensor, Tensor]:
    steps = torch.arange(-math.ceil(reach), math.ceil(reach) + 1, dtype=torch.float64)
    return steps[:, None], steps[None, :]


def _disk(radius: float) -> Tensor:
    y, x = _offsets(radius + 0.5)
    weights = (radius + 0.5 - (y**2 + x**2).sqrt()).clamp(0, 1)
    return weights / weights.sum()


def _gaussian(deviation: float) -> Tensor:
    y, x = _offsets(3 * deviation)
    weights = torch.exp(-(y**2 + x**2) / (2 * deviation**2))
    return weights / weights.sum()


def _streak(reach: float, deviation: float, degrees: int) -> Tensor:
    """A line through the middle, denser there; each of its points is shared out among the four pixels around it."""
    y, x = _offsets(reach)
    along = torch.linspace(-reach, reach, 8 * math.ceil(reach) + 1, dtype=torch.float64)
    density = torch.exp(-(along**2) / (2 * deviation**2))
    up, right = along * math.sin(math.radians(degrees)), along * math.cos(math.radians(degrees))
    near_y = (1 - (y[..., None] - up).abs()).clamp(min=0)  # [k, 1, T]
    near_x = (1 - (x[..., None] - right).abs()).clamp(min=0)  # [1, k, T]
    weights = (near_y * near_x) @ density
    return weights / weights.sum()
