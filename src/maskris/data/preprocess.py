"""How a model wants its images: size, resizing, mean and standard deviation, and the way back to the original size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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


@dataclass(frozen=True)
class Preprocess:
    """Resizing and normalisation of one model, and the inverse for its predictions.

    Attributes:
        height: Height of the model's input in pixels.
        width: Width of the model's input in pixels.
        resize: ``"stretch"`` fills the input and distorts the aspect ratio (MaskRIS, CARIS, LAVT);
            ``"letterbox"`` keeps the ratio and pads with the mean colour (CRIS, ETRIS).
        mean: Per channel, on a scale of [0, 1].
        std: Per channel, on a scale of [0, 1].
    """

    height: int = 448
    width: int = 448
    resize: Literal["stretch", "letterbox"] = "stretch"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Check the values (a recipe may have them wrong).

        Raises:
            ValueError: If a size or a deviation is not positive, or the kind of resizing is unknown.
        """
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
        """The inverse of `to_dict`.

        Raises:
            ValueError: If a key is unknown.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"Preprocess has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return cls(**values)

    def placement(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Where an image of `height` x `width` lies in the model's input: top, left, height, width."""
        if self.resize == "stretch":
            return 0, 0, self.height, self.width
        scale = min(self.height / height, self.width / width)
        h = min(self.height, max(1, round(height * scale)))
        w = min(self.width, max(1, round(width * scale)))
        return (self.height - h) // 2, (self.width - w) // 2, h, w

    def image(self, image: Image.Image) -> Tensor:
        """Resize a photo of any mode to RGB ``[3, height, width]`` uint8, bilinearly with antialiasing as PIL does."""
        top, left, h, w = self.placement(image.height, image.width)
        scaled = v2.functional.resize(to_rgb(image), [h, w], v2.InterpolationMode.BILINEAR, antialias=True)
        resized = torch.from_numpy(np.asarray(scaled).transpose(2, 0, 1).copy())  # contiguous: batches stack faster
        if (h, w) == self.size:
            return resized
        colour = (torch.tensor(self.mean) * 255).round().to(torch.uint8)
        canvas = colour.view(3, 1, 1).repeat(1, self.height, self.width)
        canvas[:, top : top + h, left : left + w] = resized
        return canvas

    def mask(self, mask: np.ndarray) -> Tensor:
        """Resize a mask: ``[h, w]`` bool array to ``[height, width]`` bool (nearest pixel, as PIL does it).

        Raises:
            ValueError: If the mask is not a plane.
        """
        if mask.ndim != 2:
            raise ValueError(f"A mask has a height and a width, not the shape {list(mask.shape)}")
        top, left, h, w = self.placement(*mask.shape)
        resized = Image.fromarray(mask.astype(np.uint8)).resize((w, h), Image.Resampling.NEAREST)
        canvas = torch.zeros(self.size, dtype=torch.bool)
        canvas[top : top + h, left : left + w] = torch.from_numpy(np.asarray(resized) != 0)
        return canvas

    def normalize(self, images: Tensor) -> Tensor:
        """Make ``[..., 3, H, W]`` uint8 images float32 with mean 0 and deviation 1; float images pass unchanged."""
        if images.is_floating_point():
            return images
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return (images.float().div_(255) - mean) / std

    def restore(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        """Bring probability maps back to the original photo.

        Args:
            maps: ``[N, height, width]`` float, at the model's input size.
            size: Height and width of the photo.

        Returns:
            ``[N, size[0], size[1]]`` float, bilinear (``align_corners=False``), the padding of a letterbox cut off.

        Raises:
            ValueError: If the maps are not at the model's input size (upsample the logits first).
        """
        if maps.ndim != 3 or tuple(maps.shape[1:]) != self.size:
            raise ValueError(f"maps must be [N, {self.height}, {self.width}], not {list(maps.shape)}")
        top, left, h, w = self.placement(size[0], size[1])
        inner = maps[:, top : top + h, left : left + w]
        if inner.shape[1:] == tuple(size):
            return inner
        return F.interpolate(inner.unsqueeze(1), size=tuple(size), mode="bilinear", align_corners=False).squeeze(1)
