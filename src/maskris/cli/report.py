"""`maskris report`: one HTML file on one run or several, with numbers, curves and pictures."""

from pathlib import Path
from typing import Literal

from maskris.cli.common import check_output, say


def report(
    runs: list[Path],
    *,
    data: list[Path] | None = None,
    splits: list[str] | None = None,
    out: Path = Path("report.html"),
    names: list[str] | None = None,
    gallery: int = 6,
    robustness: Path | None = None,
    protocol: Literal["maskris", "lavt", "cris", "grefcoco"] | None = None,
    interval_unit: Literal["expression", "image", "referent"] = "image",
    resamples: int = 2000,
    batch_size: int = 32,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    workers: int = 2,
    model_class: str | None = None,
) -> None:
    """Write one HTML file on one run or several: metrics with intervals, breakdowns, curves, pictures, configuration.

    The file needs no other file, no network and no JavaScript. With several runs, the others are compared with the
    first one. With --data the models are evaluated, and the rows are kept in RUN/report: what was evaluated of the same
    weights and data is not evaluated again. Without it, rows that lie in the run folders are taken.

    Args:
        runs: Run folders of `maskris train`, or folders of models.
        data: Parquet files written by `maskris prepare`.
        splits: Splits to evaluate; all but train by default.
        out: The .html file to write.
        names: What to call the runs; by default what tells their folders apart.
        gallery: Expressions in each group of pictures (best, median, worst, and disagreements of the first two runs);
            0 for no pictures.
        robustness: Folder that `maskris robustness` has written about these runs.
        protocol: How predictions are compared with the truth; by default as the runs were validated.
        interval_unit: What is drawn again for the intervals: expressions, or all those about an image or a referent
            together.
        resamples: How often.
        batch_size: Most expressions at once.
        device: Such as cuda or cpu; the fastest by default.
        precision: Numbers in which the networks compute.
        workers: Processes that load images.
        model_class: Class of models of your own, such as my_module.MyModel.
    """
    from maskris.data.table import choose_splits, open_tables
    from maskris.reporting.html.report import write_report

    if splits and not data:
        raise ValueError("--splits is for --data, which says what to evaluate on")
    check_output(out, [*runs, *(data or []), robustness], ".html")
    written = write_report(
        runs,
        out,
        table=choose_splits(open_tables(data), splits, "--splits") if data else None,
        names=names,
        gallery=gallery,
        robustness=robustness,
        protocol=protocol,
        interval_unit=interval_unit,
        resamples=resamples,
        batch_size=batch_size,
        device=device,
        precision=precision,
        workers=workers,
        model_class=model_class,
    )
    for note in written.notes:
        say(note)
    size = written.path.stat().st_size
    say(f"Written: {out} ({size / 1e6:.1f} MB)" if size >= 1e6 else f"Written: {out} ({size / 1e3:.0f} kB)")
