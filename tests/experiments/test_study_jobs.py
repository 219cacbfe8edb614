"""The processes of a study: however it is stopped, its runs stop too, and save what they have."""

import os
import signal
import subprocess
import sys
import time

import pytest

from maskris.experiments.study_runner import run_all
from maskris.training.checkpoint import load_state


def until(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.05)


def kill_all(pid, number):
    """As clusters do: every process is told, those that others will tell as well."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()
    for process in (*map(int, children), pid):
        os.kill(process, number)


@pytest.mark.parametrize(
    ("kill", "number", "code"),
    [
        (os.killpg, signal.SIGINT, 130),
        (kill_all, signal.SIGTERM, 143),
        (os.killpg, signal.SIGHUP, 129),
        (os.kill, signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=["Ctrl-C in the terminal", "stopped by a cluster", "terminal closed", "killed for memory"],
)
def test_the_runs_of_a_study_that_is_stopped_save_and_end(kill, number, code, recipe, table, tmp_path):
    out = tmp_path / "study"
    words = ["study", recipe, "--vary", "strategy.clean_weight=1.0", "--data", table, "--out", out, "--seeds", 0]
    # The first checkpoint would come after hours: there is one only if the run took the time to save.
    endless = ["--training.steps", 10**6, "--training.save_every", 10**6, "--training.log_every", 1, "--threads", 1]
    command = [sys.executable, "-m", "maskris", *map(str, words + endless)]
    study = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    run = out / "runs" / "tiny" / "seed-0"
    until(lambda: (run / "metrics.jsonl").is_file(), study)
    assert not (run / "last").exists()
    kill(study.pid, number)
    complaint = study.communicate(timeout=120)[1].decode()
    assert (study.returncode, "Interrupted" in complaint) == (code, number == signal.SIGINT)
    if number == signal.SIGKILL:
        until((run / "last" / "state.json").is_file, None)
    assert load_state(run / "last")["step"] > 0
    assert not (run / "done.json").exists()


def test_each_run_has_a_gpu_of_its_own_where_there_are_several(tmp_path, monkeypatch):
    # Stands in for a run: waits until as many have begun as should run at once, and tells which GPU it sees.
    stand_in = tmp_path / "python"
    stand_in.write_text(
        """#!/bin/sh
folder=$(dirname "$3")
echo "$CUDA_VISIBLE_DEVICES" > "$folder/gpu"
[ "$folder" = "${folder%-last}" ] || exit 3
until [ "$(ls "$folder"/../*/gpu | wc -l)" -ge 2 ]; do sleep 0.05; done
"""
    )
    stand_in.chmod(0o755)
    files = [tmp_path / name / "job.json" for name in ("0", "1", "2-last")]
    for file in files:
        file.parent.mkdir()
    monkeypatch.setattr(sys, "executable", str(stand_in))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert run_all(files, 2) == [files[2].with_name("log.txt")]
    seen = [file.with_name("gpu").read_text().strip() for file in files]
    assert seen[:2] == ["2", "5"]
    assert seen[2] in ("2", "5")
