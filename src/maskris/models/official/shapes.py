"""Numbers of a configuration, read off the names and shapes of weights."""

import re
from collections.abc import Mapping

from torch import Tensor


def inner(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights of a part of the network, without the prefix in their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def shape(weights: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of one parameter.

    Raises:
        ValueError: If it is missing, or has another number of dimensions.
    """
    if name not in weights:
        raise ValueError(f"The configuration can't be read off these weights: {name} is missing")
    found = tuple(weights[name].shape)
    if len(found) != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, not the shape {list(found)}")
    return found


def ratio(weights: Mapping[str, Tensor], name: str) -> float:
    """Outputs over inputs of a linear layer's weight."""
    rows, columns = shape(weights, name, 2)
    return rows / columns


def whole(value: float) -> int:
    """A ratio that must be a whole number.

    Raises:
        ValueError: If it is none.
    """
    if value != int(value):
        raise ValueError(f"An inner width must be a multiple of the width, not {value} times")
    return int(value)


def count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the highest number that `pattern` finds."""
    return max((int(match.group(1)) for name in weights if (match := re.match(pattern, name))), default=-1) + 1
