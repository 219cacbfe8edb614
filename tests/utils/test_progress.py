"""Progress: a bar on terminals, a line now and then elsewhere, and nothing where it is not wanted."""

import io

import pytest
from rich.console import Console

from maskris.utils import progress
from maskris.utils.progress import show_progress, track


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=200)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_off_terminals_there_is_a_line_every_half_minute(clock):
    out = console(False)
    with show_progress("scoring", 1000, done=400, unit="rows", console=out) as bar:
        for seconds in (10, 10, 11, 10, 21):
            clock[0] += seconds
            bar.advance(100)
        bar.move_to(1000)
    assert out.file.getvalue().splitlines() == [
        "scoring: 700 of 1,000 rows, 9.7 rows/s, about 1 min left",
        "scoring: 900 of 1,000 rows, 8.1 rows/s, about 0 min left",
    ]


def test_work_without_a_unit_has_no_rate(clock):
    out = console(False)
    with show_progress("scoring", 10, console=out) as bar:
        bar.describe("scoring again")
        clock[0] += 60
        bar.advance()
    assert out.file.getvalue() == "scoring again: 1 of 10, about 9 min left\n"


@pytest.mark.parametrize("keep", [True, False])
def test_on_terminals_there_is_a_bar(keep):
    out = console(True)
    with show_progress("scoring", 10, done=2, unit="rows", keep=keep, console=out) as bar:
        bar.advance(3)
        bar.describe("scoring again")
        bar.note("loss 0.5")
    text = out.file.getvalue()
    assert "5/10" in text
    assert "scoring again" in text
    assert "loss 0.5" in text
    assert text.endswith("\x1b[2K") != keep, "a bar that is not kept is erased"


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_shown_where_it_is_not_wanted(clock, terminal):
    out = console(terminal)
    with show_progress("scoring", 10, shown=False, console=out) as bar:
        clock[0] += 60
        bar.advance(3)
        bar.note("loss 0.5")
    assert out.file.getvalue() == ""


def test_track_gives_all_items_and_ends_when_its_user_does(clock, capsys):
    assert list(track(iter("abc"), "reading", 3, shown=False)) == ["a", "b", "c"]
    items = track(iter("abc"), "reading", 3)
    assert next(items) == "a"
    clock[0] += 60
    assert next(items) == "b"
    items.close()
    assert capsys.readouterr().err == "reading: 1 of 3, about 2 min left\n"
