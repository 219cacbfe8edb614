"""The computations of the demo: the network runs once for each photo and each expression, never for a threshold."""

import shutil
import threading
import warnings
import zlib
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from maskris.data.masks import box_of
from maskris.demo.checks import Limits, RefusedError, read_expressions, read_photo, safe_name
from maskris.inference.image import orientation_of
from maskris.inference.predictor import Prediction, Predictor
from maskris.inference.save import save_predictions
from maskris.inference.visualize import overlay
from maskris.utils.files import sha256_of

STEPS = 100
"""Thresholds that can be chosen: 0, 0.01, …, 0.99."""

LEAST, MOST = 480, 1280
"""Pixels of a photo's longer side on the page."""

_THRESHOLDS = np.array([step / STEPS for step in range(STEPS)], dtype=np.float32)

Kind = Literal["zip", "json"]
"""Kinds of downloads."""


@dataclass(frozen=True)
class Request:
    """A photo on disk and expressions about it, checked.

    Attributes:
        path: The visitor's file.
        name: Its name, harmless.
        digest: SHA-256 of its bytes.
        expressions: Within the limits.
    """

    path: Path
    name: str
    digest: str
    expressions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ThresholdedMask:
    """The mask of one expression at every threshold of `STEPS`.

    A pixel needs one byte, its level: how many of the thresholds its probability exceeds. With the sum of the
    probabilities of each level, masks and scores at these thresholds are exact.

    Attributes:
        expression: As it was given.
        size: Height and width of the photo.
        levels: ``[h, w]`` uint8, compressed.
        sums: ``[STEPS + 1]`` sums of the probabilities of each level.
        truncated: Whether the model saw only the beginning of the expression.
        unknown: Words that the model's tokenizer can't express.
    """

    expression: str
    size: tuple[int, int]
    levels: bytes
    sums: np.ndarray
    truncated: bool
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, prediction: Prediction, unknown: tuple[str, ...]) -> "ThresholdedMask":
        """The part of a prediction that other thresholds need."""
        levels = np.searchsorted(_THRESHOLDS, prediction.probability).astype(np.uint8)  # [h, w]
        sums = np.bincount(levels.ravel(), weights=prediction.probability.ravel(), minlength=STEPS + 1)
        height, width = levels.shape
        packed = zlib.compress(levels.tobytes(), 1)
        return cls(prediction.expression, (height, width), packed, sums, prediction.truncated, unknown)

    def at(self, threshold: float) -> Prediction:
        """The prediction at a threshold, rounded to one of `STEPS`; its probabilities are cut to hundredths."""
        step = min(max(round(threshold * STEPS), 0), STEPS - 1)
        levels = np.frombuffer(zlib.decompress(self.levels), dtype=np.uint8).reshape(self.size)
        mask = levels > step
        area = int(mask.sum())
        box, score = (box_of(mask), float(self.sums[step + 1 :].sum() / area)) if area else (None, 0.0)
        probability = levels / np.float32(STEPS)
        return Prediction(self.expression, mask, probability, box, score, step / STEPS, self.truncated)


@dataclass(frozen=True, eq=False)
class Response:
    """The masks for a request, one per expression, and the photo at the size at which the page shows it."""

    shown: Image.Image
    masks: tuple[ThresholdedMask, ...]

    def predictions(self, threshold: float) -> list[Prediction]:
        """All masks, cut at a threshold."""
        return [mask.at(threshold) for mask in self.masks]

    def picture(self, predictions: list[Prediction]) -> Image.Image:
        """The photo with the masks in their colors, at the size of the page."""
        size, nearest = self.shown.size, Image.Resampling.NEAREST
        return overlay(self.shown, [np.asarray(Image.fromarray(p.mask).resize(size, nearest)) for p in predictions])


