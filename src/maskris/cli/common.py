"""What commands say: tables through rich, sentences as they are, so that paths stay whole when they are copied."""

import io
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

DEFAULT_MODEL = "caris-refcoco-combined"
"""A released checkpoint, trained on most photos and phrases."""


def say(text: str) -> None:
    """Write a line to standard output; nothing in it is wrapped or taken for markup."""
    _take_any_name()
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show(result: Any, **options: Any) -> None:
    """Write the tables of a result, or a table; see `tables_of`."""
    import rich

    from maskris.reporting.tables import tables_of

    _take_any_name()
    for table in tables_of(result, **options):
        # A terminal that is too narrow even for the numbers breaks the lines itself; rich would cut their ends off.
        rich.get_console().print(replace(table, caption="").to_rich(), crop=False)
        for line in table.caption.splitlines():  # wrapped like the table, but never within a path
            say(textwrap.fill(line, rich.get_console().width, break_long_words=False, break_on_hyphens=False))


def show_whole(result: Any) -> None:
    """`show` on a terminal; Markdown elsewhere, whose lines are whole, for grep and for pages."""
    from rich.console import Console

    from maskris.reporting.tables import to_markdown

    if Console().is_terminal:
        show(result)
    else:
        say(to_markdown(result))


def _take_any_name() -> None:
    """Names of files may be no text, and no reason to die; Python writes them so to standard error already."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def default_model() -> str:
    """The model of commands that were given none, said with where it comes from; others are named first."""
    own = Path("quickstart") / "maskris"
    instead = f"; the one of `maskris quickstart` is {own}" if own.is_dir() else ""
    say(f"No model was named, so it is {DEFAULT_MODEL} (`maskris models` lists others{instead})")
    return DEFAULT_MODEL


def check_output(out: Path, inputs: Iterable[str | Path | None], ending: str) -> None:
    """Refuse an ``--out`` that would destroy something, before anything is computed.

    The ending protects the files in a folder that is read (photos, weights, annotations) without a look at each.

    Args:
        out: The file that is going to be written.
        inputs: What the command reads: files, folders, names of models on the Hub, or ``None`` for nothing.
        ending: What the name of such a file ends with, such as ``".parquet"``.

    Raises:
        ValueError: If the file has another ending, is a folder, or is one of the inputs (by whatever path).
    """
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file, such as {out / f'result{ending}'}")
    if out.suffix.lower() != ending:
        raise ValueError(f"--out {out} must end in {ending}, such as {out.with_suffix(ending)}")
    for one in inputs:
        if one is not None and Path(one).exists() and out.exists() and out.samefile(one):
            raise ValueError(f"{out} is read and would be replaced by what is written; choose another --out")
