"""What is asked of glibc, and that it does it: measured in a process of its own."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from maskris.training import distributed as allocator

glibc = pytest.mark.skipif(allocator._glibc() is None, reason="no glibc")

GROWS_AND_SHRINKS = """
import os, sys
from types import SimpleNamespace
import torch
from maskris.training.distributed import tune_allocator, return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

told = sys.argv[1] != "default" and tune_allocator(SimpleNamespace(gradient_checkpointing=sys.argv[1] == "frugal"))
for _ in range(2):  # by default the second time counts: glibc learns from the first block that is freed
    before = resident()
    tensors = [torch.ones(2**18) for _ in range(100)] + [torch.ones(12 * 2**18)]  # 100 x 1 MiB, 12 MiB
    small = torch.ones(2**10)  # holds the end of the heap
    tensors.pop()
    large = resident() - before
    del tensors
    held = resident() - before
    return_freed_memory()
    print(round(large), round(held), round(resident() - before), told)
    del small
"""


def run(mode, **environment):
    import os

    kept = {k: v for k, v in os.environ.items() if k not in allocator._SETTINGS}
    words = (
        subprocess.run(
            [sys.executable, "-c", GROWS_AND_SHRINKS, mode],
            env=kept | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        .stdout.splitlines()[0]
        .split()
    )
    return (*map(int, words[:3]), words[3])


@glibc
def test_freed_memory_is_kept_until_it_is_returned():
    large, held, returned, told = run("keep")
    assert large >= 111  # the 12 MiB that were freed are held
    assert held >= 111
    assert returned <= 15
    assert told == "False"


@glibc
def test_where_memory_counts_large_blocks_go_at_once():
    large, held, returned, told = run("frugal")
    assert 98 <= large <= 106
    assert held >= 98  # small ones stay
    assert returned <= 15
    assert told == "True"


@glibc
def test_what_the_user_told_glibc_stays():
    large, *_, told = run("frugal", MALLOC_MMAP_THRESHOLD_=str(2**30), MALLOC_TRIM_THRESHOLD_=str(2**30))
    assert large >= 111
    assert told == "False"


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    assert not allocator.tune_allocator(SimpleNamespace(gradient_checkpointing=True))
    allocator.return_freed_memory()
