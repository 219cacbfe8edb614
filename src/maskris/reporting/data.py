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
    name = " ".join(filter(None, (report.dataset, report.split_by))) + (", raw text" if report.text == "raw" else "")
    table = counts_table(name, report.counts, report.published)
    left_out = "" if report.rejects is None else f"{report.num_rejected} row(s) left out: {report.rejects}"
    return [_captioned(table, *report.notes, left_out, f"Written: {report.out}")]


def counts_table(name: str, counts: Mapping[str, Counts], published: Mapping[str, Counts]) -> Table:
    """Images, referents and expressions of each split, beside the published ones where they exist."""
    rows = [
        [split, *_beside(counts.get(split, Counts(0, 0, 0)), published.get(split, _UNKNOWN))]
        for split in dict.fromkeys([*counts, *published])
    ]
    title = f"{name}: read / published" if published else name
    return Table(["split", *_COUNTED], rows, title, _doubt(published))


def _combined(report: CombinedReport) -> list[Table]:
    combination = report.combination
    notes = [f"{combination.alike:,} referent(s) of the same annotation as others stay apart (--merge joins them)."]
    if combination.merge:
        notes = [
            f"{combination.alike:,} referent(s) joined to others of the same annotation, "
            f"{combination.repeated:,} repeated expression(s) left out: an epoch is shorter by that."
        ]
    if combination.merge and combination.contradictions:
        notes.append(
            f"{combination.contradictions:,} annotation(s) have different masks in different members; their "
            "referents were kept apart."
        )
    if report.rejects is not None:
        left_out = len({(one.file, one.where) for one in report.problems})
        notes.append(f"{left_out} row(s) left out: {report.rejects}")
    compared = [_compared(combination.comparison)] if combination.comparison else []
    return [_dropped(report), *compared, _captioned(_sizes(report), *notes, f"Written: {report.out}")]


def _dropped(report: CombinedReport) -> Table:
    """Training data of each member on images of evaluation splits."""
    leaks = report.combination.leaks
    rows: list[list[str]] = []
    for member, whole in report.combination.members.items():
        rows.append([member, "", *_beside(whole)])
        rows += [["", leak.split, *_beside(leak.counts)] for leak in leaks if leak.member == member]
        rows.append(["", "kept", *_beside(report.combination.kept[member])])
    caption = "an image may be in several splits" if leaks else ""
    return Table(["train of", "also in", *_COUNTED], rows, "train data on images of evaluation splits", caption)


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
    keys = list(zip(*map(whole.column, ("dataset", "split_by", "split")), strict=True))
    for member in dict.fromkeys((dataset, split_by) for dataset, split_by, split in keys if split != TRAIN):
        published = published_sizes(*member)
        doubt = doubt or _doubt(published)
        own = whole.take([row for row, key in enumerate(keys) if key[:2] == member and key[2] != TRAIN])
        for split, counts in count(own).items():
            name = " ".join(filter(None, (*member, split)))
            rows.append([name, *_beside(counts, published.get(split, _UNKNOWN))])
    raw = ", raw text" if "raw" in whole.column("text") else ""
    return Table(["split", *_COUNTED], rows, f"combined{raw}: read / published", doubt)


def _captioned(table: Table, *sentences: str) -> Table:
    return replace(table, caption="\n".join(filter(None, (table.caption, *sentences))))


def _doubt(published: Mapping[str, Counts]) -> str:
    return "" if all(known.confirmed for known in published.values()) else _DOUBT


def _beside(read: Counts, known: Counts = _UNKNOWN) -> tuple[str, str, str]:
    """Images, referents and expressions, each with a slash and the published number where there is one."""
    pairs = ((getattr(read, name), getattr(known, name)) for name in _COUNTED)
    images, referents, expressions = (f"{a:,}" if b is None else f"{a:,} / {b:,}" for a, b in pairs)
    return images, referents, expressions + ("" if known.confirmed else " ?")
