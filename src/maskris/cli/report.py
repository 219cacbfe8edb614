"""Write one HTML file on runs: numbers with intervals, curves, pictures."""

from pathlib import Path

from maskris.cli.common import check_output, say
from maskris.cli.options import DataOptions, IntervalOptions, ModelOptions, ProtocolName


def report(
    runs: list[Path],
    *,
    data: DataOptions,
    out: Path = Path("report.html"),
    names: list[str] | None = None,
    gallery: int = 6,
    robustness: Path | None = None,
    protocol: ProtocolName | None = None,
    intervals: IntervalOptions,
    model: ModelOptions,
) -> None:
    """Write one HTML file on one run or several: metrics with intervals, breakdowns, curves, pictures, configuration.

    The file needs no other file, no network and no JavaScript. With several runs, the others are compared with the
    first one. With --data the models are evaluated, and the rows are kept in RUN/report: what was evaluated of the same
    weights and data is not evaluated again. Without it, rows that lie in the run folders are taken.

    Args:
        runs: Run folders of `maskris train`, folders of models, names of `maskris models`, or rows that --out of
            `maskris score` or `maskris evaluate` wrote.
        data: What to evaluate them on.
        out: The .html file to write.
        names: A name for each of them; by default those of their folders.
        gallery: Expressions in each group of pictures (best, median, worst, and disagreements of the first two runs);
            0 for no pictures.
        robustness: Folder that `maskris robustness` has written about these runs.
        protocol: How predictions are compared with the truth; by default as the runs were validated.
        intervals: Of the metrics.
        model: How the models are run.
    """
    from maskris.reporting.html.report import write_report

    if data.splits and not data.data:
        raise ValueError("--splits is for --data, which says what to evaluate on")
    check_output(out, [*runs, *(data.data or []), robustness], ".html")
    written = write_report(
        runs,
        out,
        table=data.table() if data.data else None,
        names=names,
        gallery=gallery,
        robustness=robustness,
        protocol=protocol,
        interval_unit=intervals.interval_unit,
        resamples=intervals.resamples,
        model_class=model.model_class,
        **model.evaluation(),
        **data.evaluation(),
    )
    for note in written.notes:
        say(note)
    size = written.path.stat().st_size
    say(f"Written: {out} ({size / 1e6:.1f} MB)" if size >= 1e6 else f"Written: {out} ({size / 1e3:.0f} kB)")
