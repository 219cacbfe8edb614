"""Prepared data as tables: what was read, beside the published counts."""

from collections.abc import Mapping
from dataclasses import replace

from maskris.data.combine import CombinedReport, Comparison
from maskris.data.prepare import PrepareReport, count
from maskris.data.published_counts import Counts, published_sizes
from maskris.data.table import TRAIN
from maskris.reporting.tables import Table

_COUNTED = ("images", "referents", "expressions")

_UNKNOWN = Counts(None, None, None)

_DOUBT = "? quoted in the literature, without a second source"

_SHOWN = 5


def tables(report: PrepareReport | CombinedReport) -> list[Table]:
    """What was read and written; of combined data first what was dropped and why."""
    if isinstance(report, CombinedReport):
        return _combined(report)
    name = " ".join(part for part in (report.dataset, report.split_by) if part)
    name += ", raw text" if report.text == "raw" else ""
    table = counts_table(name, report.counts, report.published)
    left_out = "" if report.rejects is None else f"{report.num_rejected} row(s) left out: {report.rejects}"
    return [_captioned(table, left_out, f"Written: {report.out}")]


def counts_table(name: str, counts: Mapping[str, Counts], published: Mapping[str, Counts]) -> Table:
    """Images, referents and expressions of each split, beside the published ones where they exist.

    Args:
        name: Of the data set.
        counts: What was read, by split.
        published: What is published; empty where nothing is.
    """
    rows = [
        [split, *_beside(counts.get(split, Counts(0, 0, 0)), published.get(split, _UNKNOWN))]
        for split in dict.fromkeys([*counts, *published])
    ]
    title = f"{name}: read / published" if published else name
    return Table(["split", *_COUNTED], rows, title, _doubt(published))


def _combined(report: CombinedReport) -> list[Table]:
    combination = report.combination
    made = [_dropped(report)]
    if combination.comparison is not None:
        made.append(_compared(combination.comparison))
    notes = [
        f"{combination.merged:,} referent(s) joined to others of the same annotation, "
        f"{combination.repeated:,} repeated expression(s) left out."
    ]
    if combination.contradictions:
        notes.append(
            f"{combination.contradictions:,} annotation(s) have different masks in different members; their "
            "referents were kept apart."
        )
    if report.rejects is not None:
        left_out = len({(one.file, one.where) for one in report.problems})
        notes.append(f"{left_out} row(s) left out: {report.rejects}")
    return [*made, _captioned(_sizes(report), *notes, f"Written: {report.out}")]


def _dropped(report: CombinedReport) -> Table:
    """Training data of each member on images of evaluation splits."""
    rows: list[list[str]] = []
    leaks = report.combination.leaks
    for member, whole in report.combination.members.items():
        rows.append([member, "", *_beside(whole)])
        rows += [["", leak.split, *_beside(leak.counts)] for leak in leaks if leak.member == member]
        rows.append(["", "kept", *_beside(report.combination.kept[member])])
    caption = "an image may be in several splits" if leaks else ""
    title = "train data on images of evaluation splits"
    return Table(["train of", "also in", *_COUNTED], rows, title, caption)


def _compared(comparison: Comparison) -> Table:
    rows = [
        ["the list and our rule", *_beside(comparison.both)],
        ["our rule only: left out", *_beside(comparison.only_rule)],
        ["the list only: kept", *_beside(comparison.only_list)],
    ]
    notes = []
    if comparison.only_list.images:
        notes.append("What only the list keeps is on images of evaluation splits: results on those will be too good.")
    if comparison.unknown:
        few = ", ".join(map(str, comparison.unknown[:_SHOWN])) + (", …" if len(comparison.unknown) > _SHOWN else "")
        notes.append(f"{len(comparison.unknown):,} of its entries, in no member's train split: {few}")
    table = Table(["kept by", *_COUNTED], rows, f"training data by {comparison.file.name}, which is used")
    return _captioned(table, *notes)


def _sizes(report: CombinedReport) -> Table:
    """The combined training data and each member's splits for evaluation."""
    whole = report.combination.table
    rows = [["train, combined", *_beside(count(whole)[TRAIN])]]
    doubt = ""
    members: dict[tuple[str, str], list[int]] = {}
    for row, (dataset, split_by, split) in enumerate(
        zip(*map(whole.column, ("dataset", "split_by", "split")), strict=True)
    ):
        if split != TRAIN:
            members.setdefault((dataset, split_by), []).append(row)
    for (dataset, split_by), own in members.items():
        published = published_sizes(dataset, split_by)
        doubt = doubt or _doubt(published)
        for split, counts in count(whole.take(own)).items():
            name = " ".join(part for part in (dataset, split_by, split) if part)
            rows.append([name, *_beside(counts, published.get(split, _UNKNOWN))])
    raw = ", raw text" if "raw" in whole.column("text") else ""
    return Table(["split", *_COUNTED], rows, f"combined{raw}: read / published", doubt)


def _captioned(table: Table, *sentences: str) -> Table:
    return replace(table, caption="\n".join(filter(None, (table.caption, *sentences))))


def _doubt(published: Mapping[str, Counts]) -> str:
    return "" if all(known.confirmed for known in published.values()) else _DOUBT


def _beside(read: Counts, known: Counts = _UNKNOWN) -> tuple[str, str, str]:
    """Images, referents and expressions, each with a slash and the published number where there is one."""

    def pair(ours: int | None, theirs: int | None) -> str:
        return f"{ours:,}" if theirs is None else f"{ours:,} / {theirs:,}"

    expressions = pair(read.expressions, known.expressions)
    doubt = "" if known.confirmed else " ?"
    return pair(read.images, known.images), pair(read.referents, known.referents), expressions + doubt
