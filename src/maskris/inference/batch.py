"""`predict_batch`: any number of photos and phrases, each photo encoded once; a killed run goes on where it stopped."""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskris.inference.batch_inputs import NO_PHOTO, Row, Rows, read_rows
from maskris.inference.batch_results import COMPARED, RUN, BatchResults, Record
from maskris.inference.predictor import Photo, Prediction, Predictor, check_threshold
from maskris.inference.save import mask_image
from maskris.inference.visualize import draw_predictions
from maskris.models.base import weights_sha256
from maskris.models.folder import called
from maskris.utils.progress import show_progress
from maskris.utils.runstore import RunStore

_SHOWN = 5  # errors that the result quotes
_WITHOUT_PHOTO = 1000  # rows that name no photo are written in portions of this many


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch.

    Attributes:
        file: ``results.jsonl``, a line per row, in the order in which the rows were done.
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
    inputs: Rows | str | Path | Sequence[Mapping[str, Any]],
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
) -> BatchResult:
    """Segment what the phrase of each row means in its photo.

    Every row becomes a line of ``out/results.jsonl``, written as soon as it is done: ``row`` (its number), the columns
    of the input, and ``score``, ``box`` (x, y, width, height, or null), ``area``, ``threshold``, ``truncated``,
    ``size`` (height and width of the upright photo), ``orientation`` (EXIF's, by which the photo was turned; 1 if not),
    ``segmentation`` (COCO RLE), ``mask_source`` (``"pseudo"``) and ``mask_origin`` (the model, the hash of its weights
    and the threshold), or ``error`` with the reason. Rows about the same photo are worked through together, wherever
    they stand.

    The same call goes on where an earlier one was stopped or killed, and ends with the same bytes (on hardware and
    kernels that repeat their results, such as CPUs). Grouping changes results by no more than the rounding of floats,
    which now and then turns a pixel whose probability lies at the threshold.

    Args:
        predictor: With the model; its `batch_size` is the number of phrases at once.
        inputs: A CSV file or JSON Lines with ``image`` and ``expression``, a table of referents, mappings, or what
            `read_rows` returned.
        out: Folder to write to. Its manifest holds model, precision, threshold and input; others are refused.
        threshold: Probability in [0, 1) above which a pixel belongs to the referent.
        images: Folder that the photos of `inputs` are relative to; by default that of the file, or the working folder.
        masks: Write each mask as a PNG (255 inside), named in ``mask_file``. Rows without the file are done again.
        overlays: Write each mask on its photo with the phrase, named in ``overlay_file``; likewise.
        retry_errors: Do rows again that ended in an error.
        images_at_once: Photos encoded together; by default 8 on a GPU and 1 on the CPU, where more gain nothing.
        workers: Threads that read photos ahead.
        progress: Show rows per second and the time that remains, on stderr.
        stop: Called after every portion; a true answer ends the call in good order.

    Raises:
        FileNotFoundError: If there are no such rows.
        ValueError: If the rows can't be used, `out` holds other predictions, or a number is out of range.
        FileExistsError: If `out` holds results of something else.
        RuntimeError: If another process writes to `out`, or a line in the middle of its results is damaged.
    """
    check_threshold(threshold)
    if images_at_once is None:
        images_at_once = 1 if predictor.device.type == "cpu" else 8
    for name, value in (("images_at_once", images_at_once), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    rows = inputs if isinstance(inputs, Rows) else read_rows(inputs, images=images)
    start = time.perf_counter()
    sha256 = weights_sha256(predictor.model)
    run = {
        "model": predictor.name, "model_sha256": sha256, "precision": predictor.precision,
        "threshold": threshold, "input": rows.source, "input_sha256": rows.sha256,
        "rows": len(rows), "maskris": version("maskris"),
    }  # fmt: skip
    shown = {"model_sha256": "model", "input_sha256": "input"}
    store = RunStore(Path(out).expanduser(), run, COMPARED, name=RUN, shown=shown)
    files = [key for key, wanted in (("mask_file", masks), ("overlay_file", overlays)) if wanted]

    def keep(record: Record) -> bool:
        """Whether a row that is done can stay as it is, with the files that are wanted."""
        if "error" in record:
            return not retry_errors
        return all(key in record and (store.folder / record[key]).is_file() for key in files)

    with store.lock():
        results = BatchResults(store, len(rows), keep)
        before = int(results.done.sum())
        origin = f"{called(predictor.name)} {sha256[:12]}; threshold:{threshold:g}"
        job = _Job(predictor, rows, results, store.folder, threshold, masks, overlays, origin)
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
    errors = tuple(f"{rows.where(row)}: {results.errors[row]}" for row in sorted(results.errors)[:_SHOWN])
    seconds = time.perf_counter() - start
    return BatchResult(results.file, len(rows), before, now, len(results.errors), errors, seconds)


_Chunk = tuple[list[Row], "dict[int, Future[Photo | str]]"]
"""Rows whose photos are encoded together, and these photos by their numbers, or the reasons why there are none."""


@dataclass(frozen=True)
class _Job:
    """What `predict_batch` has to do; the arguments are its own."""

    predictor: Predictor
    rows: Rows
    results: BatchResults
    folder: Path
    threshold: float
    masks: bool
    overlays: bool
    origin: str

    def run(self, pool: ThreadPoolExecutor, images_at_once: int, ahead: int) -> Iterator[list[Record]]:
        """The records of all rows that aren't done, a portion at a time.

        `ahead` photos are read before they are needed; no more are in memory, besides those at work.
        """
        waiting: deque[_Chunk] = deque()
        for numbers in self._chunks(images_at_once):
            waiting.append(self._start(numbers, pool))
            while sum(max(1, len(photos)) for _, photos in waiting) > ahead + len(waiting[0][1]):
                yield from self._predict(*waiting.popleft())
        while waiting:
            yield from self._predict(*waiting.popleft())

    def _chunks(self, images_at_once: int) -> Iterator[npt.NDArray[np.int64]]:
        """The rows that are worked on together, where any of them is to be done.

        The cuts don't depend on what is done: a run that goes on repeats the batches of the one that was killed, and
        the same batches give the same bits.
        """
        groups = self.rows.groups()
        for number, rows in groups:
            if number == NO_PHOTO:
                chunks = [rows[i : i + _WITHOUT_PHOTO] for i in range(0, len(rows), _WITHOUT_PHOTO)]
            else:
                chunks = [np.concatenate([rows, *(more for _, more in islice(groups, images_at_once - 1))])]
            yield from (chunk for chunk in chunks if not self.results.done[chunk].all())

    def _start(self, numbers: npt.NDArray[np.int64], pool: ThreadPoolExecutor) -> _Chunk:
        rows = [self.rows[number] for number in numbers.tolist()]
        loading: dict[int, Future[Photo | str]] = {}
        for row in rows:
            if row.error is None and row.photo not in loading:
                loading[row.photo] = pool.submit(self._load, row)
        return rows, loading

    def _load(self, row: Row) -> Photo | str:
        path = self.rows.path(row)
        try:
            if not path.is_file():
                if "://" in row.given["image"]:
                    return f"{row.given['image']} is an address; download the photo first, and name its file"
                # `load_image` would look for a similar name, which takes long in a folder of a million.
                return f"There is no photo {path}"
            return self.predictor.prepare(path, keep=self.overlays)
        except Exception as error:  # decoders raise anything at damaged files, and one file must not end the run
            return str(error) or type(error).__name__

    def _predict(self, rows: list[Row], loading: "dict[int, Future[Photo | str]]") -> Iterator[list[Record]]:
        done, size = self.results.done, self.predictor.batch_size
        loaded = {number: future.result() for number, future in loading.items()}
        photos = {number: photo for number, photo in loaded.items() if isinstance(photo, Photo)}
        errors = {row.number: row.error or loaded[row.photo] for row in rows if row.photo not in photos or row.error}
        if failed := [row for row in rows if row.number in errors and not done[row.number]]:
            yield [{"row": row.number, **row.given, "error": errors[row.number]} for row in failed]
        usable = [row for row in rows if row.number not in errors]
        portions = [usable[start : start + size] for start in range(0, len(usable), size)]
        # Whole portions, even if some of their rows are done: see `_chunks`.
        portions = [portion for portion in portions if not all(done[row.number] for row in portion)]
        if not (wanted := [row for portion in portions for row in portion]):
            return
        places = {number: place for place, number in enumerate(photos)}
        found = self.predictor.stream_photos(
            list(photos.values()),
            [row.given["expression"] for row in wanted],
            [places[row.photo] for row in wanted],
            threshold=self.threshold,
        )
        for portion in portions:
            pairs = zip(portion, islice(found, len(portion)), strict=True)
            yield [self._record(row, prediction, photos) for row, prediction in pairs if not done[row.number]]

    def _record(self, row: Row, prediction: Prediction, photos: dict[int, Photo]) -> Record:
        found = prediction.to_dict()
        record = {
            "row": row.number,
            **row.given,
            "score": round(prediction.score, 6),  # the digits after it depend on the batch
            **{name: found[name] for name in ("box", "area", "threshold", "truncated")},
            "size": list(prediction.mask.shape),
            "orientation": photos[row.photo].orientation,
            "segmentation": found["segmentation"],
            "mask_source": "pseudo",
            "mask_origin": self.origin,
        }
        if self.masks:
            record["mask_file"] = self._file("masks", row, ".png")
            mask_image(prediction).save(self.folder / record["mask_file"])
        if self.overlays:
            photo = photos[row.photo].image
            assert photo is not None  # kept by `_load`
            record["overlay_file"] = self._file("overlays", row, ".jpg")
            draw_predictions(photo, [prediction]).save(self.folder / record["overlay_file"], quality=90)
        return record

    def _file(self, kind: str, row: Row, ending: str) -> str:
        name = f"{kind}/{file_name(row, len(self.rows), ending)}"
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        return name


def file_name(row: Row, rows: int, ending: str) -> str:
    """A name for a file about a row: its number, and as much of photo and phrase as any file system takes.

    It lies in a folder of a thousand, if there are more than ten thousand `rows`.
    """
    digits = max(4, len(str(rows - 1)))
    words = (Path(row.given["image"].replace("\\", "/")).stem, row.given["expression"])
    name = "-".join([f"{row.number:0{digits}d}", *filter(None, map(_plain, words))]) + ending
    return f"{row.number // 1000:0{digits - 3}d}/{name}" if rows > 10_000 else name


def _plain(text: str) -> str:
    """Letters and digits of any script, at most 60 bytes."""
    text = re.sub(r"[^\w-]+", "_", text).encode("utf-8")[:60].decode("utf-8", "ignore")
    return text.strip("_-")
