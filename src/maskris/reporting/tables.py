"""`Table`, for the terminal (rich), as Markdown and as CSV; and the tables of any result of this package."""

import csv
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskris.utils.files import atomic_file

if TYPE_CHECKING:
    from rich.table import Table as RichTable

NOTHING = "–"  # noqa: RUF001 (an en dash: no expression defines this number)
_NUMBER = re.compile(rf"[-+]?\d|{NOTHING}?$")
_NARROWEST = 12  # columns of names are not made narrower than this, or than their longest name
_PERCENT = len("100.00")  # so that columns of several tables stand below each other
_TIGHT = 8  # tables of more columns have one blank between them, others two

# By name and not by class: a command that prepares data imports neither PyTorch nor what other results need.
_MODULES = {
    "scores": ("Scores", "Evaluation"),
    "labels": ("LabelReport",),
    "data": ("PrepareReport", "CombinedReport"),
    "fetched": ("Item", "FetchPlan", "FetchReport"),
    "released": ("Released",),
    "robustness": ("Robustness", "RobustnessComparison"),
    "study": ("StudyResults",),
    "claims": ("Finding", "Claim", "Reproduction"),
}


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows. Columns in which every cell begins with a digit are numbers.

    A row whose first cell is empty belongs to the one above it; a terminal sets such groups apart.

    Attributes:
        headings: One for each column.
        rows: As many cells in each; ``None`` is an empty one.
        title: Above the table.
        caption: Below the table: what the numbers are.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    caption: str = ""

    def to_rich(self) -> "RichTable":
        """The table for a terminal. On a narrow one names are wrapped, never numbers."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            box=box.SIMPLE_HEAD,
            padding=0 if len(self.headings) > _TIGHT else (0, 1, 0, 0),
            title=Text(self.title) if self.title else None,
            title_justify="left",
            caption=Text(self.caption) if self.caption else None,
            caption_justify="left",
        )
        for heading, cells, number in zip(self.headings, self._columns(), self._numeric(), strict=True):
            widest = max(map(len, cells), default=0)
            word = max(map(len, " ".join(cells).split()), default=0)
            narrowest = min(widest, _NARROWEST)
            if number:
                narrowest = max(word, _PERCENT if any("." in cell for cell in cells) else 0)
                # The heading is broken at its blanks rather than make the column wider.
                words = max(map(len, heading.split()), default=1)
                heading = "\n".join(textwrap.wrap(heading, max(widest, words))) or heading
            table.add_column(
                Text(heading),
                justify="right" if number else "left",
                overflow="fold",
                no_wrap=number and word == widest,
                min_width=narrowest,
            )
        grouped = any(not _text(row[0]) for row in self.rows)
        for i, row in enumerate(self.rows):
            if grouped and i and _text(row[0]):
                table.add_section()
            table.add_row(*(Text(_text(cell)) for cell in row))
        return table

    def to_markdown(self, level: str = "") -> str:
        """The table without its caption; columns of numbers are aligned at the right.

        Args:
            level: Such as ``"##"`` to have the title as a heading above the table.
        """
        heading, *rows = (
            f"| {' | '.join(_text(cell).replace('|', chr(92) + '|') or ' ' for cell in row)} |"
            for row in (self.headings, *self.rows)
        )
        rule = f"|{''.join('---:|' if number else '---|' for number in self._numeric())}"
        title = [f"{level} {self.title}", ""] if level and self.title else []
        return "\n".join([*title, heading, rule, *rows])

    def to_csv(self) -> str:
        """Headings and rows, separated by commas."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.headings, *self.rows])
        return text.getvalue()

    def _columns(self) -> list[list[str]]:
        return [[_text(row[i]) for row in self.rows] for i in range(len(self.headings))]

    def _numeric(self) -> list[bool]:
        return [bool(i and all(map(_NUMBER.match, cells))) for i, cells in enumerate(self._columns())]


def tables_of(result: Any, **options: Any) -> list[Table]:
    """The tables of a result, in the order in which a terminal shows them.

    Args:
        result: Scores, an evaluation, a report of prepared data, robustness, a study, a reproduction, a list of claims
            or of findings; a table is its own table.
        **options: What the result's tables leave open: ``by`` for the breakdowns of an evaluation, ``metric`` for
            robustness and studies.

    Raises:
        TypeError: If it is none of these.
    """
    tables: list[Table] = [result] if isinstance(result, Table) else _module(result).tables(result, **options)
    return tables


def to_markdown(result: Any, **options: Any) -> str:
    """A result as a page or a section of Markdown; arguments and errors as for `tables_of`.

    Robustness takes also ``pictures`` and a study ``plot``: files that the page shows.
    """
    if not isinstance(result, Table) and hasattr(module := _module(result), "markdown"):
        return str(module.markdown(result, **options))
    parts = [part for table in tables_of(result, **options) for part in (table.to_markdown("###"), table.caption)]
    return "\n\n".join(filter(None, parts)) + "\n"


def write_csv(result: Any, path: str | Path) -> Path:
    """Write numbers of a result as one CSV file; its path. An existing one is replaced.

    Of robustness and studies every run is written, as fractions; of others the first of `tables_of`.
    """
    if not isinstance(result, Table) and hasattr(module := _module(result), "runs_table"):
        result = module.runs_table(result)
    path = Path(path)
    with atomic_file(path) as file:
        file.write(tables_of(result)[0].to_csv())
    return path


def _module(result: Any) -> Any:
    one = result[0] if isinstance(result, Sequence) and result else result
    names = {cls.__name__ for cls in type(one).__mro__}
    for module, known in _MODULES.items():
        if not names.isdisjoint(known):
            return import_module(f"maskris.reporting.{module}")
    raise TypeError(f"There are no tables of {type(one).__name__}, but of {', '.join(chain(*_MODULES.values()))}")


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in per cent, or a dash where nothing defines it."""
    return NOTHING if value is None or value != value else f"{100 * value:.{digits}f}"


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
