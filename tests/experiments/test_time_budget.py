"""How many steps fit into a time: what a run costs beside its steps must not count."""

import pytest

from maskris.experiments import time_budget


@pytest.fixture
def pace(monkeypatch):
    """A machine on which a run costs 3 s and each of its steps a quarter of one."""
    monkeypatch.setattr(time_budget, "_try", lambda steps, *given: 3 + steps / 4)


def test_what_a_run_costs_beside_its_steps_does_not_count(pace):
    assert time_budget.steps_within(60, "shapes-maskris", None, []) == 240


@pytest.mark.parametrize("seconds", [24.9, 0, -5])
def test_too_little_time_is_refused(pace, seconds):
    with pytest.raises(ValueError, match="give it more minutes"):
        time_budget.steps_within(seconds, "shapes-maskris", None, [])
    assert time_budget.steps_within(25, "shapes-maskris", None, []) == 100


def test_a_signal_during_the_trial_stops_everything(monkeypatch):
    class Stopped:
        interrupted, seconds = 2, 1.0

        def fit(self):
            return self

    started = []
    monkeypatch.setattr(time_budget, "build_trainer", lambda *given, **options: started.append(given) or Stopped())
    with pytest.raises(KeyboardInterrupt):
        time_budget.steps_within(60, "shapes-maskris", None, [])
    assert len(started) == 1
