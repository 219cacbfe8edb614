"""How far long work is: a bar on terminals, a line now and then elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

T = TypeVar("T")

_EVERY = 30.0  # seconds between lines where there is no terminal


class Progress:
    """Work that is under way; `show_progress` opens one.

    Args:
        description: What is done, such as ``"evaluating"``.
        total: How many units there are.
        done: Units done before; they don't count for the rate.
        unit: The unit in the plural, such as ``"rows"``, to show units per second.
        shown: Show anything.
        console: Where; stderr by default.
    """

    def __init__(
        self, description: str, total: int, done: int, unit: str | None, shown: bool, console: Console | None
    ) -> None:
        self.description, self.total, self.before, self.done, self.unit = description, total, done, done, unit
        self.console, self.shown = console or Console(stderr=True), shown
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = RichProgress(
            *columns,
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task(description, total=total, completed=done, note="")
        self._start = self._said = time.perf_counter()

    def move_to(self, done: int) -> None:
        """So many units are done in all; says nothing where there is no terminal."""
        self.done = done
        self._bar.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """Show a text beside the numbers, such as a loss."""
        self._bar.update(self._task, note=text)

    def describe(self, description: str) -> None:
        """Say what is done now."""
        self.description = description
        self._bar.update(self._task, description=description)

    def advance(self, units: int = 1) -> None:
        """So many more units are done; their number per second is shown if they have a name."""
        self.done += units
        now = time.perf_counter()
        rate = (self.done - self.before) / max(now - self._start, 1e-9)
        note = f"{rate:.1f} {self.unit}/s" if self.unit else ""
        self._bar.update(self._task, completed=self.done, **({"note": note} if note else {}))
        if self.shown and not self.console.is_terminal and now - self._said > _EVERY:
            self._said = now
            left = (self.total - self.done) / max(rate, 1e-9) / 60
            what = " ".join(filter(None, [f"{self.done:,} of {self.total:,}", self.unit]))
            text = ", ".join(filter(None, [f"{self.description}: {what}", note, f"about {left:.0f} min left"]))
            self.console.print(text, highlight=False, markup=False)


@contextmanager
def show_progress(
    description: str,
    total: int,
    *,
    done: int = 0,
    unit: str | None = None,
    shown: bool = True,
    console: Console | None = None,
) -> Iterator[Progress]:
    """Show how far the block is; see `Progress` for the arguments."""
    bar = Progress(description, total, done, unit, shown, console)
    with bar._bar:
        yield bar


def track(items: Iterable[T], description: str, total: int, *, shown: bool = True) -> Iterator[T]:
    """The items one after the other, with the progress shown."""
    with show_progress(description, total, shown=shown) as bar:
        for item in items:
            yield item
            bar.advance()
