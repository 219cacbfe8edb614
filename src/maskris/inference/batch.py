"""`predict_batch`: any number of photos and phrases, each photo encoded once; a killed run goes on where it stopped."""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from maskris.inference.batch_inputs import NO_PHOTO, Row, Rows, open_rows
from maskris.inference.batch_results import ResultsFolder
from maskris.inference.predictor import Photo, Prediction, Predictor
from maskris.inference.visualize import draw_predictions
from maskris.models.base import weights_sha256
from maskris.utils.progress import show_progress

_SHOWN = 5  # errors that the result quotes


@dataclass(frozen=True)
class ManyResult:
    """What became of many predictions.

    Attributes:
        file: ``results.jsonl``, a line per row; in the order of the rows if all are done.
        rows: Rows of the input.
        before: Rows that were done before this call.
        now: Rows that this call has done.
        failed: Rows with an error, of earlier calls too.
        errors: The first few of them: where and why.
        seconds: Wall time of this call.
    """

    file: Path
    rows: int
    before: int
    now: int
    failed: int
    errors: tuple[str, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every row is done; if not, the same call goes on from there."""
        return self.before + self.now == self.rows


def predict_batch(
    predictor: Predictor,
    rows: Rows | str | Path | Sequence[Mapping[str, Any]],
    out: str | Path,
    *,
    threshold: float = 0.5,
    images: str | Path | None = None,
    masks: bool = False,
    overlays: bool = False,
    retry_errors: bool = False,
    images_at_once: int | None = None,
    workers: int = 2,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> ManyResult:
    """Segment what the phrase of each row means in its photo.

    Every row becomes a line of ``out/results.jsonl``, written as soon as it is done: what the input says of it, and
    ``score``, ``box`` (x, y, width, height, or null), ``area``, ``truncated``, ``size`` (height and width of the
    upright photo) and ``mask`` (COCO RLE), or ``error`` with the reason. Rows about the same photo are worked through
    together, wherever they stand. When all are done, the lines are brought into the order of the rows.

    The same call goes on where an earlier one was stopped or killed, and ends with the same bytes (on hardware and
    kernels that repeat their results, such as CPUs). Grouping changes results by no more than the rounding of floats,
    which now and then turns a pixel whose probability lies at the threshold.

    Args:
        predictor: With the model; its `batch_size` is the number of phrases at once.
        rows: A CSV file or JSON Lines with ``image`` and ``expression``, such mappings, or what `open_rows` returned.
        out: Folder to write to. It remembers model, precision, threshold and input, and refuses others.
        threshold: Probability in [0, 1) above which a pixel belongs to the referent.
        images: Folder that the photos of `rows` are relative to; by default that of the file, or the working folder.
        masks: Write each mask as a PNG (255 inside), named in ``mask_file``. Rows without the file are done again.
        overlays: Write each mask on its photo with the phrase, named in ``overlay_file``; likewise.
        retry_errors: Do rows again that ended in an error.
        images_at_once: Photos encoded together; by default 8 on a GPU and 1 on the CPU, where more gain nothing.
        workers: Threads that read photos ahead.
        progress: Show rows per second and the time that remains, on stderr.
        stop: Asked after every portion; a true answer ends the call in good order.

    Raises:
        FileNotFoundError: If there are no such rows.
        ValueError: If the rows can't be used, `out` holds other predictions, or a number is out of range.
        FileExistsError: If `out` holds results of something else.
        RuntimeError: If another process writes to `out`, or the rows change meanwhile.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold is a probability in [0, 1), not {threshold}")
    if images_at_once is None:
        images_at_once = 1 if predictor.device.type == "cpu" else 8
    for name, value in (("images_at_once", images_at_once), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if not isinstance(rows, Rows):
        with open_rows(rows, images=images) as opened:
            return predict_batch(
                predictor, opened, out, threshold=threshold, masks=masks, overlays=overlays, retry_errors=retry_errors,
                images_at_once=images_at_once, workers=workers, progress=progress, stop=stop,
            )  # fmt: skip
    start = time.perf_counter()
    run = {
        "model": predictor.name, "model_sha256": weights_sha256(predictor.model), "precision": predictor.precision,
        "threshold": threshold, "input": rows.source, "input_sha256": rows.sha256,
    }  # fmt: skip
    files = [key for key, asked in (("mask_file", masks), ("overlay_file", overlays)) if asked]
    with ResultsFolder(out, run, len(rows)) as results:
        if results.done.any() and (files or retry_errors):
            results.forget(lambda record: _is_wanted(record, results.path, files, retry_errors))
        before = int(results.done.sum())
        job = Job(predictor, rows, results, threshold, masks, overlays)
        with (
            ThreadPoolExecutor(workers) as pool,
            show_progress("predicting", len(rows), done=before, unit="rows", shown=progress) as bar,
        ):
            for records in job.run(pool, images_at_once, ahead=max(2 * workers, images_at_once)):
                results.append(records)
                bar.advance(len(records))
                if stop is not None and stop():
                    break
        now = int(results.done.sum()) - before
        if before + now == len(rows):
            results.sort()
        failed = np.flatnonzero(results.failed)
        errors = tuple(f"{rows.where(row)}: {results.record(row)['error']}" for row in failed[:_SHOWN].tolist())
    return ManyResult(results.file, len(rows), before, now, len(failed), errors, time.perf_counter() - start)


def _is_wanted(record: dict[str, Any], folder: Path, files: list[str], retry_errors: bool) -> bool:
    """Whether a row that is done can stay as it is, with the files that are asked for."""
    if "error" in record:
        return not retry_errors
    return all(key in record and (folder / record[key]).is_file() for key in files)


_WITHOUT_PHOTO = 1000  # rows that name no photo are written in portions of this many

Record = dict[str, Any]


@dataclass(frozen=True)
class Chunk:
    """Rows whose photos are encoded together, and these photos by their numbers; a text says why there is none."""

    rows: list[Row]
    photos: dict[int, "Future[Photo | str]"]


class Job:
    """What `predict_batch` has to do.

    Args:
        predictor: With the model.
        rows: All rows.
        results: Knows which are done.
        threshold: Probability above which a pixel belongs to the referent.
        masks: Write a PNG for each row.
        overlays: Write a picture for each row.
    """

    def __init__(
        self, predictor: Predictor, rows: Rows, results: ResultsFolder, threshold: float, masks: bool, overlays: bool
    ) -> None:
        self.predictor, self.rows, self.results = predictor, rows, results
        self.threshold, self.masks, self.overlays = threshold, masks, overlays

    def run(self, pool: ThreadPoolExecutor, images_at_once: int, ahead: int) -> Iterator[list[Record]]:
        """The records of all rows that aren't done, a portion at a time.

        Args:
            pool: Reads the photos.
            images_at_once: Photos encoded together.
            ahead: Photos that are read while others are worked on.
        """
        waiting: deque[Chunk] = deque()
        for numbers in self._chunks(images_at_once):
            waiting.append(self._start(numbers, pool))
            while sum(max(1, len(chunk.photos)) for chunk in waiting) > ahead + len(waiting[0].photos):
                yield from self._predict(waiting.popleft())
        while waiting:
            yield from self._predict(waiting.popleft())

    def _chunks(self, images_at_once: int) -> Iterator[npt.NDArray[np.int64]]:
        """The rows that are worked on together; those with nothing to do are passed over.

        The cuts don't depend on what is done: a run that goes on repeats the batches of the one that was killed, and
        the same batches give the same bits.
        """

        def cuts() -> Iterator[npt.NDArray[np.int64]]:
            groups = self.rows.groups()
            for number, rows in groups:
                if number == NO_PHOTO:
                    yield from (rows[i : i + _WITHOUT_PHOTO] for i in range(0, len(rows), _WITHOUT_PHOTO))
                else:
                    others = islice(groups, images_at_once - 1)
                    yield np.concatenate([rows, *(more for _, more in others)])

        return (numbers for numbers in cuts() if not self.results.done[numbers].all())

    def _start(self, numbers: npt.NDArray[np.int64], pool: ThreadPoolExecutor) -> Chunk:
        """Read the rows, and have their photos read."""
        chunk = Chunk([self.rows[number] for number in numbers.tolist()], {})
        for row in chunk.rows:
            photo = int(self.rows.images[row.number])
            if row.error is None and photo not in chunk.photos:
                chunk.photos[photo] = pool.submit(self._load, row)
        return chunk

    def _load(self, row: Row) -> Photo | str:
        path = self.rows.path(row)
        try:
            if not path.is_file():
                if "://" in str(row.image):
                    return f"{row.image} is an address; download the photo first, and name its file"
                # `load_image` would look for a similar name, which takes long in a folder of a million.
                return f"There is no photo {path}"
            return self.predictor.prepare(path, keep=self.overlays)
        except Exception as error:  # decoders raise anything at damaged files, and one file must not end the run
            return str(error) or type(error).__name__

    def _predict(self, chunk: Chunk) -> Iterator[list[Record]]:
        loaded = {number: future.result() for number, future in chunk.photos.items()}
        photos = {number: photo for number, photo in loaded.items() if isinstance(photo, Photo)}
        usable, failed = [], []
        for row in chunk.rows:
            photo = int(self.rows.images[row.number])
            if row.error is None and photo in photos:
                usable.append(row)
            elif not self.results.done[row.number]:
                failed.append({**row.given(), "error": row.error or loaded[photo]})
        if failed:
            yield failed
        yield from self._segment(usable, photos)

    def _segment(self, rows: list[Row], photos: dict[int, Photo]) -> Iterator[list[Record]]:
        size = self.predictor.batch_size
        portions = [rows[start : start + size] for start in range(0, len(rows), size)]
        # Whole portions, even if some of their rows are done: see `_chunks`.
        portions = [portion for portion in portions if not all(self.results.done[row.number] for row in portion)]
        asked = [row for portion in portions for row in portion]
        if not asked:
            return
        places = {number: place for place, number in enumerate(photos)}
        found = self.predictor.stream_photos(
            list(photos.values()),
            [str(row.expression) for row in asked],
            [places[int(self.rows.images[row.number])] for row in asked],
            threshold=self.threshold,
        )
        for portion in portions:
            pairs = zip(portion, islice(found, len(portion)), strict=True)
            yield [self._record(row, prediction, photos) for row, prediction in pairs if not self._is_done(row)]

    def _is_done(self, row: Row) -> bool:
        return bool(self.results.done[row.number])

    def _record(self, row: Row, prediction: Prediction, photos: dict[int, Photo]) -> Record:
        found = prediction.to_dict()
        record = row.given() | {
            "score": round(prediction.score, 6),  # the digits after it depend on the batch
            "box": found["box"],
            "area": found["area"],
            "truncated": found["truncated"],
            "size": list(prediction.mask.shape),
            "mask": found["segmentation"],
        }
        if self.masks:
            path = self._path("masks", row, ".png")
            Image.fromarray(prediction.mask.astype(np.uint8) * np.uint8(255)).save(path)
            record["mask_file"] = path.relative_to(self.results.path).as_posix()
        if self.overlays:
            photo = photos[int(self.rows.images[row.number])].image
            assert photo is not None  # kept by `_load`
            path = self._path("overlays", row, ".jpg")
            draw_predictions(photo, [prediction]).save(path, quality=90)
            record["overlay_file"] = path.relative_to(self.results.path).as_posix()
        return record

    def _path(self, folder: str, row: Row, ending: str) -> Path:
        path = self.results.path / folder / file_name(row, len(self.rows), ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def file_name(row: Row, rows: int, ending: str) -> str:
    """A name for a file about a row: its number, and as much of photo and phrase as any file system takes.

    In folders of a thousand, if there are more than ten thousand rows.

    Args:
        row: The row.
        rows: How many there are.
        ending: With its dot.
    """
    digits = max(4, len(str(rows - 1)))
    words = (Path(str(row.image).replace("\\", "/")).stem, str(row.expression))
    name = "-".join([f"{row.number:0{digits}d}", *filter(None, map(_plain, words))]) + ending
    return f"{row.number // 1000:0{digits - 3}d}/{name}" if rows > 10_000 else name


def _plain(text: str) -> str:
    """Letters and digits of any script, at most 60 bytes."""
    text = re.sub(r"[^\w-]+", "_", text).encode("utf-8")[:60].decode("utf-8", "ignore")
    return text.strip("_-")
