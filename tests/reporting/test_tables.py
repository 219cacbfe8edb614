"""Tables on wide and narrow terminals, in Markdown and as CSV."""

import csv
from io import StringIO

import pytest
from rich.console import Console

from maskris.experiments.claims import Claim
from maskris.experiments.reproduction import Reproduction
from maskris.experiments.verify import Finding
from maskris.reporting import Table, tables_of, to_markdown, write_csv, write_reproduction

TABLE = Table(
    ["method of training", "split", "oIoU", "95 % interval", "note"],
    [
        ["a method with a very long name", "val", "12.34", "11.11 to 14.14", "2 runs"],
        ["", "testA", None, "9.00 to 10.00", "x | [red]y"],
        ["b", "val", "5.00", "4.00 to 1,006.00", "z"],
    ],
    "Title [b]",
    "What it is.",
)


def shown(table, width):
    console = Console(width=width, file=StringIO())
    console.print(table.to_rich())
    return console.file.getvalue()


def test_a_terminal_shows_everything_as_it_is():
    text = shown(TABLE, 120)
    assert "Title [b]" in text
    assert "[red]y" in text
    assert "What it is." in text
    lines = [line.rstrip() for line in text.splitlines()]
    a, b = (next(line for line in lines if value in line) for value in ("12.34", "5.00"))
    assert a.index("12.34") + 5 == b.index("5.00") + 4  # numbers end below each other
    assert lines[lines.index(b) - 1] == ""  # rows without a name belong to the one above
    assert lines[lines.index(a) + 1]


@pytest.mark.parametrize("width", [60, 80])
def test_on_a_narrow_terminal_names_are_wrapped_and_numbers_never(width):
    text = shown(TABLE, width)
    assert max(map(len, text.splitlines())) <= width
    for number in ("12.34", "1,006.00", "11.11", "14.14"):
        assert number in text
    assert "…" not in text


def test_markdown_aligns_numbers_and_keeps_bars_apart():
    assert TABLE.to_markdown().splitlines() == [
        "| method of training | split | oIoU | 95 % interval | note |",
        "|---|---|---:|---:|---|",
        "| a method with a very long name | val | 12.34 | 11.11 to 14.14 | 2 runs |",
        "|   | testA |   | 9.00 to 10.00 | x \\| [red]y |",
        "| b | val | 5.00 | 4.00 to 1,006.00 | z |",
    ]
    assert to_markdown(TABLE).startswith("### Title [b]\n\n| method")
    assert to_markdown(TABLE).endswith("|\n\nWhat it is.\n")


def test_csv_is_read_back(tmp_path):
    file = write_csv(TABLE, tmp_path / "t.csv")
    with file.open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [
            list(TABLE.headings), *([cell or "" for cell in row] for row in TABLE.rows)
        ]  # fmt: skip


def test_many_rows_are_shown():
    table = Table(["name", "N"], [[f"row {i}", f"{i:,}"] for i in range(3000)])
    assert "2,999" in shown(table, 80)
    assert shown(Table(["name", "N"], []), 80).strip()


def test_what_has_no_tables_is_an_error():
    assert tables_of(TABLE) == [TABLE]
    with pytest.raises(TypeError, match="There are no tables of int, but of Scores, Evaluation"):
        tables_of(3)


def test_a_reproduction_is_shown_like_its_findings(tmp_path):
    claim = Claim("T", "toy", "unc", "val", "oIoU", 50.0, "maskris", "r", "Table 1", ("Hm.",), 40)
    findings = (Finding(claim, "not run", ("the data has no toy unc val",)),)
    about = {
        "recipe": "r", "model": "m", "trained": "before", "data": ["d"], "interval": {"unit": "image", "resamples": 9}
    }  # fmt: skip
    made = Reproduction(findings, {}, about, tmp_path)
    assert tables_of(made) == tables_of(findings)
    assert tables_of(findings)[0].caption == "not run: the data has no toy unc val (all)"
    page = to_markdown(made)
    assert to_markdown(findings) in page
    assert write_reproduction(made).read_text(encoding="utf-8") == page
