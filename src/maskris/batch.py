"""Images and expressions as tensors, the input of models, training methods and evaluation."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """`I` images and `N` expressions about them; several expressions may refer to one image.

    Attributes:
        images: ``[I, 3, H, W]``; ``uint8`` in [0, 255] as loaded, or ``float32`` once `Preprocess.normalize` has run.
        input_ids: ``[N, L]`` int64 token ids, padded at the right.
        attention_mask: ``[N, L]`` int64, 1 for tokens and 0 for padding.
        image_index: ``[N]`` int64, the image that each expression refers to.
        masks: ``[N, H, W]`` bool, or float in [0, 1] where outlines are soft: the referents; ``None`` where there is no
            ground truth.
        expression_id: ``[N, 2]`` int64, the row of the table and the number of the expression in it, for reports;
            ``None`` where the batch does not come from a table.
        negatives: ``[N, K, L']`` int64 token ids of `K` expressions for each that don't fit it, padded at the right as
            CLIP's are; ``None`` where a method has no use for them.
    """

    images: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    image_index: Tensor
    masks: Tensor | None = None
    expression_id: Tensor | None = None
    negatives: Tensor | None = None

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
        if self.expression_id is not None and self.expression_id.shape != (n, 2):
            raise ValueError(
                f"expression_id must be [{n}, 2], row and number of each expression, "
                f"not {list(self.expression_id.shape)}"
            )
        if self.negatives is not None and (self.negatives.ndim != 3 or len(self.negatives) != n):
            raise ValueError(f"negatives must be [{n}, K, L], some per expression, not {list(self.negatives.shape)}")
        # Values are looked at on the CPU alone: elsewhere that would wait for the device.
        if n and self.image_index.device.type == "cpu":
            low, high = (int(value) for value in self.image_index.aminmax())
            if low < 0 or high >= len(self.images):
                raise ValueError(
                    f"image_index names image {low if low < 0 else high}, but there are {len(self.images)} images"
                )

    def __len__(self) -> int:
        """The number of expressions N."""
        return int(self.input_ids.shape[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; `DataLoader(pin_memory=True)` calls this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if value is not None})
