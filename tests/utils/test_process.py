"""Stop signals (the first one asks to stop, Ctrl-C after it means at once), cores and devices."""

import signal

import pytest

from maskris.utils import process
from maskris.utils.process import Stopped, StopSignals, fastest_device, join_processes, usable_workers


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_repeated_sigterm_changes_nothing_and_ctrl_c_ends_at_once(first):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopSignals() as stop:
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)  # would end this process if it acted as usual
        assert stop.received == first
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.received == first
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_closed_terminal_changes_nothing_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_leaves_nothing_half_done_is_broken_off_at_once_or_not_begun():
    with StopSignals() as stop:
        with pytest.raises(Stopped):
            _terminated_in(stop, done := [])
        assert done == ["begun"]
        with pytest.raises(Stopped):  # already noted: nothing is begun
            _terminated_in(stop, done)
        assert done == ["begun"]
        with stop.interruptible(False):
            signal.raise_signal(signal.SIGTERM)
            done.append("saved")
    assert done == ["begun", "saved"]


def _terminated_in(stop: StopSignals, done: list[str]) -> None:
    with stop.interruptible():
        done.append("begun")
        signal.raise_signal(signal.SIGTERM)
        done.append("went on")


@pytest.mark.parametrize(
    ("granted", "quota", "processes", "wanted", "expected"),
    [
        (16, "max 100000\n", 1, 4, 4),
        (16, "max 100000\n", 1, 64, 16),
        (16, "max 100000\n", 8, 4, 2),
        (16, "400000 100000\n", 1, 64, 4),
        (16, "400000 100000\n", 2, 64, 2),
        (2, "3200000 100000\n", 1, 64, 2),
        (2, "50000 100000\n", 1, 64, 1),
        (4, None, 8, 4, 0),  # the training processes are busy enough
    ],
)
def test_cores_are_shared_by_the_processes_of_a_machine(
    monkeypatch, tmp_path, granted, quota, processes, wanted, expected
):
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(process, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(process.os, "sched_getaffinity", lambda _: range(granted), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert usable_workers(wanted) == expected


def test_a_process_alone_has_the_fastest_device(monkeypatch):
    import torch

    assert join_processes(None) is None
    for cuda, mps, device in ((True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert fastest_device() == torch.device(device)
