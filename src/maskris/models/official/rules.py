"""Published parameter names as ours: every name has a rule, which renames it or says why it is left behind."""

import re
from collections.abc import Iterable
from dataclasses import dataclass


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
