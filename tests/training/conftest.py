"""Makes `training_toys` importable, also in processes that tests start."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def single_threaded():
    """Toys are too small for threads, and runs that are compared bit for bit need the same number of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
