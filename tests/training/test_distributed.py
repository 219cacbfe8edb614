"""Batch statistics over processes, and what is asked of glibc: measured in a process of its own."""

import copy
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from maskris.training import distributed


def test_shared_batch_statistics_keep_parameters_names_and_results():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)))
    model(torch.randn(2, 3, 8, 8))  # statistics other than those of the beginning
    before, parameters = copy.deepcopy(model).eval(), dict(model.named_parameters())
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert [type(module) for module in model.modules()].count(nn.SyncBatchNorm) == 2
    assert {name: id(value) for name, value in model.named_parameters()} == {
        name: id(value) for name, value in parameters.items()
    }  # an optimizer made before goes on with them
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in model.state_dict().items())
    images = torch.randn(1, 3, 8, 8)
    assert torch.equal(model.eval()(images), before(images))


glibc = pytest.mark.skipif(distributed._glibc() is None, reason="no glibc")

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
    kept = {k: v for k, v in os.environ.items() if k not in distributed._SETTINGS}
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
    monkeypatch.setattr(distributed, "_glibc", lambda: None)
    assert not distributed.tune_allocator(SimpleNamespace(gradient_checkpointing=True))
    distributed.return_freed_memory()
