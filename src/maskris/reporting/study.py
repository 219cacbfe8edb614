"""A study as tables, as a section of Markdown and as files."""

from contextlib import suppress
from pathlib import Path
from statistics import fmean

from maskris.experiments.study_results import Comparison, StudyResults
from maskris.reporting.plots import plot_study, share_label
from maskris.reporting.scores import interval_texts, notes_of, seeds_text
from maskris.reporting.tables import Table, write_csv
from maskris.utils.files import atomic_file


def tables(results: StudyResults, metric: str = "mIoU") -> list[Table]:
    """Scores of the variants, and their differences to what they are compared with; ``"mIoU"`` or ``"oIoU"``."""
    rows = []
    for variant in results.variants:
        seconds = [run.done["training_seconds"] for run in results.runs if run.variant == variant and run.done]
        cells = (seeds_text(results.compare(variant, share, metric)) for share in results.study.occlusion)
        rows.append([_label(results, variant), *cells, f"{fmean(seconds):.0f}" if seconds else ""])
    headings = ["variant", *map(share_label, results.study.occlusion), "s / run"]
    scores = Table(headings, rows, f"{results.study.title}: {metric}", _notes(results))
    return [scores, *_differences(results, metric)]


def markdown(results: StudyResults, metric: str = "mIoU", plot: str | None = None) -> str:
    """The study as a section of a page; the file of a plot is relative to the page."""
    scores, *differences = tables(results, metric)
    own = {table.title: table.to_markdown() for table in differences}
    seeds, paper = ", ".join(map(str, results.seeds)), results.study.paper
    parts = [
        f"## {results.study.title}",
        results.study.about.strip(),
        f"{metric} in per cent, mean ± standard deviation over seeds {seeds}.",
        _notes(results),
        scores.to_markdown(),
    ]
    if "Differences" in own:
        title = "Differences in points with the 95 % interval of a paired bootstrap over images"
        if paper:
            title += (
                f"; the paper's are those of {paper.get('table', '')} ({paper.get('metric', 'oIoU')}). The direction "
                "is that of the clean difference, undecided where its interval holds 0 or seeds disagree"
            )
        parts += [f"{title}:", own["Differences"]]
    if "At equal compute" in own:
        parts += ["At equal compute:", own["At equal compute"]]
    if "Seed by seed" in own:
        parts.append(_folded("Differences seed by seed", own["Seed by seed"]))
    if kinds := results.kinds():
        clean = results.study.occlusion[0]
        by_kind = [
            [_label(results, name), *(seeds_text(results.of_kind(name, clean, metric, kind)) for kind in kinds)]
            for name in results.variants
        ]
        text = Table(["variant", *kinds], by_kind).to_markdown()
        parts.append(_folded("By kind of expression, nothing hidden", text))
    if plot:
        parts.append(f"![{results.study.title}]({plot})")
    return "\n\n".join(part for part in parts if part) + "\n"


def _notes(results: StudyResults) -> str:
    return "; ".join(notes_of(one for run in results.runs for one in run.evaluations.values()))


def runs_table(results: StudyResults) -> Table:
    """One row for each run, share hidden and kind of expression; fractions."""
    rows = []
    for run in results.runs:
        for hidden, evaluation in run.evaluations.items():
            kinds = {kind: scores.flat() for kind, scores in evaluation.breakdown("kind").items()}
            for kind, m in {"all": evaluation.metrics, **(kinds if results.kinds() else {})}.items():
                numbers = [round(m[key], 6) if key in m else "" for key in ("N", "oIoU", "mIoU", "Pr@0.5")]
                cost = run.done.get("steps", ""), round(run.done.get("training_seconds", 0), 1) or ""
                rows.append([run.variant, run.seed, hidden, kind, *numbers, *cost])
    return Table(["variant", "seed", "hidden", "kind", "N", "oIoU", "mIoU", "Pr@0.5", "steps", "seconds"], rows)


def write_study(results: StudyResults, folder: Path, metric: str = "mIoU") -> list[Path]:
    """Write ``study.md``, ``results.csv`` and, where matplotlib is installed, ``study.png``; their paths."""
    page, files = folder / "study.md", [write_csv(results, folder / "results.csv")]
    with suppress(ImportError):
        files.append(plot_study(results, metric, folder / "study.png"))
    with atomic_file(page) as file:
        file.write(markdown(results, metric, "study.png" if files[1:] else None))
    return [page, *files]


def _differences(results: StudyResults, metric: str) -> list[Table]:
    """What is compared; a table without rows is left out."""
    study = results.study
    references = {name: study.reference(name) for name in results.variants if name != study.reference(name)}
    same_compute = {one.name: one.same_compute for one in study.variants if one.same_compute is not None}
    by_seed = references if len(results.seeds) > 1 else {}
    with_paper = any(variant.paper is not None for variant in study.variants)
    made = []
    for title, pairs, text, paper in (
        ("Differences", references, _difference, with_paper),
        ("At equal compute", same_compute, _difference, False),
        ("Seed by seed", by_seed, _by_seed, False),
    ):
        rows = []
        for variant, reference in pairs.items():
            if not {variant, reference} <= set(results.variants):
                continue
            compared = (results.compare(variant, share, metric, reference) for share in study.occlusion)
            rows.append([_label(results, variant, reference), reference, *map(text, compared)])
            if paper:
                reported = study.paper_difference(variant)
                rows[-1] += ["" if reported is None else f"{reported:+.2f}", results.direction(variant, metric)]
        headings = ["variant", "against", *map(share_label, study.occlusion), *(["paper", "direction"] * paper)]
        made.append(Table(headings, rows, title))
    return [table for table in made if table.rows]


def _difference(comparison: Comparison) -> str:
    value, ends = interval_texts(comparison.difference, sign="+")
    return f"{value} {ends}" if ends else ""


def _by_seed(comparison: Comparison) -> str:
    """The difference of every seed, in points."""
    return ", ".join(f"{100 * value:+.1f}" for value in comparison.by_seed)


def _label(results: StudyResults, variant: str, reference: str | None = None) -> str:
    """Its name, with the seeds that are in a cell (with a reference: that both have) where that isn't all of them."""
    runs = {(run.variant, run.seed) for run in results.runs}
    seeds = [seed for seed in results.seeds if {(variant, seed), (reference or variant, seed)} <= runs]
    few = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else "no common seed"
    return variant if seeds == results.seeds else f"{variant} ({few})"


def _folded(title: str, text: str) -> str:
    """A part of a page that is seen when its title is clicked, on GitHub as in the documentation."""
    return f"<details markdown>\n<summary>{title}</summary>\n\n{text}\n\n</details>"
