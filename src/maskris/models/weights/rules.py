"""Published parameter names as ours: every name has a rule, which renames it or says why it is left behind."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from maskris.models.clip.resnet import resize_grid


@dataclass(frozen=True)
class Dropped:
    """What takes the place of our name where a published parameter is knowingly left behind."""

    reason: str
    """Why nothing is lost."""


Rule = tuple[str, str | Dropped]
"""A pattern for whole published names and our name for it, or why there is none."""


def below(old: str, new: str, rules: list[Rule]) -> list[Rule]:
    """The same rules for a network that is part of another."""
    return [(old + pattern, target if isinstance(target, Dropped) else new + target) for pattern, target in rules]


def _apply(name: str, rules: list[Rule]) -> str | Dropped | None:
    """What the first rule that matches makes of a published name; ``None`` if none matches."""
    for pattern, new in rules:
        if match := re.fullmatch(pattern, name):
            return new if isinstance(new, Dropped) else match.expand(new)
    return None


def rename(name: str, rules: list[Rule]) -> list[str] | None:
    """Our names for one published parameter: one, three for a fused projection, none if it is knowingly dropped.

    Returns:
        ``None`` if no rule matches. An empty name stands for a third of a fused projection that has no place:
        ``"{,,v}"`` in a rule keeps the values alone, where ``"{q,k,v}"`` keeps all three.
    """
    ours = _apply(name, rules)
    if not isinstance(ours, str):
        return None if ours is None else []
    if "{,,v}" in ours:
        return ["", "", ours.replace("{,,v}", "v")]
    return [ours.replace("{q,k,v}", part) for part in "qkv"] if "{q,k,v}" in ours else [ours]


def dropped(names: Iterable[str], rules: list[Rule]) -> dict[str, list[str]]:
    """Of these published names those that are left behind, under the reason."""
    found: dict[str, list[str]] = {}
    for name in names:
        if isinstance(target := _apply(name, rules), Dropped):
            found.setdefault(target.reason, []).append(name)
    return found


def map_state(
    state_dict: Mapping[str, Tensor], rules: list[Rule]
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Published weights under our names.

    Returns:
        Our names with their tensors, our names with the published name each came from, and the published names that
        no rule matches.
    """
    ours: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unknown = []
    for name, tensor in state_dict.items():
        names = rename(name, rules)
        if names is None:
            unknown.append(name)
            continue
        for new, part in zip(names, tensor.chunk(len(names)) if len(names) > 1 else [tensor], strict=False):
            if new:
                ours[new] = part
                origin[new] = name
    return ours, origin, unknown


def load_mapped(
    model: nn.Module, state_dict: Mapping[str, Tensor], rules: list[Rule], optional: str = ""
) -> tuple[str, ...]:
    """Load published weights into a model, strictly.

    Args:
        model: Receives the weights in place, in its own dtype and on its own device.
        state_dict: Published names and tensors.
        rules: How published names become ours; the first pattern that matches counts.
        optional: A pattern of our names that may be absent and then keep their values.

    Returns:
        The published names of the bias tables that were resized to another window.

    Raises:
        ValueError: Naming every published key that no rule matches, every parameter of ours that got nothing, and every
            shape that differs. Nothing is loaded then.
    """
    ours, origin, unknown = map_state(state_dict, rules)
    target = model.state_dict()
    problems = [f"unknown key {name}" for name in unknown]
    problems += [f"{origin[name]} has no place in this model (as {name})" for name in ours.keys() - target.keys()]
    missing = [name for name in target.keys() - ours.keys() if not (optional and re.fullmatch(optional, name))]
    problems += [f"nothing was found for {name}" for name in missing]
    resized = []
    for name in [name for name in ours if name in target]:
        if name.endswith("relative_position_bias_table") and len(ours[name]) != len(target[name]):
            ours[name] = resize_bias_table(ours[name], len(target[name]))
            resized.append(origin[name])
        if ours[name].shape != target[name].shape:
            problems.append(
                f"{origin[name]} has shape {list(ours[name].shape)}, {name} needs {list(target[name].shape)}"
            )
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise ValueError(f"These weights do not fit {type(model).__name__} ({len(problems)} problem(s)):\n  {listed}")
    model.load_state_dict(ours, strict=False)
    return tuple(resized)


def resize_bias_table(table: Tensor, length: int) -> Tensor:
    """A relative position bias table ``[(2 w - 1)², heads]`` for another window, bicubically: ``[length, heads]``.

    The same tensor if the length is the same, or one of the two is no square.
    """
    old, new = round(len(table) ** 0.5), round(length**0.5)
    return resize_grid(table, new, new) if old * old == len(table) and new * new == length else table


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


def count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the highest number that `pattern` finds."""
    return max((int(match.group(1)) for name in weights if (match := re.match(pattern, name))), default=-1) + 1
