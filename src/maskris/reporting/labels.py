"""Pseudo masks as a table: how many referents got one, how large they are, and how sure the teacher was."""

from collections.abc import Callable

from maskris.labeling.report import FULL, TINY, LabelReport, Quartiles
from maskris.reporting.tables import NOTHING, Table, percent


def tables(report: LabelReport) -> list[Table]:
    """One table with a column for each split that was labeled."""
    notes = [f"Masks by {report.origin}."]
    if any(one.labeled < one.referents for one in report.splits):
        rest = "are in the table with masks of source none" if report.kept else "are left out"
        notes.append(f"Referents without a mask {rest}.")
    if report.others:
        notes.append(f"{report.others:,} row(s) of other splits are in the table as they were.")
    table = counts_table(report)
    return [Table(table.headings, table.rows, "pseudo masks", "\n".join([*notes, f"Written: {report.out}"]))]


def counts_table(report: LabelReport) -> Table:
    """The numbers alone."""
    rows = {
        "referents": [f"{one.referents:,}" for one in report.splits],
        "with a mask": [f"{one.labeled:,}" for one in report.splits],
        "of all, %": [percent(one.coverage, 1) for one in report.splits],
        "nothing found": [f"{one.nothing:,}" for one in report.splits],
        "too unsure": [f"{one.unsure:,}" for one in report.splits],
        f"masks below {100 * TINY:g} % of the photo": [f"{one.tiny:,}" for one in report.splits],
        f"masks above {100 * FULL:g} %": [f"{one.full:,}" for one in report.splits],
    }
    quartiles = ("lower quartile", "median", "upper quartile")
    for i, name in enumerate(quartiles):
        rows[f"area of the masks, % of the photo: {name}" if i == 0 else f"area: {name}"] = [
            _at(one.areas, i, lambda share: percent(share, 1)) for one in report.splits
        ]
    for i, name in enumerate(quartiles):
        rows[f"score: {name}"] = [_at(one.scores, i, "{:.2f}".format) for one in report.splits]
    return Table(["", *(one.split for one in report.splits)], [[name, *cells] for name, cells in rows.items()])


def _at(values: Quartiles | None, i: int, written: Callable[[float], str]) -> str:
    return NOTHING if values is None else written(values[i])
