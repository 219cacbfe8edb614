"""Initial weights: as published, or for networks none of whose parts is pretrained."""

from typing import Literal, get_args

Initialization = Literal["published", "scratch"]


def check_initialization(init: Initialization) -> None:
    """Raise a ValueError if `init` is none."""
    if init not in get_args(Initialization):
        raise ValueError(f"init must be one of {', '.join(get_args(Initialization))}, not {init!r}")
