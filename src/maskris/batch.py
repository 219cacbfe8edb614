"""The one object that every room after the data reads: images, expressions and which belongs to which."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """`I` images and `N` expressions about them; one image may carry many expressions.

    Attributes:
        images: ``[I, 3, H, W]``; ``uint8`` in [0, 255] as loaded, or ``float32`` once `Preprocess.normalize` has run.
        input_ids: ``[N, L]`` int64 token ids, padded at the right.
        attention_mask: ``[N, L]`` int64, 1 for tokens and 0 for padding.
        image_index: ``[N]`` int64, the image that each expression speaks of.
        masks: ``[N, H, W]`` bool, or float in [0, 1] where outlines are soft: the referents; ``None`` where there is no
            ground truth.
        index: ``[N, 2]`` int64, the row of the table and the number of the expression in it, for reports;
            ``None`` where the batch does not come from a table.
    """

    images: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    image_index: Tensor
    masks: Tensor | None = None
    index: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ValueError: If the shapes contradict each other, or `image_index` names an image that isn't there.
        """
        n = self.input_ids.shape[0]
        if self.images.ndim != 4:
            raise ValueError(f"images must be [I, 3, H, W], not {list(self.images.shape)}")
        if self.attention_mask.shape != self.input_ids.shape:
            raise ValueError(
                f"attention_mask {list(self.attention_mask.shape)} must have the shape of "
                f"input_ids {list(self.input_ids.shape)}"
            )
        if self.image_index.shape != (n,):
            raise ValueError(f"image_index must be [{n}], one image per expression, not {list(self.image_index.shape)}")
        if self.masks is not None and (self.masks.ndim != 3 or self.masks.shape[0] != n):
            raise ValueError(f"masks must be [{n}, H, W], one per expression, not {list(self.masks.shape)}")
        if self.index is not None and self.index.shape != (n, 2):
            raise ValueError(f"index must be [{n}, 2], row and number of each expression, not {list(self.index.shape)}")
        # Values are looked at on the CPU alone: elsewhere that would wait for the device.
        if n and self.image_index.device.type == "cpu":
            low, high = (int(value) for value in self.image_index.aminmax())
            if low < 0 or high >= len(self.images):
                raise ValueError(
                    f"image_index speaks of image {low if low < 0 else high}, but there are {len(self.images)} images"
                )

    def __len__(self) -> int:
        """The number of expressions N."""
        return int(self.input_ids.shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        moved = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; `DataLoader(pin_memory=True)` calls this."""
        pinned = {
            field.name: value.pin_memory()
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **pinned)
