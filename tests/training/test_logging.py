import io
import json
import math

from rich.console import Console

from maskris.training.logging import METRICS, Tracker, truncate


def lines(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_lines_are_plain_json(tmp_path):
    with Tracker(tmp_path, step=0, total=10, progress=False) as tracker:
        tracker.train(5, 0.5, {"clean": 0.25, "masked": 0.5}, lr=1e-4, grad_norm=math.inf)
        tracker.evaluate(5, {"oIoU": 0.5, "mIoU": math.nan, "name": "maskris", "table": object()})
    first, second = lines(tmp_path)
    assert first == {
        "event": "train",
        "step": 5,
        "epoch": 0.5,
        "loss": 0.75,
        "losses": {"clean": 0.25, "masked": 0.5},
        "lr": 1e-4,
        "grad_norm": None,
    }
    assert second == {"event": "evaluate", "step": 5, "metrics": {"oIoU": 0.5, "mIoU": None, "name": "maskris"}}


def test_a_resumed_run_removes_what_it_will_write_again(tmp_path):
    good = ['{"event": "train", "step": 1}\n', '{"event": "train", "step": 2}\n']
    (tmp_path / METRICS).write_text("".join([*good, '{"event": "train", "step": 3}\n', '{"event": "tra']))
    truncate(tmp_path / METRICS, 2)
    assert (tmp_path / METRICS).read_text() == "".join(good)
    truncate(tmp_path / METRICS, 0)
    assert (tmp_path / METRICS).read_text() == ""


def test_without_a_terminal_there_is_a_line_for_each_measurement(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    with Tracker(tmp_path, step=0, total=10, console=console) as tracker:
        tracker.evaluate(2, {"oIoU": 0.5, "mIoU": 0.25})
        tracker.train(4, 0.5, {"clean": 0.25}, lr=1e-4, expressions_per_second=12.3)
    text = console.file.getvalue().splitlines()
    assert text[0] == "step 2/10  oIoU 0.5  mIoU 0.25"
    assert text[1] == "step 4/10  oIoU 0.5  mIoU 0.25  loss 0.2500  lr 1.00e-04  rate 12 expr/s"


def test_on_a_terminal_there_is_one_bar(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with Tracker(tmp_path, step=0, total=10, console=console) as tracker:
        tracker.train(4, 0.5, {"clean": 0.25}, lr=1e-4)
        tracker.advance(4)
    text = console.file.getvalue()
    assert "4/10" in text
    assert "loss 0.2500" in text
    assert "ETA" in text


def test_other_processes_write_nothing(tmp_path):
    with Tracker(tmp_path, step=0, total=10, active=False) as tracker:
        tracker.train(4, 0.5, {"clean": 0.25})
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_has_the_same_numbers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Tracker(tmp_path, step=0, total=10, tensorboard=True, progress=False) as tracker:
        tracker.train(4, 0.5, {"clean": 0.25}, lr=0.5)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/losses/clean")] == [(4, 0.25)]
    assert events.Scalars("train/lr")[0].value == 0.5


def test_tensorboard_of_a_resumed_run_has_no_point_twice(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for done, steps in ((0, (2, 4, 6)), (4, (6, 8))):  # killed after step 6, with a checkpoint of step 4
        with Tracker(tmp_path, step=done, total=10, tensorboard=True, progress=False) as tracker:
            for step in steps:
                tracker.train(step, 0.5, {"clean": done + step})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(2, 2), (4, 4), (6, 10), (8, 12)]
