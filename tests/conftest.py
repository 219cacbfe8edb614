"""Fixtures that every test may use."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest
import torch
from browser import chromium, page  # noqa: F401 (fixtures)
from fake_hub import hub, published  # noqa: F401

from maskris.utils.process import usable_cores

# A shell lets what it starts in the background ignore Ctrl-C, for good and for all of its children; here it is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread for each of the processes among which pytest-xdist shares the tests, two for a process alone (-n 0).
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


def pytest_xdist_auto_num_workers() -> int:
    """As many processes as there are cores, counted as the package counts them; each needs 2 GB."""
    return min(8, usable_cores())


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference tensors and real photos; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("MASKRIS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"reference data not found at {folder} (set MASKRIS_SHARED)")
    return folder


# Shared machines stall now and then; a test is judged by what it computes, not by the clock.
hypothesis.settings.register_profile("maskris", deadline=None)
hypothesis.settings.load_profile("maskris")
