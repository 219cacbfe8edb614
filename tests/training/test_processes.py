"""Runs in processes of their own: killed ones, and several for one run."""

import errno
import json
import os
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from training_jobs import (
    average_together,
    be_refused,
    count_communication,
    fail_together,
    misuse,
    run_and_die,
    run_and_die_while_saving,
    run_and_wait,
    run_averaged,
    run_averaged_and_die_while_saving,
    run_noiseless,
    run_plain,
    run_two,
    stop_together,
)
from training_toys import averages, distributed, same, start, toy_run, weights

from maskris.training import checkpoint
from maskris.training import run_folder as run_folder
from maskris.utils.runstore import FolderInUseError, OtherRunError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and how long its process takes."""
    out = tmp_path_factory.mktemp("whole")
    begin = time.perf_counter()
    run(run_plain, out, {"steps": 30})
    return out, time.perf_counter() - begin


def run(target, *arguments):
    process = start(target, *arguments)
    process.join(120)
    return process.exitcode


def test_a_run_killed_at_random_moments_ends_with_the_same_weights(tmp_path, whole):
    draws, out, steps = random.Random(0), tmp_path / "run", []
    for _ in range(6):  # it saves after every step, so that most kills fall into the writing of a checkpoint
        process = start(run_plain, out, {"steps": 30})
        process.join(draws.uniform(0.1, 0.6) * whole[1])
        process.kill()
        process.join()
        if (out / "last").exists():
            steps.append(checkpoint.load_state(out / "last")["step"])
    assert steps == sorted(steps)
    assert run(run_plain, out, {"steps": 30}) == 0
    assert same(weights(out), weights(whole[0]))
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == list(range(1, 31))


def test_a_run_killed_inside_of_steps_ends_with_the_same_weights(tmp_path, whole):
    for step in (0, 11, 12, 29):
        assert run(run_and_die, tmp_path, step, {"steps": 30, "save_every": 4}) == -signal.SIGKILL
    assert checkpoint.load_state(tmp_path / "last")["step"] == 28
    assert run(run_plain, tmp_path, {"steps": 30}) == 0
    assert same(weights(tmp_path), weights(whole[0]))


def test_a_run_killed_while_saving_ends_with_the_same_weights(tmp_path, whole):
    # Calls: 4 rmtree before the run; of a saving: rmtree, save_file, 10 fsync, rmtree, one or two renamings (two where
    # there is a checkpoint already), fsync, rmtree.
    for call in (2, 6, 12, 17, 18, 19, 18, 19, 20, 21):
        assert run(run_and_die_while_saving, tmp_path, call) in (0, -signal.SIGKILL)
    assert run(run_plain, tmp_path, {"steps": 30}) == 0
    assert same(weights(tmp_path), weights(whole[0]))
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "last", "metrics.jsonl"}


def test_two_trainings_in_one_folder_are_refused_and_a_killed_one_leaves_it_free(tmp_path, monkeypatch):
    process = start(run_and_wait, tmp_path / "run", 3)  # with a worker, which inherits the lock and dies later
    while not (tmp_path / "run" / "waiting").exists():
        assert process.is_alive()
        time.sleep(0.05)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "LOCK_SECONDS", 0.1)
        with pytest.raises(FolderInUseError, match=r"Another process is at work in .*/run; wait until"):
            toy_run(tmp_path / "run")
    distributed(be_refused, 2, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    process.kill()
    process.join()
    toy_run(tmp_path / "run")
    toy_run(tmp_path / "whole")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_from_training(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl", reason="Windows has no flock")

    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    # As a process on another machine left it, where nobody can ask whether it is alive.
    (tmp_path / ".lock").write_text("4711\nanother-machine\n")
    assert toy_run(tmp_path, steps=2).step == 2
    assert (tmp_path / ".lock").read_text() == "4711\nanother-machine\n"


def test_a_killed_run_goes_on_with_the_state_of_its_strategy(tmp_path):
    out = tmp_path / "parts"
    for step in (0, 11):
        assert run(run_averaged, out, step) == -signal.SIGKILL
    assert checkpoint.load_state(out / "last")["step"] == 8
    for call in (7, 12, 21):  # the third file of the first saving, a fsync, the second renaming
        assert run(run_averaged_and_die_while_saving, out, call) == -signal.SIGKILL
    assert checkpoint.load_state(out / "last")["step"] < 30
    assert run(run_averaged, out) == 0
    assert run(run_averaged, tmp_path / "whole") == 0
    assert same(weights(out), weights(tmp_path / "whole"))
    assert same(averages(out), averages(tmp_path / "whole"))
    assert not same(averages(out), weights(out))


def test_the_state_of_a_strategy_is_the_same_in_all_processes_and_after_a_stop(tmp_path):
    distributed(average_together, 2, tmp_path)
    ours = [load_file(tmp_path / f"{name}{rank}.safetensors") for name in ("parts", "whole") for rank in (0, 1)]
    assert all(same(one, ours[0]) for one in ours)
    assert {"norm.running_mean", "norm.num_batches_tracked", "head.weight"} <= ours[0].keys()
    assert same(averages(tmp_path / "parts"), ours[0])
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("gradient_accumulation_steps", [1, 2])
def test_two_processes_are_one(tmp_path, gradient_accumulation_steps):
    distributed(run_noiseless, 2, tmp_path / "two", gradient_accumulation_steps)
    run_noiseless(tmp_path / "one", 1)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[key], two[key], rtol=0, atol=1e-6) for key in one)
    records = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [record["step"] for record in records[1]] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(*records, strict=True):
        assert a["losses"] == pytest.approx(b["losses"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_gradients_are_communicated_once_in_a_step_and_noise_is_not_shared(tmp_path):
    distributed(count_communication, 2, tmp_path)
    (first, noise), (second, other) = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second == [0] * 5  # one bucket; two passes and two parts make four backward passes in each step
    assert len(set(noise + other)) == 20


def test_a_loss_that_is_not_finite_stops_all_processes(tmp_path):
    distributed(fail_together, 2, tmp_path)
    first, second = ((tmp_path / f"error{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert "process 1, part 0, clean = nan, noisy = nan, expressions:\n    toys, ref_id" in first
    assert "process 0" not in first
    assert checkpoint.load_state(tmp_path / "last")["step"] == 2


def test_a_signal_to_one_process_stops_all_and_the_run_goes_on(tmp_path):
    distributed(stop_together, 2, tmp_path / "parts")
    distributed(run_two, 2, tmp_path / "whole")
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    with pytest.raises(OtherRunError, match="processes: 2 there, 1 now"):
        run_two(tmp_path / "whole")


def test_parts_of_the_model_can_not_be_called_past_ddp(tmp_path):
    distributed(misuse, 2, tmp_path)
