"""Stopping in good order when the operating system, a cluster or Ctrl-C asks for it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """Raised within `StopSignals.interruptible` when the stop is asked for."""


class StopSignals:
    """While this context manager is open, the first SIGTERM or SIGINT is noted, and what is under way can be saved.

    After that, Ctrl-C (SIGINT) acts as usual, for people who don't want to wait; SIGTERM changes nothing, as it often
    comes twice: a cluster sends it to all processes, and those that started others pass it on.

    Attributes:
        received: Number of the signal that came first, or ``None``.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._raise = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # Python allows no handlers elsewhere
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            return
        self.received = number
        signal.signal(signal.SIGINT, self._previous.pop(signal.SIGINT))
        if self._raise:
            raise Stopped

    @contextmanager
    def interruptible(self, yes: bool = True) -> Iterator[None]:
        """Work within that leaves nothing half done is broken off by `Stopped` at once."""
        if yes and self.received is not None:
            raise Stopped
        self._raise = yes
        try:
            yield
        finally:
            self._raise = False


def ignore_in_worker(worker: int) -> None:
    """For `DataLoader(worker_init_fn=…)`: signals to the whole group of processes are the training process's to handle.

    A worker that died of one would take the training down in the middle of a step.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
