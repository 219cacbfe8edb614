"""Parameter groups for the optimizer: the parts of a model with their learning rates, without and with weight decay."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import nn


class Part(NamedTuple):
    """A part of a model whose parameters learn at one rate."""

    name: str
    """The name of its group; of the one without weight decay with ", no decay" behind it."""
    module: nn.Module
    lr_factor: float = 1.0
    """Its learning rate over the model's."""
    uses_weight_decay: Callable[[str, nn.Module], bool] | None = None
    """Called with a parameter's name in `module` and the module it belongs to; by default there is one group only."""
    leaves_out: str | None = None
    """Parameters with this in their names are left to later parts."""


def parameter_groups(parts: Iterable[Part], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The groups of all parts that learn, in order; of each part the group without decay first.

    Args:
        parts: A parameter belongs to the first part that has it. Frozen ones belong to none.
        lr: Of parts with factor 1.
        weight_decay: Of what decays.

    Returns:
        Keys ``name``, ``params``, ``lr`` and ``weight_decay``; a group may be empty.
    """
    groups = []
    taken: set[nn.Parameter] = set()
    for part in parts:
        split: dict[bool, list[nn.Parameter]] = {True: []} if part.uses_weight_decay is None else {False: [], True: []}
        for prefix, module in part.module.named_modules():
            for name, parameter in module.named_parameters(prefix, recurse=False):
                left_out = part.leaves_out is not None and part.leaves_out in name
                if parameter.requires_grad and parameter not in taken and not left_out:
                    decays = part.uses_weight_decay is None or part.uses_weight_decay(name, module)
                    split[decays].append(parameter)
                    taken.add(parameter)
        for decays, parameters in split.items():
            name, decay = (part.name, weight_decay) if decays else (f"{part.name}, no decay", 0.0)
            groups.append({"name": name, "params": parameters, "lr": lr * part.lr_factor, "weight_decay": decay})
    return groups
