"""`Table`: headings and rows of text, for the terminal (rich), for documents (Markdown) and as CSV."""

import csv
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

NOTHING = "–"  # noqa: RUF001 (an en dash: no expression defines this number)

_NUMBER = re.compile(rf"[-+]?\d|{NOTHING}?$")

_NARROWEST = 12  # columns of names are not made narrower than this, or than their longest name

_PERCENT = len("100.00")  # so that columns of several tables stand below each other

_TIGHT = 8  # tables of more columns have one blank between them, others two


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
            word = max((len(part) for cell in cells for part in cell.split()), default=0)
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

    def to_markdown(self) -> str:
        """The table alone, without title and caption; columns of numbers are aligned at the right."""
        lines = [
            f"| {' | '.join(_text(cell).replace('|', chr(92) + '|') or ' ' for cell in row)} |"
            for row in (self.headings, *self.rows)
        ]
        rule = f"|{''.join('---:|' if number else '---|' for number in self._numeric())}"
        return "\n".join([lines[0], rule, *lines[1:]])

    def to_csv(self) -> str:
        """Headings and rows, separated by commas."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.headings, *self.rows])
        return text.getvalue()

    def _columns(self) -> list[list[str]]:
        return [[_text(row[i]) for row in self.rows] for i in range(len(self.headings))]

    def _numeric(self) -> list[bool]:
        return [bool(i and all(map(_NUMBER.match, cells))) for i, cells in enumerate(self._columns())]


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in per cent, or a dash where nothing defines it."""
    return NOTHING if value is None or value != value else f"{100 * value:.{digits}f}"


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
