"""What the demo computes: one network for many visitors, which runs once for each photo and never for a threshold."""

import hashlib
import shutil
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, Literal, TypeVar

import numpy as np
from PIL import Image

from maskris.data.masks import box_of
from maskris.demo.checks import Limits, RefusedError, read_expressions, read_photo, safe_name
from maskris.inference.predictor import Prediction, Predictor
from maskris.inference.save import save_predictions
from maskris.inference.visualize import overlay

STEPS = 100
"""Thresholds that can be chosen: 0, 0.01, …, 0.99."""

SHOWN = 480, 1280
"""Least and most pixels of a photo's longer side on the page."""

_THRESHOLDS = np.array([step / STEPS for step in range(STEPS)], dtype=np.float32)

Kind = Literal["zip", "json"]
"""What can be downloaded."""

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
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
class Layer:
    """What was found for one expression, for every threshold of `STEPS` at once.

    A pixel needs one byte, its level: how many of the thresholds its probability exceeds. With the sum of the
    probabilities of each level, masks and scores at these thresholds are exact.

    Attributes:
        expression: As it was asked.
        size: Height and width of the photo.
        levels: ``[h, w]`` uint8, compressed.
        counts: ``[STEPS + 1]`` pixels of each level.
        sums: ``[STEPS + 1]`` sums of their probabilities.
        truncated: Whether the model saw only the beginning of the expression.
        unknown: Words that the model has never seen.
    """

    expression: str
    size: tuple[int, int]
    levels: bytes
    counts: np.ndarray
    sums: np.ndarray
    truncated: bool
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, prediction: Prediction, unknown: tuple[str, ...]) -> "Layer":
        """Keep of a prediction what other thresholds need."""
        levels = np.searchsorted(_THRESHOLDS, prediction.probability).astype(np.uint8)  # [h, w]
        counts = np.bincount(levels.ravel(), minlength=STEPS + 1)
        sums = np.bincount(levels.ravel(), weights=prediction.probability.ravel(), minlength=STEPS + 1)
        height, width = levels.shape
        packed = zlib.compress(levels.tobytes(), 1)
        return cls(prediction.expression, (height, width), packed, counts, sums, prediction.truncated, unknown)

    def at(self, threshold: float) -> Prediction:
        """The prediction at a threshold, rounded to one of `STEPS`; its probabilities are cut to hundredths."""
        step = min(max(round(threshold * STEPS), 0), STEPS - 1)
        levels = np.frombuffer(zlib.decompress(self.levels), dtype=np.uint8).reshape(self.size)
        mask = levels > step
        area = int(self.counts[step + 1 :].sum())
        return Prediction(
            expression=self.expression,
            mask=mask,
            probability=levels / np.float32(STEPS),
            box=box_of(mask) if area else None,
            score=float(self.sums[step + 1 :].sum() / area) if area else 0.0,
            threshold=step / STEPS,
            truncated=self.truncated,
        )


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found for a question.

    Attributes:
        shown: The photo at the size at which the page shows it.
        layers: One per expression.
    """

    shown: Image.Image
    layers: tuple[Layer, ...]

    def predictions(self, threshold: float) -> list[Prediction]:
        """All that was found, cut at a threshold."""
        return [layer.at(threshold) for layer in self.layers]

    def picture(self, predictions: list[Prediction]) -> Image.Image:
        """The photo with the masks in their colors, at the size of the page."""
        masks = [_nearest(prediction.mask, self.shown.size) for prediction in predictions]
        return overlay(self.shown, masks)


class Recent(Generic[T]):
    """The values that were asked for last, at most `most`; for several threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        """A value, or ``None`` if it isn't kept any more."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Keep a value, and let go of the one that was not asked for the longest."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.most:
                self._values.popitem(last=False)


class Desk:
    """Answers the questions of all visitors with one model.

    A `Predictor` holds one photo and serves one caller: every photo gets its own, over the same model, and the network
    works for one visitor at a time. Photos and answers asked for last are kept, so memory is bounded however many
    visitors come; what was let go is computed again.

    Args:
        predictor: Gives the model, its device and precision.
        limits: What a visitor may ask for.
        photos: How many encoded photos to keep.
        answers: How many answers to keep.

    Attributes:
        name: What visitors are told the model is called.
    """

    def __init__(
        self, predictor: Predictor, limits: Limits | None = None, *, photos: int = 8, answers: int = 32
    ) -> None:
        self.predictor = predictor
        self.limits = limits or Limits()
        self.name = public_name(predictor.name)
        self._photos: Recent[tuple[Predictor, Image.Image]] = Recent(photos)
        self._answers: Recent[Answer] = Recent(answers)
        self._network = threading.Lock()

    def question(self, path: Path, name: str, text: str) -> Question:
        """Check what a visitor asks; the photo itself is decoded when it is needed.

        Args:
            path: The visitor's file.
            name: What the visitor calls it.
            text: Expressions, one per line.

        Raises:
            RefusedError: If the file is gone, or the expressions exceed a limit.
        """
        expressions = read_expressions(text, self.limits)
        if not path.is_file():
            raise RefusedError("The photo is no longer here; please upload it again")
        return Question(path, safe_name(name), hashlib.sha256(path.read_bytes()).hexdigest(), expressions)

    def ask(self, question: Question) -> Answer:
        """The answer to a question; the network runs only if it isn't known.

        Raises:
            RefusedError: If the photo can't be read or exceeds a limit.
        """
        key = (question.digest, question.expressions)
        if (answer := self._answers.get(key)) is None:
            with self._network:
                if (answer := self._answers.get(key)) is None:  # somebody may have asked the same meanwhile
                    answer = self._compute(question)
                    self._answers.put(key, answer)
        return answer

    def _compute(self, question: Question) -> Answer:
        known = self._photos.get(question.digest)
        if known is None:
            photo = read_photo(question.path, question.name, self.limits)
            shared = self.predictor
            asker = Predictor(shared.model, None, shared.precision, batch_size=shared.batch_size, name=self.name)
            known = asker.set_image(photo), at_page_size(photo)
            self._photos.put(question.digest, known)
        asker, shown = known
        with warnings.catch_warnings():  # of unknown words and long expressions: the page says it itself
            warnings.simplefilter("ignore", UserWarning)
            found = asker.stream(question.expressions)
            return Answer(shown, tuple(Layer.of(one, self._unknown(one.expression)) for one in found))

    def _unknown(self, expression: str) -> tuple[str, ...]:
        """The words of an expression that the model's tokenizer can't express."""
        tokenizer = self.predictor.model.tokenizer
        unknown = tokenizer.tokenizer.unk_token_id
        words = expression.split()
        encoded, _ = tokenizer.encode(words)
        return tuple(dict.fromkeys(word for word, ids in zip(words, encoded, strict=True) if unknown in ids))

    def download(self, question: Question, threshold: float, kind: Kind, folder: Path) -> Path:
        """Write what `maskris predict` would write for the photo: the JSON, or a ZIP of it with overlay and masks.

        Args:
            question: One that was asked.
            threshold: As for `Layer.at`.
            kind: What is wanted.
            folder: Where to; gets nothing else.

        Raises:
            RefusedError: If the photo is gone.
        """
        predictions = self.ask(question).predictions(threshold)
        photo = read_photo(question.path, question.name, self.limits)
        with TemporaryDirectory() as results:
            # As if the photo lay beside its results: that is where the visitor will put them.
            place = Path(results) / question.name
            saved = save_predictions(place, predictions, results, model=self.name, image=photo)
            if kind == "json":
                return Path(shutil.copy(saved.json, folder))
            return Path(shutil.make_archive(str(folder / f"{place.stem}_masks"), "zip", results))


def public_name(name: str) -> str:
    """A model's name without where this machine keeps it: of a path, whether it is there or not, the last two parts."""
    path = Path(name).resolve() if Path(name).exists() else Path(name)
    return "/".join(path.relative_to(path.anchor).parts[-2:])


def at_page_size(photo: Image.Image) -> Image.Image:
    """A photo within `SHOWN`: small ones are enlarged by a whole number, so that their pixels stay crisp."""
    least, most = SHOWN
    longest = max(photo.size)
    if longest > most:
        size = (max(1, round(photo.width * most / longest)), max(1, round(photo.height * most / longest)))
        return photo.resize(size, Image.Resampling.BOX)
    factor = -(-least // longest)
    return photo.resize((photo.width * factor, photo.height * factor), Image.Resampling.NEAREST)


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A ``[h, w]`` mask at another width and height."""
    rows = ((2 * np.arange(size[1]) + 1) * mask.shape[0]) // (2 * size[1])
    columns = ((2 * np.arange(size[0]) + 1) * mask.shape[1]) // (2 * size[0])
    resized: np.ndarray = mask[rows[:, None], columns]
    return resized
