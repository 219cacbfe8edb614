"""`maskris report`: one HTML file on one run or several, with numbers, curves and pictures."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskris.cli.common import check_output, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maskris.data.table import ReferringTable
    from maskris.evaluation.result import Evaluation
    from maskris.reporting.html.report import Subject
    from maskris.reporting.html.selection import SavedRows
    from maskris.robustness.results import Robustness, RobustnessComparison
    from maskris.training.run_record import RunRecord


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
    from maskris.reporting.html.report import Report
    from maskris.training.run_record import names_of, read_run

    if gallery < 0:
        raise ValueError(f"--gallery is a number of expressions, not {gallery}")
    if splits and not data:
        raise ValueError("--splits is for --data, which says what to evaluate on")
    check_output(out, [*runs, *(data or []), robustness], ".html")
    records = [read_run(folder) for folder in runs]
    called = names or names_of(runs)
    if len(called) != len(runs):
        raise ValueError(f"--names needs one name for each of the {len(runs)} runs, not {len(called)}")
    results = [] if robustness is None else _robustness_results(robustness)
    subjects, galleries = [], []
    table = None if data is None else _table(data, splits)
    if table is None:
        subjects = [_from_folder(name, record, model_class) for name, record in zip(called, records, strict=True)]
    else:
        from maskris.utils.process import fastest_device

        place = device or str(fastest_device())
        rule = protocol or _protocol_of(dict(zip(called, records, strict=True)))
        options: dict[str, Any] = {"batch_size": batch_size, "device": place, "workers": workers}
        for name, record in zip(called, records, strict=True):
            subjects.append(_evaluated(name, record, model_class, table, rule, precision=precision, **options))
    worse = _robustness_of(subjects, results, model_class, resamples) if results else None
    made = Report(subjects, (), worse, interval_unit, resamples)
    if table is not None and gallery:
        from maskris.reporting.html.examples import draw_galleries

        galleries = draw_galleries(made, table, gallery, device=place, precision=precision, model_class=model_class)
    made = replace(made, galleries=galleries)
    made.save(out)
    size = out.stat().st_size
    say(f"Written: {out} ({size / 1e6:.1f} MB)" if size >= 1e6 else f"Written: {out} ({size / 1e3:.0f} kB)")


def _table(data: list[Path], splits: list[str] | None) -> "ReferringTable":
    from maskris.data.table import choose_splits, open_tables

    return choose_splits(open_tables(data), splits, "--splits")


def _robustness_results(folder: Path) -> "list[Robustness]":
    from maskris.robustness.results import CARD, Robustness

    cards = [*folder.glob(CARD), *sorted(folder.glob(f"*/{CARD}"))]
    if not cards:
        raise FileNotFoundError(f"{folder} holds no result of `maskris robustness`")
    return [Robustness.load(card.parent) for card in cards]


def _robustness_of(
    subjects: "list[Subject]", results: "list[Robustness]", own: str | None, resamples: int
) -> "RobustnessComparison":
    """What was measured of the weights that the runs hold, under the runs' names."""
    from maskris.models.base import weights_sha256
    from maskris.models.loading import load_model
    from maskris.robustness.results import RobustnessComparison

    found = {one.card["weights"]: one for one in results}
    runs = []
    for subject in subjects:
        known = None if subject.evaluation is None else subject.evaluation.fingerprint.get("weights")
        one = found.get(known or weights_sha256(load_model(subject.record.folder, own)))
        if one is not None:
            runs.append(replace(one, card={**one.card, "name": subject.name}))
    if not runs:
        names = ", ".join(subject.name for subject in subjects)
        raise ValueError(f"--robustness: {results[0].folder.parent} has no result about the weights of {names}")
    return RobustnessComparison(tuple(runs), resamples)


def _protocol_of(records: "dict[str, RunRecord]") -> str:
    """The one that all runs were validated under."""
    found = {name: record.protocol for name, record in records.items() if record.protocol is not None}
    if len(set(found.values())) > 1:
        different = ", ".join(f"{name}: {protocol}" for name, protocol in found.items())
        raise ValueError(f"The runs were validated under different protocols ({different}); choose one with --protocol")
    return next(iter(found.values()), "maskris")


def _evaluated(
    name: str,
    record: "RunRecord",
    own: str | None,
    table: "ReferringTable",
    protocol: str,
    **options: Any,
) -> "Subject":
    from maskris.evaluation.cache import evaluate_cached
    from maskris.models.loading import load_model
    from maskris.reporting.html.report import Subject
    from maskris.reporting.html.selection import KEPT, saved_rows

    file = record.folder / KEPT
    model = load_model(record.folder, own)
    evaluation, new = evaluate_cached(model, table, protocol, file, name=str(record.folder), **options)
    say(f"{name}: {len(evaluation):,} expressions{'' if new else ', evaluated before'}; {file}")
    return Subject(name, record, evaluation, str(KEPT), _perturbed(name, saved_rows(record.folder), evaluation))


def _from_folder(name: str, record: "RunRecord", own: str | None) -> "Subject":
    """What a run folder holds; rows that are known to be of other weights are an error."""
    from maskris.reporting.html.report import Subject
    from maskris.reporting.html.selection import saved_rows

    found = saved_rows(record.folder)
    if found.clean is None or found.file is None:
        return Subject(name, record, perturbed=found.perturbed)
    of = found.clean.fingerprint.get("weights")
    if of is not None and record.checkpoint:
        from maskris.models.base import weights_sha256
        from maskris.models.loading import load_model

        if weights_sha256(load_model(record.folder, own)) != of:
            raise ValueError(
                f"{found.file} was measured with other weights than {record.folder} holds now; give --data to evaluate "
                "them, or remove the file"
            )
    where = str(found.file.relative_to(record.folder))
    return Subject(name, record, found.clean, where, _perturbed(name, found, found.clean))


def _perturbed(name: str, rows: "SavedRows", clean: "Evaluation") -> "Mapping[str, Evaluation]":
    """Those that are of what `clean` is of; the others are left out with a word."""
    rows, left_out = rows.beside(clean)
    for what, why in left_out.items():
        say(f"{name}: its rows on {what} are left out, as they don't go with those on clean input. {why}")
    return rows.perturbed
