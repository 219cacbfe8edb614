"""`Predictor`: the vision encoder runs once per photo, the rest of the network once per expression."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskris.data.masks import Box, box_of, encode
from maskris.inference.image import ImageSource, load_image, orientation_of
from maskris.models.base import Features, RISModel, evaluation_mode, foreground_logit
from maskris.models.loading import load_model
from maskris.utils.process import Precision, fastest_device
from maskris.utils.text import invalid_text_reason

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Prediction:
    """The mask that a model predicts for one expression, at the size of the photo.

    Attributes:
        expression: The expression as it was given.
        mask: ``[h, w]`` bool, the pixels whose probability is above `threshold`.
        probability: ``[h, w]`` float32 in [0, 1], that a pixel belongs to the referent.
        box: Tight box of the mask: x, y, width and height in pixels; ``None`` if the mask is empty.
        score: Mean probability over the mask's pixels, 0 if there are none; not an estimate of the IoU.
        threshold: Where `probability` was cut.
        truncated: Whether the expression was too long for the model, which saw only its beginning.
    """

    expression: str
    mask: np.ndarray
    probability: np.ndarray
    box: Box | None
    score: float
    threshold: float = 0.5
    truncated: bool = False

    def rle(self) -> dict[str, Any]:
        """The mask as COCO's compressed RLE: ``{"size": [h, w], "counts": str}``, ready for JSON and pycocotools."""
        return {"size": list(self.mask.shape), "counts": encode(self.mask).decode("ascii")}

    def to_dict(self) -> dict[str, Any]:
        """The prediction as JSON types, the mask as RLE; the probabilities are left out."""
        return {
            "expression": self.expression,
            "score": self.score,
            "box": None if self.box is None else list(self.box),
            "area": int(self.mask.sum()),
            "threshold": self.threshold,
            "truncated": self.truncated,
            "segmentation": self.rle(),
        }


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo made ready for a model, see `Predictor.prepare`.

    Attributes:
        pixels: ``[3, H, W]`` uint8 at the model's input size.
        size: Height and width of the upright photo.
        image: The upright photo in RGB; ``None`` if it was not to be kept.
        orientation: The EXIF orientation by which it was turned, 1 where it was not.
    """

    pixels: Tensor
    size: tuple[int, int]
    image: Image.Image | None
    orientation: int = 1


class Predictor:
    """Segments what phrases refer to in a photo.

    `set_image` runs the vision encoder, the costly part, once; each `predict` after it is cheap. After more training
    the image must be set again. A predictor holds one photo and serves one caller at a time.

    Args:
        model: Any `RISModel`. It is run in evaluation mode and put back into the mode it had.
        device: Where to run, e.g. ``"cuda"`` or ``"cpu"`` (moves the model); by default where the model is.
        precision: ``"bf16"`` and ``"fp16"`` run the network under autocast; probabilities are float32 in any case.
        batch_size: Most expressions at once; more are worked through in portions, so that memory stays bounded.
        name: Name of the model in written results; by default its class.

    Attributes:
        image: The photo that is set, upright RGB; ``None`` before `set_image`.

    Raises:
        ValueError: If the precision is unknown or `batch_size` is not positive.
    """

    def __init__(
        self,
        model: RISModel,
        device: torch.device | str | None = None,
        precision: Precision = "fp32",
        *,
        batch_size: int = 16,
        name: str | None = None,
    ) -> None:
        if precision not in _DTYPES:
            raise ValueError(f"precision must be {', '.join(_DTYPES)}, not {precision!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.model = model if device is None else model.to(device)
        self.precision = precision
        self.batch_size = batch_size
        self.name = name or type(model).__name__
        self.image: Image.Image | None = None
        self._features: Features = None
        self._warned: set[str] = set()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        device: torch.device | str | None = None,
        precision: Precision = "fp32",
        *,
        batch_size: int = 16,
        model_class: type[RISModel] | str | None = None,
    ) -> "Predictor":
        """A predictor for a saved model.

        Args:
            source: A folder that `save_pretrained` or training wrote, a released name or a Hub id, as for `load_model`.
            device: By default the fastest that is there: CUDA, else MPS, else the CPU.
            precision: As for the constructor.
            batch_size: As for the constructor.
            model_class: The model's class or its name (``my_module.MyModel``), if it is none of this package.

        Raises:
            FileNotFoundError: If there is no model at `source`.
            ValueError: If it is a model of a class that is not known.
        """
        model = load_model(source, model_class)
        return cls(model, device or fastest_device(), precision, batch_size=batch_size, name=str(source))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        tensor = next(self.model.parameters(), None)
        return torch.device("cpu") if tensor is None else tensor.device

    def set_image(self, image: ImageSource) -> "Predictor":
        """Encode a photo for the calls of `predict` that follow.

        Args:
            image: A path, PIL image or array, as for `maskris.inference.image.load_image`, which names the errors too.

        Returns:
            The predictor itself, so that calls can be chained.
        """
        self.image, self._features = None, None  # a failure must not leave the previous photo behind
        photo = self.prepare(image)
        self._features = self._encode([photo])
        self.image = photo.image
        return self

    def prepare(self, image: ImageSource, *, keep: bool = True) -> Photo:
        """Load and resize a photo, without the network; several threads may do so at once.

        Args:
            image: As for `set_image`.
            keep: Keep the photo beside its resized pixels; it may be a hundred times as large.
        """
        loaded = load_image(image)
        size = (loaded.height, loaded.width)
        return Photo(self.model.preprocess.image(loaded), size, loaded if keep else None, orientation_of(image))

    @torch.inference_mode()
    def _encode(self, photos: Sequence[Photo]) -> Features:
        pixels = torch.stack([photo.pixels for photo in photos]).to(self.device)  # [I, 3, H, W] uint8
        with evaluation_mode(self.model), self._autocast():
            return self.model.encode_image(self.model.preprocess.normalize(pixels))

    @overload  # a string is a sequence of strings too; the first signature that fits is taken
    def predict(  # type: ignore[overload-overlap]
        self, expression: str, image: ImageSource | None = ..., *, threshold: float = ...
    ) -> Prediction: ...

    @overload
    def predict(
        self, expression: Sequence[str], image: ImageSource | None = ..., *, threshold: float = ...
    ) -> list[Prediction]: ...

    def predict(
        self, expression: str | Sequence[str], image: ImageSource | None = None, *, threshold: float = 0.5
    ) -> Prediction | list[Prediction]:
        """Segment what one or several expressions refer to.

        Args:
            expression: A phrase such as ``"the man on the left"``, or a list of them.
            image: A photo to set first; by default the one that is set.
            threshold: Probability in [0, 1) above which a pixel belongs to the referent.

        Returns:
            One prediction for a string, a list in the same order for a list.

        Raises:
            RuntimeError: If no image is set.
            ValueError: If an expression is empty or holds a lone surrogate, or `threshold` lies outside [0, 1).
            TypeError: If an expression is no string.
        """
        if isinstance(expression, str):
            return next(self.stream([expression], image, threshold=threshold))
        return list(self.stream(expression, image, threshold=threshold))

    def stream(
        self, expressions: Sequence[str], image: ImageSource | None = None, *, threshold: float = 0.5
    ) -> Iterator[Prediction]:
        """`predict`, one result at a time: for so many expressions or so large a photo that memory matters.

        Arguments and errors are those of `predict`. The arguments are checked and the photo is set at the call; the
        rest happens while the results are taken.
        """
        check_threshold(threshold)
        expressions = check_expressions(expressions)
        if image is not None:
            self.set_image(image)
        if self.image is None:
            raise RuntimeError("No image is set: call predictor.set_image(photo) first, or predict(..., image=photo)")
        size = (self.image.height, self.image.width)
        return self._results(expressions, [0] * len(expressions), [size], self._features, threshold)

    def stream_photos(
        self, photos: Sequence[Photo], expressions: Sequence[str], image_index: Sequence[int], *, threshold: float = 0.5
    ) -> Iterator[Prediction]:
        """`stream` for several photos that are encoded together; the photo that is set stays set.

        Args:
            photos: What `prepare` returned, at least one.
            expressions: Any number of phrases about them; they are worked through in portions of `batch_size`.
            image_index: For each phrase, the place of its photo.
            threshold: As for `predict`.

        Raises:
            ValueError: If `image_index` doesn't fit; other errors are those of `predict`.
        """
        check_threshold(threshold)
        expressions = check_expressions(expressions)
        if len(image_index) != len(expressions) or not all(0 <= i < len(photos) for i in image_index):
            raise ValueError(f"image_index needs a number from 0 to {len(photos) - 1} for each of the expressions")
        sizes = [photo.size for photo in photos]
        return self._results(expressions, image_index, sizes, self._encode(photos), threshold)

    def _results(
        self,
        expressions: list[str],
        image_index: Sequence[int],
        sizes: list[tuple[int, int]],
        features: Features,
        threshold: float,
    ) -> Iterator[Prediction]:
        for start in range(0, len(expressions), self.batch_size):
            portion = np.s_[start : start + self.batch_size]
            # Probabilities at the size of a phone's photo take 50 MB: they are restored one by one.
            maps, truncated = self._segment(expressions[portion], image_index[portion], features)
            for i, expression in enumerate(expressions[portion]):
                restored = self.model.preprocess.restore(maps[i : i + 1], sizes[image_index[start + i]])[0]  # [h, w]
                probability = restored.cpu().numpy().copy()  # not a view that would keep the whole portion alive
                mask = probability > threshold
                box = box_of(mask) if mask.any() else None
                score = float(probability[mask].mean(dtype=np.float64)) if box else 0.0
                yield Prediction(expression, mask, probability, box, score, threshold, truncated[i])

    @torch.inference_mode()
    def _segment(self, expressions: list[str], index: Sequence[int], features: Features) -> tuple[Tensor, list[bool]]:
        """Probabilities ``[N, H, W]`` at the model's input size, and which expressions were too long."""
        tokens = self.model.tokenizer(expressions)
        truncated: list[bool] = tokens.truncated.tolist()
        self._warn(expressions, tokens.input_ids, truncated)
        input_ids, attention_mask = tokens.input_ids.to(self.device), tokens.attention_mask.to(self.device)
        image_index = torch.tensor(index, device=self.device)  # [N]
        with evaluation_mode(self.model), self._autocast():
            logits = self.model.segment(features, input_ids, attention_mask, image_index)  # [N, C, h, w]
        maps = foreground_logit(logits.float())[:, None]  # one map is resized, not two channels
        return self.model.upsample(maps, self.model.preprocess.size)[:, 0].sigmoid(), truncated

    def _warn(self, expressions: list[str], input_ids: Tensor, truncated: list[bool]) -> None:
        most, unknown = self.model.tokenizer.max_length, self.model.tokenizer.tokenizer.unk_token_id
        foreign = (input_ids == unknown).any(1).tolist() if unknown is not None else [False] * len(expressions)
        for kind, affected, text in (
            ("truncated", truncated, f"is longer than the {most} tokens of this model, which ignores its last words"),
            ("unknown", foreign, "has words that are not in this model's vocabulary, so that their meaning is lost"),
        ):
            if any(affected) and kind not in self._warned:
                self._warned.add(kind)
                first = expressions[affected.index(True)]
                warnings.warn(f"The expression {first!r} {text} (said once)", UserWarning, stacklevel=6)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, _DTYPES[self.precision], enabled=self.precision != "fp32")


def check_threshold(threshold: float) -> None:
    """Raise the error of `Predictor.predict` for what is no threshold."""
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is a probability in [0, 1), not {threshold}")


def check_expressions(expressions: Sequence[str]) -> list[str]:
    """The expressions as a list; raises the errors of `Predictor.predict` for others."""
    if isinstance(expressions, str):
        raise TypeError(f"Expected a list of expressions, not the single string {expressions!r}: put it in a list")
    for i, expression in enumerate(expressions, start=1):
        if not isinstance(expression, str):
            raise TypeError(f"Expression {i} is a {type(expression).__name__}, not a string: {expression!r}")
        if not expression.strip():
            raise ValueError(f"Expression {i} is empty; say what to look for, such as 'the man on the left'")
        if trouble := invalid_text_reason(expression):
            raise ValueError(f"Expression {i} {trouble}")
    return list(expressions)
