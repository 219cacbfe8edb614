"""The first signal asks to stop, however often it is repeated; Ctrl-C after it means at once."""

import signal

import pytest

from maskris.utils.process import Stopped, StopSignals


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
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
