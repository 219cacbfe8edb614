"""Preparation of a model's images: size, resizing, mean and standard deviation, and the way back to the photo."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any photo as 8-bit RGB; transparency is dropped, orientation tags are left to the caller.

    The one conversion PIL gets wrong is that of 16-bit images, which it clips at 255 (a white sheet); they are scaled.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        if image.mode != "I" or values.max(initial=0) > 255:  # "I" has 32 bits and may hold either range
            values /= 257
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns where a palette with transparency becomes RGB in one step
    return image.convert("RGB")


@lru_cache(maxsize=256)
def _nearest(length: int, target: int) -> np.ndarray:
    """``[target]``: which of `length` pixels PIL takes for each of `target` when it resizes to the nearest one."""
    pixels = Image.fromarray(np.arange(length, dtype=np.int32)[None])
    taken: np.ndarray = np.asarray(pixels.resize((target, 1), Image.Resampling.NEAREST))[0]
    return taken


@dataclass(frozen=True)
class Preprocess:
    """Resizing and normalization of one model, and the inverse for its predictions.

    Attributes:
        height: Height of the model's input in pixels.
        width: Width of the model's input in pixels.
        resize: ``"stretch"`` fills the input and distorts the aspect ratio (MaskRIS, CARIS, LAVT);
            ``"letterbox"`` keeps the ratio and pads with the mean color, bicubic and without antialiasing; its masks
            have soft outlines (CRIS, ETRIS).
        mean: Per channel, on a scale of [0, 1].
        std: Per channel, on a scale of [0, 1].
    """

    height: int = 448
    width: int = 448
    resize: Literal["stretch", "letterbox"] = "stretch"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Check the values, of which a recipe may have some wrong, and raise a `ValueError`."""
        for name in ("mean", "std"):  # a list from JSON or YAML becomes a tuple: equality and hashing depend on it
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if self.height < 1 or self.width < 1:
            raise ValueError(f"The input size must be positive, not {self.height} x {self.width}")
        if self.resize not in ("stretch", "letterbox"):
            raise ValueError(f"resize must be 'stretch' or 'letterbox', not {self.resize!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std need three values each, std positive: {self.mean}, {self.std}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return self.height, self.width

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON types; `from_dict` is the inverse."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """The inverse of `to_dict`; an unknown key is a `ValueError`."""
        known = sorted(field.name for field in fields(cls))
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"Preprocess has no {', '.join(unknown)}; it has {', '.join(known)}")
        return cls(**values)

    def least_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a photo of this size must keep for `image` not to enlarge it."""
        if self.resize == "stretch":
            return self.size
        scale = min(self.height / height, self.width / width)
        return math.ceil(scale * height - 1e-6), math.ceil(scale * width - 1e-6)  # but for rounding

    def image(self, image: Image.Image) -> Tensor:
        """Resize a photo of any mode to RGB ``[3, height, width]`` uint8.

        A stretch is bilinear with antialiasing as PIL does it, a letterbox bicubic without.
        """
        photo = to_rgb(image)
        if self.resize == "stretch":
            photo = v2.functional.resize(photo, list(self.size), v2.InterpolationMode.BILINEAR, antialias=True)
        # Contiguous and a copy: batches stack faster, and PIL's memory can't be written to.
        pixels = torch.from_numpy(np.asarray(photo).transpose(2, 0, 1).copy())
        if self.resize == "stretch":
            return pixels
        color = (torch.tensor(self.mean) * 255).round()
        placement = place((photo.height, photo.width), self.size)
        return warp(pixels.float(), self.size, placement, color).round_().clamp_(0, 255).to(torch.uint8)

    def mask(self, mask: np.ndarray) -> Tensor:
        """Resize a mask: ``[h, w]`` bool array to ``[height, width]``.

        A stretch takes the nearest pixel, as PIL does it, and gives bool; a letterbox is linear and gives float32 in
        [0, 1].

        Raises:
            ValueError: If the mask is not a plane.
        """
        if mask.ndim != 2:
            raise ValueError(f"A mask has a height and a width, not the shape {list(mask.shape)}")
        if self.resize == "letterbox":
            plane = torch.from_numpy(mask.astype(np.float64))[None]
            placement = place((mask.shape[0], mask.shape[1]), self.size)
            return warp(plane, self.size, placement, torch.zeros(1), "bilinear")[0].clamp_(0, 1).float()
        rows, columns = _nearest(mask.shape[0], self.height), _nearest(mask.shape[1], self.width)
        # Masks come from COCO's run lengths column by column, so whole columns lie together in memory.
        resized = mask.T[columns][:, rows].T if mask.flags.f_contiguous else mask[rows][:, columns]
        return torch.from_numpy(np.ascontiguousarray(resized != 0))

    def normalize(self, images: Tensor) -> Tensor:
        """Make ``[..., 3, H, W]`` uint8 images float32 with mean 0 and deviation 1; float images pass unchanged."""
        if images.is_floating_point():
            return images
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return (images.float().div_(255) - mean) / std

    def restore(
        self, maps: Tensor, size: Sequence[int], *, align_corners: bool = False, probabilities: bool = True
    ) -> Tensor:
        """Bring maps back to the original photo.

        Args:
            maps: ``[N, height, width]`` float, at the model's input size.
            size: Height and width of the photo.
            align_corners: As for `torch.nn.functional.interpolate`; only where photos are stretched.
            probabilities: Whether these are probabilities, which are cut to [0, 1] where a resize overshoots.

        Returns:
            ``[N, size[0], size[1]]`` float. After a stretch bilinear; after a letterbox bicubic, by the exact inverse
            of its geometry.

        Raises:
            ValueError: If the maps are not at the model's input size (upsample the logits first).
        """
        if maps.ndim != 3 or tuple(maps.shape[1:]) != self.size:
            raise ValueError(f"maps must be [N, {self.height}, {self.width}], not {list(maps.shape)}")
        height, width = size
        if self.resize == "letterbox":
            placement = place((height, width), self.size).inverse
            drawn = warp(maps, (height, width), placement, maps.new_zeros(len(maps)))
            return drawn.clamp_(0, 1) if probabilities else drawn
        if maps.shape[1:] == (height, width):
            return maps
        return F.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=align_corners)[:, 0]