class PredictionService:
    """Responds to the requests of all visitors with one model.

    Every photo gets a `Predictor` of its own over the same model, and the network works for one visitor at a time. The
    photos and responses that were used last are kept, so memory is bounded; the others are computed again.

    Args:
        predictor: Its model, device and precision are used.
        limits: On a visitor's request.
        photos: How many encoded photos to keep.
        responses: How many responses to keep.

    Attributes:
        name: Name of the model on the page.
    """

    def __init__(
        self, predictor: Predictor, limits: Limits | None = None, *, photos: int = 8, responses: int = 32
    ) -> None:
        self.predictor = predictor
        self.limits = limits or Limits()
        self.name = public_name(predictor.name)
        self._network = threading.Lock()
        self._photos, self._responses = lru_cache(photos)(_place), lru_cache(responses)(_place)

    def request(self, path: Path, name: str, text: str) -> Request:
        """Check a visitor's input; the photo itself is decoded when it is needed.

        Args:
            path: The visitor's file.
            name: The visitor's name for it.
            text: Expressions, one per line.

        Raises:
            RefusedError: If the file is gone, or the expressions exceed a limit.
        """
        expressions = read_expressions(text, self.limits)
        if not path.is_file():
            raise RefusedError("The photo is no longer here; please upload it again")
        return Request(path, safe_name(name), sha256_of(path), expressions)

    def respond(self, request: Request) -> Response:
        """The response to a request; the network runs only if it isn't known.

        Raises:
            RefusedError: If the photo can't be read or exceeds a limit.
        """
        place: list[Response] = self._responses(request.digest, request.expressions)
        if not place:
            with self._network:
                if not place:  # another visitor's may have been the same
                    place.append(self._compute(request))
        return place[0]

    def _compute(self, request: Request) -> Response:
        place: list[tuple[Predictor, Image.Image]] = self._photos(request.digest)
        if not place:
            photo, shared = read_photo(request.path, request.name, self.limits), self.predictor
            predictor = Predictor(shared.model, None, shared.precision, batch_size=shared.batch_size, name=self.name)
            place.append((predictor.set_image(photo), at_page_size(photo)))
        predictor, shown = place[0]
        with warnings.catch_warnings():  # of unknown words and long expressions: the page shows them
            warnings.simplefilter("ignore", UserWarning)
            found = predictor.stream(request.expressions)
            return Response(shown, tuple(ThresholdedMask.of(one, self._unknown(one.expression)) for one in found))

    def _unknown(self, expression: str) -> tuple[str, ...]:
        """The words of an expression that the model's tokenizer can't express."""
        tokenizer, words = self.predictor.model.tokenizer, list(dict.fromkeys(expression.split()))
        encoded, _ = tokenizer.encode(words)
        unknown = tokenizer.tokenizer.unk_token_id
        return tuple(word for word, ids in zip(words, encoded, strict=True) if unknown in ids)

    def download(self, request: Request, threshold: float, kind: Kind, folder: Path) -> Path:
        """Write what `maskris predict` would write for the photo: the JSON, or a ZIP of its folder.

        Args:
            request: As for `respond`.
            threshold: As for `ThresholdedMask.at`.
            kind: JSON or ZIP.
            folder: Gets the file.

        Raises:
            RefusedError: If the photo is gone.
        """
        predictions = self.respond(request).predictions(threshold)
        photo = read_photo(request.path, request.name, self.limits)
        with TemporaryDirectory() as results:
            stem = Path(request.name).stem
            # As if the photo lay beside the JSON: that is where the visitor will put them.
            place = Path(results) / stem / request.name
            turned = orientation_of(request.path)
            saved = save_predictions(place, predictions, results, model=self.name, image=photo, orientation=turned)
            if kind == "json":
                return Path(shutil.copy(saved.json, folder / f"{stem}_prediction.json"))
            return Path(shutil.make_archive(str(folder / f"{stem}_masks"), "zip", results, stem))


def _place(*key: Hashable) -> list[Any]:
    """A place for one value, empty until it is computed: `lru_cache` keeps those that were used last."""
    return []


def public_name(name: str) -> str:
    """A model's name without where this machine keeps it: of a path, whether it is there or not, the last two parts."""
    path = Path(name).resolve() if Path(name).exists() else Path(name)
    return "/".join(path.relative_to(path.anchor).parts[-2:])


def at_page_size(photo: Image.Image) -> Image.Image:
    """A photo from `LEAST` to `MOST`: small ones are enlarged by a whole number, so that their pixels stay crisp."""
    longest = max(photo.size)
    if longest > MOST:
        return photo.resize([max(1, round(side * MOST / longest)) for side in photo.size], Image.Resampling.BOX)
    return ImageOps.scale(photo, -(-LEAST // longest), Image.Resampling.NEAREST)
