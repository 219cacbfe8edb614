"""`write_report`: run folders to one HTML file; what the command `maskris report` does."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from maskris.data.table import ReferringTable
from maskris.evaluation.bootstrap import Unit
from maskris.evaluation.cache import evaluate_cached
from maskris.models.base import RISModel, weights_sha256
from maskris.models.loading import load_model
from maskris.models.weights.released import find_released
from maskris.models.weights.released_files import released_folder
from maskris.reporting.html.contents import Report, Subject
from maskris.reporting.html.examples import draw_galleries
from maskris.reporting.html.sections import compose
from maskris.reporting.html.selection import KEPT, SavedRows, reason_against, saved_rows
from maskris.reporting.plots import new_figure
from maskris.robustness.results import CARD, Robustness, RobustnessComparison
from maskris.training.run_record import RunRecord, names_of, read_run
from maskris.utils.files import atomic_file
from maskris.utils.process import Precision, fastest_device


@dataclass(frozen=True)
class WrittenReport:
    """What `write_report` did.

    Attributes:
        path: The page.
        report: What it was made of.
        notes: What was evaluated or left out, in sentences.
    """

    path: Path
    report: Report
    notes: list[str] = field(default_factory=list)


def write_report(
    runs: Sequence[str | Path],
    out: str | Path = "report.html",
    *,
    table: ReferringTable | None = None,
    names: Sequence[str] | None = None,
    gallery: int = 6,
    robustness: str | Path | None = None,
    protocol: str | None = None,
    interval_unit: Unit = "image",
    resamples: int = 2000,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    precision: Precision = "fp32",
    workers: int = 2,
    reduced_decoding: bool = False,
    model_class: type[RISModel] | str | None = None,
) -> WrittenReport:
    """Write one HTML file on one run or several: metrics with intervals, breakdowns, curves, pictures, configuration.

    The file needs no other file, no network and no JavaScript. With several runs, the others are compared with the
    first one.

    Args:
        runs: Run folders of `train`, folders of models, released names, or files of rows that `Evaluation.save` wrote
            (``.parquet``). With such files there are no pictures.
        out: The file to write.
        table: What to evaluate the models on. Their rows are kept in ``RUN/report``: what was evaluated of the same
            weights and data is not evaluated again. Without a table, rows that lie in the run folders are taken.
        names: What to call the runs; by default what tells their folders apart.
        gallery: Expressions in each group of pictures (best, median, worst, and disagreements of the first two runs);
            0 for no pictures. They need a table.
        robustness: Folder that `maskris robustness` has written about these runs.
        protocol: How predictions are compared with the truth; by default as the runs were validated.
        interval_unit: What is drawn again for the intervals; see `bootstrap_intervals`.
        resamples: How often.
        batch_size: Most expressions at once.
        device: Such as ``"cuda"``; the fastest by default.
        precision: Numbers in which the networks compute.
        workers: Processes that load images.
        reduced_decoding: As for `evaluate`.
        model_class: The models' class, if it is none of this package.

    Raises:
        FileNotFoundError: If a folder is missing, or holds no run or no results of robustness.
        ImportError: If matplotlib is not installed, which draws the charts.
        ValueError: If the runs do not fit each other, the kept rows or the robustness, or a file is damaged.
    """
    new_figure(1, 1)  # before anything is evaluated
    if gallery < 0:
        raise ValueError(f"--gallery is a number of expressions, not {gallery}")
    folders = [Path(run) for run in runs]
    records = [RunRecord(folder, "") if folder.is_file() else read_run(_local(folder)) for folder in folders]
    called = names or names_of([folder.with_suffix("") if folder.is_file() else folder for folder in folders])
    if len(called) != len(runs):
        raise ValueError(f"--names needs one name for each of the {len(runs)} runs, not {len(called)}")
    results = [] if robustness is None else _robustness_results(Path(robustness))
    notes: list[str] = []
    device = str(device or fastest_device())
    saved = [saved_rows(folder) for folder in folders]
    rule = protocol or (_protocol_of(called, records, saved) if table is not None else "")
    subjects = []
    for name, record, rows in zip(called, records, saved, strict=True):
        if table is None or record.folder.is_file():
            _check_weights(rows, record, model_class)
            file, evaluation = rows.file, rows.clean
        else:
            file = record.folder / KEPT
            evaluation, new = evaluate_cached(
                load_model(record.folder, model_class), table, rule, file, name=str(record.folder),
                batch_size=batch_size, device=device, precision=precision, workers=workers,
                reduced_decoding=reduced_decoding,
            )  # fmt: skip
            notes.append(f"{name}: {len(evaluation):,} expressions{'' if new else ', evaluated before'}; {file}")
        perturbed = {}
        for what, one in rows.perturbed.items():
            if evaluation is None or not (why := reason_against(evaluation, one)):
                perturbed[what] = one
                continue
            notes.append(f"{name}: its rows on {what} are left out, as they don't go with those on clean input. {why}")
        where = "" if file is None else str(file.relative_to(record.folder)) if file != record.folder else file.name
        subjects.append(Subject(name, record, evaluation, where, perturbed))
    worse = _robustness_of(subjects, results, model_class, resamples) if results else None
    report = Report(subjects, (), worse, interval_unit, resamples)
    if table is not None and gallery and any(folder.is_file() for folder in folders):
        notes.append("No pictures: rows have no masks")
    elif table is not None and gallery:
        galleries = draw_galleries(report, table, gallery, device=device, precision=precision, model_class=model_class)
        report = replace(report, galleries=galleries)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as page:
        page.write(compose(report))
    return WrittenReport(path, report, notes)


def _protocol_of(names: Sequence[str], records: Sequence[RunRecord], saved: Sequence[SavedRows]) -> str:
    """The one that all runs were validated under, and that files of rows follow."""
    found = {name: one.protocol for name, one in zip(names, records, strict=True) if one.protocol is not None}
    for name, record, rows in zip(names, records, saved, strict=True):
        if rows.clean is not None and rows.file == record.folder:
            found[name] = rows.clean.protocol.name
    if len(set(found.values())) > 1:
        different = ", ".join(f"{name}: {protocol}" for name, protocol in found.items())
        raise ValueError(f"The runs were validated under different protocols ({different}); choose one with --protocol")
    return next(iter(found.values()), "maskris")


def _local(run: Path) -> Path:
    """A run folder itself, or the folder of a released checkpoint."""
    released = None if run.is_dir() else find_released(str(run))
    return run if released is None else released_folder(released)


def _check_weights(rows: SavedRows, record: RunRecord, model_class: type[RISModel] | str | None) -> None:
    """Refuse rows that are known to be of other weights."""
    known = None if rows.clean is None else rows.clean.fingerprint.get("weights")
    if known and record.checkpoint and weights_sha256(load_model(record.folder, model_class)) != known:
        raise ValueError(
            f"{rows.file} was measured with other weights than {record.folder} holds now; give --data to evaluate "
            "them, or remove the file"
        )


def _robustness_results(folder: Path) -> list[Robustness]:
    cards = [*folder.glob(CARD), *sorted(folder.glob(f"*/{CARD}"))]
    if not cards:
        raise FileNotFoundError(f"{folder} holds no result of `maskris robustness`")
    return [Robustness.load(card.parent) for card in cards]


def _robustness_of(
    subjects: Sequence[Subject], results: Sequence[Robustness], model_class: type[RISModel] | str | None, resamples: int
) -> RobustnessComparison:
    """What was measured of the weights that the runs hold, under the runs' names."""
    found = {one.card["weights"]: one for one in results}
    runs = []
    for subject in subjects:
        if subject.record.folder.is_file():
            continue
        known = None if subject.evaluation is None else subject.evaluation.fingerprint.get("weights")
        one = found.get(known or weights_sha256(load_model(subject.record.folder, model_class)))
        if one is not None:
            runs.append(replace(one, card={**one.card, "name": subject.name}))
    if not runs:
        names = ", ".join(subject.name for subject in subjects)
        raise ValueError(f"--robustness: {results[0].folder.parent} has no result about the weights of {names}")
    return RobustnessComparison(tuple(runs), resamples)
