"""Score masks that any model has predicted."""

from pathlib import Path
from typing import Literal

from maskris.cli.common import check_output, say, show
from maskris.cli.options import IntervalOptions, ProtocolName


def score(
    predictions: Path,
    tables: list[Path],
    *,
    protocol: ProtocolName = "original",
    splits: list[str] | None = None,
    threshold: float | None = None,
    missing: Literal["error", "miss"] = "error",
    input_size: int | None = None,
    name: str | None = None,
    against: Path | None = None,
    out: Path | None = None,
    intervals: bool = False,
    interval: IntervalOptions,
) -> None:
    """Compare masks of any model with prepared data, and show what `maskris evaluate` shows of a model of this package.

    Predictions are JSON Lines, JSON or Parquet with a segmentation (COCO RLE or polygons) and what it is about: image
    and expression, or ref_id and number; results.jsonl of `maskris predict` is such a file. Or they are a folder of
    PNGs with names REFID_NUMBER.png.

    Args:
        predictions: The file or folder.
        tables: Parquet files written by `maskris prepare`.
        protocol: How predictions are compared with the truth; published numbers differ in it.
        splits: Splits to evaluate; all but train by default.
        threshold: Probability above which a pixel of a soft mask belongs to the referent.
        missing: Whether expressions without a prediction are an error, or count as misses.
        input_size: Side of the masks for a protocol at the model's input size, such as 448.
        name: Name of the model; by default that of the file.
        against: Also show differences with paired intervals to these predictions, or to rows that --out wrote.
        out: Write one row per expression to this Parquet file.
        intervals: Show how sure every metric is: bootstrap intervals of 95 per cent, by split.
        interval: How they are drawn.
    """
    from maskris.data.table import choose_splits, open_tables
    from maskris.evaluation import scoring
    from maskris.evaluation.result import Evaluation
    from maskris.reporting.scores import differences_table, intervals_table

    if out is not None:
        check_output(out, [predictions, *tables, against], ".parquet")
    table = open_tables(tables)
    chosen = choose_splits(table, splits, "--splits").splits

    def measure(source: Path, called: str | None) -> Evaluation:
        return scoring.score(
            source, table, protocol, splits=chosen, threshold=threshold, missing=missing, input_size=input_size,
            name=called,
        )  # fmt: skip

    result = measure(predictions, name)
    other = None
    if against is not None:
        other = Evaluation.load(against) if Evaluation.is_saved(against) else measure(against, None)
    show(result)
    if intervals:
        show(intervals_table(result, interval.interval_unit, interval.resamples))
    if other is not None:
        names = (str(result.model["name"]), str(other.model.get("name") or against))
        names = names if len(set(names)) == 2 else (str(predictions), str(against))
        show(differences_table(result, other, names, interval.interval_unit, interval.resamples))
    if out is not None:
        say(f"One row per expression: {result.save(out)}")
