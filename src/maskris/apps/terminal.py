"""What commands say: tables through rich, sentences as they are, so that paths stay whole when they are copied."""

import io
import sys
from typing import Any


def say(text: str) -> None:
    """Write a line to standard output; nothing in it is wrapped or taken for markup."""
    _take_any_name()
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show(renderable: Any) -> None:
    """Write a table or another object that rich can draw."""
    import rich

    _take_any_name()
    rich.print(renderable)


def _take_any_name() -> None:
    """Names of files may be no text, and no reason to die; Python writes them so to standard error already."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
