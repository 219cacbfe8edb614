"""A folder goes on with the run that it belongs to, and with one process at a time."""

import errno
import os
import subprocess
import sys

import pytest

from maskris.utils.runstore import (
    FolderInUseError,
    OtherRunError,
    RunStore,
    differences,
    lock_folder,
    require_same_run,
)

HOLD = """
import sys, time
from pathlib import Path
from maskris.utils.runstore import lock_folder

with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_goes_on_with_its_run_alone(tmp_path):
    folder, manifest = tmp_path / "deep" / "run", {"data": "d1", "size": (4, 4), "note": "first"}
    store = RunStore(folder, manifest, ["data", "size"])
    assert (store.read(), store.check()) == (None, None)
    assert not folder.exists()
    assert store.claim() == manifest
    same = RunStore(folder, {**manifest, "note": "second"}, ["data", "size"])
    assert same.claim() == same.check() == {"data": "d1", "size": [4, 4], "note": "first"}
    other = RunStore(folder, {"data": "d2", "size": (4, 5)}, ["data", "size"])
    for action in (other.claim, other.check):
        with pytest.raises(OtherRunError) as caught:
            action()
        assert str(caught.value) == (
            f"{folder} belongs to another run:\n  data: 'd1' there, 'd2' now\n  size: [4, 4] there, [4, 5] now\n"
            "Go on with the old values, or choose another folder"
        )
    assert same.read() == {"data": "d1", "size": [4, 4], "note": "first"}, "it was not touched"


def test_an_update_adds_to_what_is_there_and_refuses_another_run(tmp_path):
    first = RunStore(tmp_path, {"data": "d", "a": 1}, ["data"])
    assert first.update() == {"data": "d", "a": 1}
    assert RunStore(tmp_path, {"data": "d", "b": 2}, ["data"]).update() == {"data": "d", "a": 1, "b": 2}
    assert first.read() == {"data": "d", "a": 1, "b": 2}
    with pytest.raises(OtherRunError, match="data: 'd' there, 'e' now"):
        RunStore(tmp_path, {"data": "e", "c": 3}, ["data"]).update()
    assert first.read() == {"data": "d", "a": 1, "b": 2}


def test_a_damaged_manifest_is_named(tmp_path):
    store = RunStore(tmp_path, {"a": 1}, ["a"], name="mine.json")
    (tmp_path / "mine.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"mine\.json is damaged or no JSON object"):
        store.claim()


def test_differences_name_both_values():
    old, new = {"a": 1, "b": [1, 2], "gone": "x"}, {"a": 2, "b": (1, 2), "came": None}
    assert differences(old, new) == [
        "  a: 1 there, 2 now",
        "  gone: 'x' there, nothing now",
        "  came: nothing there, None now",
    ]
    assert differences(old, new, ["b", "gone"]) == ["  gone: 'x' there, nothing now"]
    old, new = {"v": {"lr": 1, "with": [], "same": 3}}, {"v": {"lr": 2, "with": ["x=1", "y"], "same": 3, "more": 0}}
    assert differences(old, new) == [
        "  v, lr: 1 there, 2 now",
        "  v, with: nothing there, x=1, y now",
        "  v, more: nothing there, 0 now",
    ]
    assert differences(old, old) == []
    old, new = {"a": 1}, {"a": 2}
    assert differences(old, new, {"a": "number of a"}) == ["  number of a: 1 there, 2 now"]
    hashes = {"sha": "0123456789", "model": "runs/a"}, {"sha": "abcdefghijk", "model": "runs/b"}
    lines = differences(*hashes, {"sha": "weights"}, shown={"sha": "model"})
    assert lines == ["  weights: runs/a (01234567) there, runs/b (abcdefgh) now"]


def test_the_advice_is_the_callers(tmp_path):
    require_same_run(tmp_path, {"a": [1]}, {"a": (1,)})
    with pytest.raises(OtherRunError, match=r"belongs to another run:\n  a: 1 there, 2 now\nTake the other one"):
        require_same_run(tmp_path, {"a": 1}, {"a": 2}, advice="Take the other one")


def test_a_lock_keeps_a_second_process_out_and_a_killed_one_keeps_nobody_out(tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        store = RunStore(folder, {}, [])
        words = r"Another process is at work in .*run; wait until it ends"
        with pytest.raises(FolderInUseError, match=words), store.lock():
            raise AssertionError("two processes are at work")
    finally:
        process.kill()
        process.communicate()
    with store.lock(timeout=10):
        pass
    with lock_folder(folder):  # and it is free after the block
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_from_working(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl", reason="Windows has no flock")

    def refuse(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock_folder(tmp_path):
        pass


def test_an_error_in_the_block_releases_the_lock_and_is_not_hidden(tmp_path):
    with pytest.raises(OSError, match="full"), lock_folder(tmp_path):
        raise OSError("disk full")
    with lock_folder(tmp_path):
        pass
