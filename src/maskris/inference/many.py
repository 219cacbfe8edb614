"""`predict_many`: any number of photos and phrases, each photo encoded once; a killed run goes on where it stopped."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskris.inference.many_job import Job
from maskris.inference.many_progress import Bar
from maskris.inference.many_readers import open_rows
from maskris.inference.many_results import ResultsFolder
from maskris.inference.many_rows import Rows
from maskris.inference.predictor import Predictor
from maskris.models.base import weights_sha256

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


def predict_many(
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
            return predict_many(
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
        with ThreadPoolExecutor(workers) as pool, Bar(len(rows), before, progress) as bar:
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
