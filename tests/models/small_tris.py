"""The golden files of the official TRIS: its two stages, its scorer and one of its training runs."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor


def golden(shared: Path, name: str) -> Any:
    """A reference file of TRIS; weights and inputs in fp32, ids as int64."""
    path = shared / "reference" / "weak" / name
    if path.suffix == ".json":
        return json.loads(path.read_text())
    return {key: value.float() if value.is_floating_point() else value.long() for key, value in load_file(path).items()}


def far(ours: Tensor, official: Tensor) -> float:
    """The largest difference, relative to the largest value where that exceeds 1."""
    assert ours.shape == official.shape
    return (ours.double() - official.double()).abs().max().item() / max(1.0, official.abs().max().item())
