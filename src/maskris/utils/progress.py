"""Progress of long work: a bar on terminals, a line now and then elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

T = TypeVar("T")
_EVERY = 30.0  # seconds between lines where there is no terminal


class Progress:
    """Work that is under way; `show_progress` opens one."""

    def __init__(self, bar: Bar, description: str, total: int | None, done: int, unit: str | None, lines: bool) -> None:
        self.description, self.total, self.before, self.done, self.unit = description, total, done, done, unit
        self._bar, self._lines = bar, lines
        self._task = bar.add_task(description, total=total, completed=done, note="")
        self._start = self._said = time.perf_counter()

    def move_to(self, done: int) -> None:
        """So many units are done in all; prints nothing where there is no terminal."""
        self.done = done
        self._bar.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """Show a text beside the numbers, such as a loss."""
        self._bar.update(self._task, note=text)

    def describe(self, description: str) -> None:
        """Change the description."""
        self.description = description
        self._bar.update(self._task, description=description)

    def advance(self, units: int = 1) -> None:
        """So many more units are done; their number per second is shown if they have a name."""
        now = time.perf_counter()
        self.move_to(self.done + units)
        rate = (self.done - self.before) / max(now - self._start, 1e-9)
        speed = f"{rate:.1f} {self.unit}/s"
        if self.unit:
            self.note(speed)
        if self._lines and now - self._said > _EVERY:
            self._said = now
            unit = f" {self.unit}, {speed}" if self.unit else ""
            text = f"{self.description}: {self.done:,}{unit}"
            if self.total is not None:
                left = (self.total - self.done) / max(rate, 1e-9) / 60
                text = f"{self.description}: {self.done:,} of {self.total:,}{unit}, about {left:.0f} min left"
            self._bar.console.print(text, highlight=False, markup=False)


@contextmanager
def show_progress(
    description: str,
    total: int | None,
    *,
    done: int = 0,
    unit: str | None = None,
    shown: bool = True,
    keep: bool = False,
    console: Console | None = None,
) -> Iterator[Progress]:
    """Show how far the block is.

    Args:
        description: What is done, such as ``"evaluating"``.
        total: How many units there are; ``None`` if unknown.
        done: Units done before; they don't count for the rate.
        unit: The unit in the plural, such as ``"rows"``, to show units per second.
        shown: Show anything.
        keep: Leave the bar on the terminal at the end.
        console: Where; stderr by default.
    """
    console = console or Console(stderr=True)
    with Bar(
        *("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}", "ETA", TimeRemainingColumn()),
        console=console,
        disable=not (shown and console.is_terminal),
        transient=not keep,
    ) as bar:
        yield Progress(bar, description, total, done, unit, lines=shown and not console.is_terminal)


def track(items: Iterable[T], description: str, total: int, *, shown: bool = True) -> Iterator[T]:
    """The items one after the other, with the progress shown."""
    with show_progress(description, total, shown=shown) as bar:
        for item in items:
            yield item
            bar.advance()
