"""Segment what phrases mean in a photo, a folder of them, or rows of a file."""

from pathlib import Path
from typing import TYPE_CHECKING

from maskris.cli.common import DEFAULT_MODEL, default_model, say, show
from maskris.cli.options import ModelOptions

if TYPE_CHECKING:
    from maskris.inference.batch import BatchResult
    from maskris.inference.predictor import Prediction
    from maskris.inference.save import Saved


def predict(
    checkpoint: str,
    source: str | None = None,
    expressions: list[str] | None = None,
    *,
    out: Path = Path("predictions"),
    threshold: float = 0.5,
    images: Path | None = None,
    splits: list[str] | None = None,
    masks: bool = False,
    overlays: bool = False,
    retry_errors: bool = False,
    overwrite: bool = False,
    images_at_once: int | None = None,
    workers: int = 2,
    model: ModelOptions,
) -> int:
    """Segment what phrases mean in a photo, in every photo of a folder, or in the photos that a file names.

    One photo gives a folder with an overlay and masks as PNG, and JSON with COCO RLE. A folder, with phrases, a file
    with the columns image and expression (CSV, or JSON Lines) or prepared data gives a line of JSON per row in
    results.jsonl, and the same command goes on where it was stopped or killed. The exit code is 1 if some rows failed.

    The model may be left out: where the first word is a photo, a file of rows or a folder without a model, and the word
    after it is neither, that is the source, and the model is caris-refcoco-combined.

    Args:
        checkpoint: A run folder, a model folder, a name of `maskris models` or a Hub id.
        source: A photo, a folder, a .csv, .jsonl or .ndjson file, or prepared data (.parquet).
        expressions: Phrases, each in quotes; in a file they are there already.
        out: Folder to write to.
        threshold: Probability above which a pixel belongs to the mask.
        images: Folder of the images, if they aren't found from the file that names them.
        splits: Splits of prepared data; all but train by default.
        masks: Also write the mask of every row as a PNG (folders and files).
        overlays: Also write the mask of every row on its photo (folders and files).
        retry_errors: Do rows again that failed (folders and files).
        overwrite: Replace the results for another photo of the same name (one photo).
        images_at_once: Photos encoded together; by default 8 on a GPU and 1 on the CPU (folders and files).
        workers: Processes or threads that load images.
        model: How it is run.
    """
    from maskris.inference.batch import predict_batch
    from maskris.inference.batch_inputs import READERS, TABLE, read_rows
    from maskris.inference.save import check_free, save_predictions
    from maskris.utils.process import StopSignals

    named, place, phrases = _in_order(checkpoint, source, expressions or [])
    batch = place.is_dir() or place.suffix.lower() in (*READERS, TABLE)
    if batch and overwrite:
        raise ValueError("--overwrite is for a single photo; for a folder or a file, choose another folder with --out")
    batch_only: dict[str, object] = {"--images": images, "--splits": splits, "--masks": masks}
    batch_only |= {"--overlays": overlays, "--retry-errors": retry_errors}
    if not batch:
        if given := [option for option, value in batch_only.items() if value]:
            raise ValueError(f"{given[0]} is for a folder of photos or a file of rows, not for a single photo")
        if not phrases:
            words = f"{named} {place}" if named else place
            raise ValueError(f'Say what to look for: maskris predict {words} "the man on the left"')
        if not place.is_file():
            raise FileNotFoundError(f"There is no photo {place}")
        check_free(place, out, overwrite=overwrite)

    # Before the model is loaded: it must be clear that there is something to predict.
    rows = read_rows(place, phrases, images=images, leave_out=out, splits=splits) if batch else None
    predictor = model.predictor(named or default_model())
    if rows is None:
        found = predictor.predict(phrases, image=place, threshold=threshold)
        saved = save_predictions(place, found, out, model=predictor.name, image=predictor.image, overwrite=overwrite)
        _show_one(found, saved)
        return 0
    with StopSignals() as signals:
        result = predict_batch(
            predictor,
            rows,
            out,
            threshold=threshold,
            masks=masks,
            overlays=overlays,
            retry_errors=retry_errors,
            images_at_once=images_at_once,
            workers=workers,
            stop=lambda: signals.received is not None,
        )
    _show_batch(result)
    if not result.complete:
        say(f"Stopped by signal {signals.received}; the same command goes on from there")
        return 128 + int(signals.received or 0)
    return 1 if result.failed else 0


def _in_order(first: str, second: str | None, rest: list[str]) -> tuple[str | None, Path, list[str]]:
    """The model, ``None`` if it was left out, the source and the phrases."""
    from maskris.inference.batch_inputs import ENDINGS, READERS, TABLE
    from maskris.models.folder import may_be_model, model_folder, why_no_model

    def names_source(word: str) -> bool:
        return Path(word).suffix.lower() in {*ENDINGS, *READERS, TABLE}

    folder = Path(first).is_dir()
    if model_folder(first) is not None or not (folder or names_source(first)):
        if not may_be_model(first) and not Path(first).exists():
            raise FileNotFoundError(f'{why_no_model(first)}\nThe order is: maskris predict MODEL photo.jpg "PHRASE"')
        if second is None:
            raise ValueError(f'Say where to look: maskris predict {first} photo.jpg "the man on the left"')
        return first, Path(second), rest
    if second is None:
        return None, Path(first), []
    there = Path(second).exists()
    if (folder and there) or (names_source(second) and (there or " " not in second)):
        raise ValueError(
            f"{first} {'holds' if folder else 'is'} no model, and {second} is no phrase but a file or folder; the "
            f'order is MODEL SOURCE "PHRASE", where {DEFAULT_MODEL} is a model, for example'
        )
    return None, Path(first), [second, *rest]


def _show_one(found: "list[Prediction]", saved: "Saved") -> None:
    from maskris.reporting.tables import Table

    boxes = [one.box and ", ".join(f"{value:.0f}" for value in one.box) for one in found]
    rows = [(one.expression, f"{one.score:.2f}", box or "nothing found") for one, box in zip(found, boxes, strict=True)]
    show(Table(["expression", "score", "box"], rows, caption="Boxes are x, y, width and height in pixels."))
    say("\n".join(["Written:", *(f"  {path}" for path in (saved.overlay, *saved.masks, saved.json))]))


def _show_batch(result: "BatchResult") -> None:
    earlier = f" after {result.before:,} of an earlier call" if result.before else ""
    rate = f" ({result.now / max(result.seconds, 1e-9):.1f} rows/s)" if result.now else ""
    say(f"{result.now:,} of {result.rows:,} rows done{earlier} in {result.seconds:.1f} s{rate}: {result.file}")
    if result.failed:
        say("\n".join([f"{result.failed:,} of them failed:", *(f"  {error}" for error in result.errors)]))
        if (more := result.failed - len(result.errors)) > 0:
            say(f'  and {more:,} more: the lines with "error" in {result.file}')
        say("Once the photos are there, --retry-errors does these rows again")
