"""`RISModel`: what every referring segmentation model offers to training, evaluation and prediction."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedTokenizerBase

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.models.encoders.tokenizers import read_tokenizer
from maskris.models.folder import CONFIG
from maskris.registry import find_class, has_short_name, short_names
from maskris.utils.files import atomic_path, read_json, read_tensors

Features = Any
"""What `RISModel.encode_image` returns: any nesting of tuples, lists, dicts and tensors; private to its model."""

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer"


class RISModel(nn.Module, PyTorchModelHubMixin, ABC, library_name="maskris", tags=["referring-image-segmentation"]):
    """Referring image segmentation model, the base of all: photo and phrase in, logits out. No loss, no device inside.

    The constructor's arguments are the configuration; `save_pretrained` writes them with the weights, the
    tokenizer and the preprocessing, and `from_pretrained` brings all back from a folder or the Hub.

    Attributes:
        preprocess: Size and normalization of its images.
        tokenizer: Expressions as token ids.
        align_corners: How logits are upsampled, see `upsample`.
        output: What values of one channel are: ``"logit"`` of a probability, or ``"score"`` of a localizer, whose
            values have an order alone, and 0 is where the referent begins.
        config: The constructor's arguments as JSON types, with nothing left that would have to be downloaded.
    """

    preprocess: Preprocess
    tokenizer: ExpressionTokenizer
    config: dict[str, Any]
    align_corners: ClassVar[bool] = False
    output: ClassVar[Literal["logit", "score"]] = "logit"

    @property
    def has_batch_statistics(self) -> bool:
        """Whether the output for one sample depends on the others in training, because of batch norm."""
        return any(isinstance(module, _BatchNorm) for module in self.modules())

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether a part of the model recomputes activations in the backward pass instead of storing them."""
        parts = (module for module in self.modules() if module is not self)
        return any(getattr(part, "gradient_checkpointing", False) is True for part in parts)

    @abstractmethod
    def encode_image(self, images: Tensor) -> Features:
        """Features of the images alone, from normalized images ``[I, 3, H, W]``."""

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
        """Groups for the optimizer with keys ``name``, ``params``, ``lr`` and ``weight_decay``."""

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[N, C, h, w]`` of a batch; uint8 images are normalized first."""
        features = self.encode_image(self.preprocess.normalize(batch.images))
        return self.segment(features, batch.input_ids, batch.attention_mask, batch.image_index)

    def functional_forward(self, weights: dict[str, Tensor], batch: Batch) -> Tensor:
        """Logits of a batch with `weights`, named as in ``state_dict()``, in place of the model's own; no gradient.

        The module's mode decides about dropout, as in any call. Tensors are not copied.
        """
        with torch.no_grad():
            return cast(Tensor, functional_call(self, weights, (batch,)))

    def token_features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of patches and words before they are merged, for methods that compare the two.

        Returns:
            Patches ``[N, h, w, Dv]`` of the image of each expression, and words ``[N, L, Dw]`` in the order of
            ``batch.input_ids``. Padding and special tokens have vectors too, which the caller leaves out.

        Raises:
            NotImplementedError: If the model does not offer them.
        """
        models = [find_class("model", name, RISModel) for name in short_names("model", RISModel)]
        offering = [model.__name__ for model in models if model.token_features is not RISModel.token_features]
        raise NotImplementedError(
            f"{type(self).__name__} does not define token_features(batch), the features of patches and words that this "
            f"method compares; models that do: {', '.join(offering) or 'none so far'}"
        )

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring logits ``[N, C, h, w]`` to ``[N, C, *size]``, bilinearly as the model's authors do it."""
        if logits.shape[-2:] == tuple(size):
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=self.align_corners)

    def set_inputs(
        self,
        preprocess: Preprocess | dict[str, Any] | None,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        keep_end_token: bool = True,
    ) -> None:
        """Set `preprocess` and `tokenizer` (see `ExpressionTokenizer`); every model's constructor calls this."""
        if isinstance(preprocess, dict):
            preprocess = Preprocess.from_dict(preprocess)
        self.preprocess = preprocess or Preprocess()
        self.tokenizer = ExpressionTokenizer(tokenizer, max_tokens, keep_end_token)

    def set_config(self, **resolved: Any) -> None:
        """Complete `config`: the constructor's arguments with `resolved` in place of Hub ids and folders."""
        given = cast(dict[str, Any], self._hub_mixin_config or {})
        # The tokenizer is saved as its own files and the preprocessing as resolved.
        known = {"preprocess": self.preprocess.to_dict(), "max_tokens": self.tokenizer.max_length, **resolved}
        self.config = {key: value for key, value in given.items() if key != "tokenizer"} | known
        described = {"model_class": type(self).__name__}
        if not has_short_name("model", type(self)):
            described["model_module"] = type(self).__module__
        self._hub_mixin_config = {**described, **self.config}

    def _save_pretrained(self, save_directory: Path) -> None:
        with atomic_path(save_directory / WEIGHTS) as partial:
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, partial)
        self.tokenizer.save_pretrained(save_directory / TOKENIZER)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **arguments: Any) -> Self:
        """Load a model of this class from a folder or the Hub, in evaluation mode.

        Args:
            pretrained_model_name_or_path: What `save_pretrained` wrote, or a Hub id.
            arguments: Of the constructor, in place of those that were saved, or of `huggingface_hub`: ``revision``,
                ``cache_dir``, ``force_download``, ``local_files_only``, ``token``.

        Raises:
            FileNotFoundError: If there is no whole model.
            ValueError: If it is of another class, or a file is damaged.
        """
        file = Path(pretrained_model_name_or_path) / CONFIG
        if file.is_file():
            read_json(file)  # whose errors name the file
        return super().from_pretrained(pretrained_model_name_or_path, **arguments)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        map_location: str = "cpu",
        strict: bool = True,
        config: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> Self:
        hub = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        download = {key: arguments.pop(key) for key in hub}
        folder = Path(model_id)
        if config is None:
            raise FileNotFoundError(f"{model_id} holds no model: there is no {CONFIG} in it")
        if config.get("model_class", cls.__name__) != cls.__name__:
            raise ValueError(f"{model_id} holds a {config['model_class']}, not a {cls.__name__}")
        if not folder.is_dir():
            folder = Path(snapshot_download(model_id, allow_patterns=[WEIGHTS, f"{TOKENIZER}/*"], **download))
        if not (folder / WEIGHTS).is_file():
            raise FileNotFoundError(f"{model_id} holds no model: there is no {WEIGHTS} beside its {CONFIG}")
        if "tokenizer" not in arguments:
            arguments["tokenizer"] = read_tokenizer(folder / TOKENIZER)
        model = cls(**arguments)
        model.load_state_dict(read_tensors(folder / WEIGHTS, map_location), strict=strict)
        return model.eval()


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of the weights with their names, the class and the configuration."""
    digest = hashlib.sha256(json.dumps([type(model).__name__, getattr(model, "config", None)], default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and every module back into the mode it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def foreground_logit(logits: Tensor) -> Tensor:
    """Logit of the referent per pixel: ``[N, C, h, w]`` to ``[N, h, w]``.

    For two channels the difference referent - background (softmax is the sigmoid of it), for one the logit itself.

    Raises:
        ValueError: If `C` is neither 1 nor 2.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    if logits.shape[1] == 2:
        return logits[:, 1] - logits[:, 0]
    raise ValueError(f"Logits need 1 or 2 channels, not {logits.shape[1]}")
