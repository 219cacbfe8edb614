"""`RISModel`: what every referring segmentation model offers to training, evaluation and prediction."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.data.tokenizer import ExpressionTokenizer

Features = Any
"""What `RISModel.encode_image` returns: any nesting of tuples, lists, dicts and tensors; private to its model."""


class RISModel(nn.Module, PyTorchModelHubMixin, ABC):
    """A referring image segmentation model: photo and phrase in, logits out. No I/O, no loss, no device inside.

    The constructor's arguments are the configuration; `save_pretrained` writes them with the weights, the
    tokenizer and the preprocessing, and `from_pretrained` brings all back from a folder or the Hub.

    Attributes:
        preprocess: How the model wants its images.
        tokenizer: How the model wants its expressions.
        has_batch_statistics: Whether the output for one sample depends on the others in training (batch norm).
        align_corners: How logits are upsampled, see `upsample`.
    """

    preprocess: Preprocess
    tokenizer: ExpressionTokenizer
    has_batch_statistics: ClassVar[bool] = False
    align_corners: ClassVar[bool] = False

    @abstractmethod
    def encode_image(self, images: Tensor) -> Features:
        """Everything that depends on the image alone: normalised images ``[I, 3, H, W]`` to features."""

    @abstractmethod
    def segment(self, features: Features, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits ``[N, C, h, w]`` of `N` expressions.

        Args:
            features: What `encode_image` returned for `I` images.
            input_ids: ``[N, L]`` int64.
            attention_mask: ``[N, L]`` int64.
            image_index: ``[N]`` int64, values in ``[0, I)``.

        Returns:
            ``C = 2``: softmax over background and referent; ``C = 1``: sigmoid. Any stride.
        """

    @abstractmethod
    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for the optimiser with keys ``name``, ``params``, ``lr`` and ``weight_decay``."""

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[N, C, h, w]`` of a batch; uint8 images are normalised first."""
        features = self.encode_image(self.preprocess.normalize(batch.images))
        return self.segment(features, batch.input_ids, batch.attention_mask, batch.image_index)

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring logits ``[N, C, h, w]`` to ``[N, C, *size]``, bilinearly as the model's authors do it."""
        if logits.shape[-2:] == tuple(size):
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=self.align_corners)


def foreground_logit(logits: Tensor) -> Tensor:
    """The one number per pixel that decides: ``[N, C, h, w]`` to ``[N, h, w]``, positive means referent.

    For two channels the difference referent - background (softmax is the sigmoid of it), for one the logit itself.

    Raises:
        ValueError: If `C` is neither 1 nor 2.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    if logits.shape[1] == 2:
        return logits[:, 1] - logits[:, 0]
    raise ValueError(f"Logits need 1 or 2 channels, not {logits.shape[1]}")
