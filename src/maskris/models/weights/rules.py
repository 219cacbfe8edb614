"""Published parameter names as ours: every name has a rule, which renames it or says why it is left behind."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Dropped:
    """What takes the place of our name where a published parameter is knowingly left behind.

    Attributes:
        reason: Why nothing is lost.
    """

    reason: str


Rule = tuple[str, str | Dropped]
"""A pattern for whole published names and our name for it, or why there is none."""


def below(old: str, new: str, rules: list[Rule]) -> list[Rule]:
    """The same rules for a network that is part of another."""
    return [(old + pattern, target if isinstance(target, Dropped) else new + target) for pattern, target in rules]


def rename(name: str, rules: list[Rule]) -> list[str] | None:
    """Our names for one published parameter: one, three for a fused projection, none if it is knowingly dropped.

    Returns:
        ``None`` if no rule knows the name. An empty name stands for a third of a fused projection that has no place:
        ``"{,,v}"`` in a rule keeps the values alone, where ``"{q,k,v}"`` keeps all three.
    """
    for pattern, new in rules:
        match = re.fullmatch(pattern, name)
        if match:
            if isinstance(new, Dropped):
                return []
            ours = match.expand(new)
            if "{,,v}" in ours:
                return ["", "", ours.replace("{,,v}", "v")]
            return [ours.replace("{q,k,v}", part) for part in "qkv"] if "{q,k,v}" in ours else [ours]
    return None


def dropped(names: Iterable[str], rules: list[Rule]) -> dict[str, list[str]]:
    """Of these published names those that are left behind, under the reason."""
    found: dict[str, list[str]] = {}
    for name in names:
        target = next((new for pattern, new in rules if re.fullmatch(pattern, name)), None)
        if isinstance(target, Dropped):
            found.setdefault(target.reason, []).append(name)
    return found


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
