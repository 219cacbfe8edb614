"""The process and its surroundings: rank, device, usable cores, and signals that ask it to stop."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    import torch

_HANGUP = getattr(signal, "SIGHUP", None)  # which Windows does not know
Precision = Literal["fp32", "bf16", "fp16"]
"""Numbers in which a network computes."""

SIGNALS = tuple(number for number in (signal.SIGTERM, signal.SIGINT, _HANGUP) if number is not None)
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def is_first_process() -> bool:
    """Whether this is the process that prints and writes: the first that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def join_processes(device: str | None) -> "torch.device | None":
    """Connect the processes that torchrun started; the device of this one, or ``None`` if it is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    import torch
    from accelerate import PartialState

    # Where there is no GPU, accelerate joins processes only if it is told to use the CPU.
    cpu = device == "cpu" or not torch.cuda.is_available()
    return cast("torch.device", PartialState(cpu=cpu).device)


def fastest_device() -> "torch.device":
    """A CUDA GPU, else Apple's, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def usable_cores() -> int:
    """Cores that the operating system and the container grant this process, at least one."""
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # in a container with `--cpus 4`, all 64 cores of the machine count as granted
        quota, period = map(int, _QUOTA.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # no such file, or "max"
        return granted
    return max(1, min(granted, quota // period))


def usable_workers(wanted: int) -> int:
    """The number of worker processes to start: as wanted, but never more than this process's share of the cores."""
    # Set by torchrun and accelerate: the training processes that share the cores of this machine.
    processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(0, min(wanted, usable_cores() // processes))


class Stopped(BaseException):
    """Raised within `StopSignals.interruptible` when the stop is asked for."""


class StopSignals:
    """Notes the first of `SIGNALS` in the block instead of dying, so that the work so far can be saved.

    After that, Ctrl-C (SIGINT) acts as usual, for people who don't want to wait; SIGTERM changes nothing, as it often
    comes twice: a cluster sends it to all processes, and those that started others pass it on. SIGHUP, of a
    terminal that is closed, is noted unless it is ignored, as with nohup.

    Attributes:
        received: Number of the signal that came first, or ``None``.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._raise = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # Python allows no handlers elsewhere
            ours = [one for one in SIGNALS if one != _HANGUP or signal.getsignal(one) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._handle) for number in ours}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            return
        self.received = number
        signal.signal(signal.SIGINT, self._previous.pop(signal.SIGINT))
        if self._raise:
            raise Stopped

    @contextmanager
    def interruptible(self, yes: bool = True) -> Iterator[None]:
        """Break off the work in the block by `Stopped` at once, if `yes`; for work that leaves nothing half done."""
        if yes and self.received is not None:
            raise Stopped
        self._raise = yes
        try:
            yield
        finally:
            self._raise = False


def ignore_signals(worker: int) -> None:
    """Ignore the signals that stop a process; for `DataLoader(worker_init_fn=…)`.

    They go to the whole group of processes. The training process handles them, and a worker that died of one would
    end the training in the middle of a step.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
