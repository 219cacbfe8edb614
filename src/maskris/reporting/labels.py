"""Pseudo masks as a table: how many referents got one, how large they are, and how sure the teacher was."""

from maskris.labeling.report import FULL, TINY, LabelReport, Quartiles
from maskris.reporting.tables import NOTHING, Table, percent


def tables(report: LabelReport) -> list[Table]:
    """One table with a row for each split that was labeled."""
    rows = [
        [
            one.split,
            f"{one.referents:,}",
            f"{one.labeled:,}",
            percent(one.coverage, 1),
            f"{one.nothing:,}",
            f"{one.unsure:,}",
            f"{one.tiny:,}",
            f"{one.full:,}",
            _shares(one.areas),
            NOTHING if one.scores is None else " / ".join(f"{score:.2f}" for score in one.scores),
        ]
        for one in report.splits
    ]
    headings = ["split", "referents", "with a mask", "%", "nothing found", "unsure"]
    headings += [f"< {100 * TINY:g} %", f"> {100 * FULL:g} %", "area, %", "score"]
    rest = "are in the table with masks of source none" if report.kept else "are left out"
    notes = [
        "Areas are shares of the photo; areas and scores by their quartiles (25 / 50 / 75 % of the masks are below).",
        f"Masks by {report.origin}.",
    ]
    if any(one.labeled < one.referents for one in report.splits):
        notes.append(f"Referents without a mask {rest}.")
    if report.others:
        notes.append(f"{report.others:,} row(s) of other splits are in the table as they were.")
    return [Table(headings, rows, "pseudo masks", "\n".join([*notes, f"Written: {report.out}"]))]


def _shares(areas: Quartiles | None) -> str:
    return NOTHING if areas is None else " / ".join(percent(area, 1) for area in areas)
