"""What commands say: tables through rich, sentences as they are, so that paths stay whole when they are copied."""

import sys
from typing import Any


def say(text: str) -> None:
    """Write a line to standard output; nothing in it is wrapped or taken for markup."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show(renderable: Any) -> None:
    """Write a table or another object that rich can draw."""
    import rich

    rich.print(renderable)
