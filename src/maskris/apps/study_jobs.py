"""The runs of a study in processes of their own, some at a time: none is left behind, none loses what it has done."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def run_all(files: list[Path], at_once: int) -> list[Path]:
    """Run jobs to their end, each on a GPU of its own where there are several.

    Ctrl-C, SIGTERM and the end of the terminal stop all of them; every run saves what it has first.

    Args:
        files: Job files, see `maskris.apps.study_run`; the log of each is ``log.txt`` beside it.
        at_once: So many at a time.

    Returns:
        The logs of those that failed.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    gpus = _gpus()
    waiting, running, failed = list(files), {}, []  # type: ignore[var-annotated]
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with signals_as_exceptions(), Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("runs", total=len(files))
        free = list(range(at_once))
        try:
            while waiting or running:
                while waiting and free:
                    slot, file = free.pop(0), waiting.pop(0)
                    running[_start(file, gpus[slot % len(gpus)] if gpus else None)] = (slot, file)
                for process in [p for p in running if p.poll() is not None]:
                    slot, file = running.pop(process)
                    free.append(slot)
                    bar.advance(task)
                    if process.returncode:
                        failed.append(file.with_name("log.txt"))
                time.sleep(0.2)
        except BaseException:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait()
            raise
    return failed


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """What would end the process without a word leaves time to stop the runs, as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()  # Python allows no handlers elsewhere
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if main and hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]  # nohup ignores SIGHUP
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _start(file: Path, gpu: str | None) -> "subprocess.Popen[bytes]":
    environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
    with file.with_name("log.txt").open("ab") as log:
        command = [sys.executable, "-m", "maskris.apps.study_run", str(file)]
        # A session of its own, as Ctrl-C in a terminal goes to all processes of a session, and a training that is told
        # twice to stop doesn't take the time to save.
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def _gpus() -> list[str]:
    if chosen := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return chosen.split(",")
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]
