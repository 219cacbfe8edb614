"""``maskris predict``: what phrases mean in one photo, or in as many as a folder or a file of rows names."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from maskris.cli.common import quickstart_model, say, show

if TYPE_CHECKING:
    from maskris.inference.batch import ManyResult
    from maskris.inference.predictor import Predictor


_FILES = (".csv", ".jsonl", ".ndjson")


def predict(
    source: Path,
    expressions: list[str] | None = None,
    *,
    model: str | None = None,
    out: Path = Path("predictions"),
    threshold: float = 0.5,
    images: Path | None = None,
    masks: bool = False,
    overlays: bool = False,
    retry_errors: bool = False,
    overwrite: bool = False,
    batch_size: int = 32,
    images_at_once: int | None = None,
    workers: int = 2,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    model_class: str | None = None,
) -> int:
    """Segment what phrases mean in a photo, in every photo of a folder, or in the photos that a file names.

    One photo gives an overlay and masks as PNG, and JSON with COCO RLE. A folder, with phrases, or a file with the
    columns image and expression (CSV, or JSON Lines) gives a line of JSON per row in results.jsonl, and the same
    command goes on where it was stopped or killed. The exit code is 1 if some rows failed.

    Args:
        source: A photo, a folder, or a .csv, .jsonl or .ndjson file.
        expressions: Phrases, each in quotes; in a file they are there already.
        model: A run folder, a model folder or a Hub id; by default the model of `maskris quickstart` in this folder.
        out: Folder to write to.
        threshold: Probability above which a pixel belongs to the mask.
        images: Folder that the photos of a file are relative to; by default the file's own.
        masks: Also write the mask of every row as a PNG (folders and files).
        overlays: Also write the mask of every row on its photo (folders and files).
        retry_errors: Do rows again that failed (folders and files).
        overwrite: Replace files that another program, or a prediction for another photo, has written (one photo).
        batch_size: Most expressions at once.
        images_at_once: Photos encoded together; by default 8 on a GPU and 1 on the CPU (folders and files).
        workers: Threads that read photos ahead (folders and files).
        device: Such as cuda or cpu; the fastest by default.
        precision: Numbers in which the network computes.
        model_class: Class of a model of your own, such as my_module.MyModel.
    """
    many = source.is_dir() or source.suffix.lower() in _FILES
    if not many:
        for option, given in (("--images", images), ("--masks", masks), ("--overlays", overlays)):
            _refuse(option, bool(given))
        _refuse("--retry-errors", retry_errors)
        if not expressions:
            raise ValueError(f'Say what to look for: maskris predict {source} "the man on the left"')
        if not overwrite:
            from maskris.inference.save import check_free

            check_free(source, len(expressions), out)
    elif overwrite:
        raise ValueError("--overwrite is for a single photo; for a folder or a file, choose another folder with --out")
    chosen = quickstart_model("give --model with") if model is None else model

    def load() -> "Predictor":
        from maskris.inference.predictor import Predictor
        from maskris.utils.imports import model_class as import_class

        own = import_class(model_class)
        return Predictor.from_pretrained(
            chosen, device=device, precision=precision, batch_size=batch_size, model_class=own
        )

    if not many:
        assert expressions
        _predict_one(load(), source, expressions, out, threshold, overwrite)
        return 0
    from maskris.inference.batch import predict_batch
    from maskris.inference.batch_inputs import open_rows
    from maskris.utils.process import StopSignals

    with open_rows(source, expressions or [], images=images, leave_out=out) as rows, StopSignals() as signals:
        result = predict_batch(
            load(),  # once it is clear that there is something to predict
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
    _summarize(result)
    if not result.complete:
        say(f"Stopped by signal {signals.received}; the same command goes on from there")
        return 128 + int(signals.received or 0)
    return 1 if result.failed else 0


def _refuse(option: str, given: bool) -> None:
    if given:
        raise ValueError(f"{option} is for a folder of photos or a file of rows; a single photo takes no such option")


def _predict_one(
    predictor: "Predictor", photo: Path, expressions: list[str], out: Path, threshold: float, overwrite: bool
) -> None:
    from maskris.inference.save import save_predictions
    from maskris.reporting.tables import Table

    results = predictor.predict(expressions, image=photo, threshold=threshold)
    saved = save_predictions(photo, results, out, model=predictor.name, image=predictor.image, overwrite=overwrite)
    boxes = [None if result.box is None else ", ".join(f"{value:.0f}" for value in result.box) for result in results]
    rows = [
        (result.expression, f"{result.score:.2f}", box or "nothing found")
        for result, box in zip(results, boxes, strict=True)
    ]
    show(Table(["expression", "score", "box (x, y, w, h)"], rows))
    say("\n".join(["Written:", *(f"  {path}" for path in (saved.overlay, *saved.masks, saved.json))]))


def _summarize(result: "ManyResult") -> None:
    earlier = f" after {result.before:,} of an earlier call" if result.before else ""
    rate = f" ({result.now / max(result.seconds, 1e-9):.1f} rows/s)" if result.now else ""
    say(f"{result.now:,} of {result.rows:,} rows done{earlier} in {result.seconds:.1f} s{rate}: {result.file}")
    if result.failed:
        say("\n".join([f"{result.failed:,} of them failed:", *(f"  {error}" for error in result.errors)]))
        if (more := result.failed - len(result.errors)) > 0:
            say(f'  and {more:,} more: the lines with "error" in {result.file}')
        say("Once the photos are there, --retry-errors does these rows again")
