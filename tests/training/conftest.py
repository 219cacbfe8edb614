"""Makes `training_toys` importable, also in processes that tests start."""

import sys
from pathlib import Path

import pytest
from tiny import single_thread

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def single_threaded():
    with single_thread():
        yield
