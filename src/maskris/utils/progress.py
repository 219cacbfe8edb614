"""How far many predictions are: a bar on terminals, a line now and then elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY = 30.0  # seconds between lines where there is no terminal


class Bar:
    """Shows rows done, rows per second and the time that remains; use it as a context manager.

    Args:
        rows: Of the whole run.
        done: Rows that were done before; they don't count for the rate.
        shown: Show anything.
        console: Where; stderr by default.
    """

    def __init__(self, rows: int, done: int, shown: bool = True, console: Console | None = None) -> None:
        self.rows, self.before, self.done, self.shown = rows, done, done, shown
        self.console = console or Console(stderr=True)
        columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        self._bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=self.console,
            disable=not (shown and self.console.is_terminal),
            transient=True,
        )
        self._task = self._bar.add_task("predicting", total=rows, completed=done, rate="")

    def __enter__(self) -> "Bar":
        self._start = self._said = time.perf_counter()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, rows: int) -> None:
        """So many more rows are done."""
        self.done += rows
        now = time.perf_counter()
        rate = (self.done - self.before) / max(now - self._start, 1e-9)
        self._bar.update(self._task, completed=self.done, rate=f"{rate:.1f} rows/s")
        if self.shown and not self.console.is_terminal and now - self._said > _EVERY:
            self._said = now
            left = (self.rows - self.done) / max(rate, 1e-9) / 60
            text = f"{self.done:,} of {self.rows:,} rows, {rate:.1f} rows/s, about {left:.0f} min left"
            self.console.print(text, highlight=False)