CLIP_LETTERBOX = Preprocess(416, 416, "letterbox", CLIP_MEAN, CLIP_STD)
"""The input of CRIS and ETRIS."""


class Placement(NamedTuple):
    """Pixel `(y, x)` of the photo lies at ``(top + scale y, left + scale x)`` of the model's input."""

    scale: float
    top: float
    left: float

    @property
    def inverse(self) -> "Placement":
        """From the model's input to the photo."""
        return Placement(1 / self.scale, -self.top / self.scale, -self.left / self.scale)


def place(photo: tuple[int, int], size: tuple[int, int]) -> Placement:
    """Where a photo of height and width `photo` lies in an input of height and width `size`."""
    scale = min(size[0] / photo[0], size[1] / photo[1])
    return Placement(scale, (size[0] - photo[0] * scale) / 2, (size[1] - photo[1] * scale) / 2)


def warp(
    planes: Tensor,
    size: tuple[int, int],
    placement: Placement,
    border: Tensor,
    mode: Literal["bicubic", "bilinear"] = "bicubic",
) -> Tensor:
    """Resample planes at the pixels of other ones.

    Args:
        planes: ``[C, h, w]``, float32 (fast; positions are exact to 1e-7 of the sides) or float64.
        size: Height and width of the result.
        placement: Where in it the planes lie.
        border: ``[C]``, the value of each plane outside its edges.
        mode: ``"bicubic"`` (Keys' kernel with a = -0.75) overshoots at edges, ``"bilinear"`` doesn't.

    Returns:
        ``[C, *size]``, of the planes' type.
    """
    if planes.device.type == "mps":  # its grid_sample has no bicubic kernel
        return warp(planes.cpu(), size, placement, border, mode).to(planes.device)
    y, x = (
        # The centers of the first and the last pixel lie half a pixel inside of -1 and 1.
        (2 * (torch.arange(length, dtype=torch.float64) - offset) / placement.scale + 1) / side - 1
        for length, offset, side in zip(size, placement[1:], planes.shape[1:], strict=True)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).to(planes)
    border = border.to(planes)[:, None, None]
    # Beyond the edges grid_sample takes zeros: the border, once it is subtracted.
    drawn = F.grid_sample((planes - border)[None], grid[None], mode, padding_mode="zeros", align_corners=False)
    return drawn[0] + border
