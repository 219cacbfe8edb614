"""Which parameters of a part decay: the split that models' parameter groups are made of."""

from collections.abc import Callable
from typing import Any

from torch import nn


def split_decay(
    module: nn.Module, uses_weight_decay: Callable[[str, nn.Module], bool]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters without and with weight decay.

    `uses_weight_decay` is called with a parameter's name and the module it belongs to.
    """
    without: list[nn.Parameter] = []
    with_decay: list[nn.Parameter] = []
    for prefix, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            (with_decay if uses_weight_decay(f"{prefix}.{name}", part) else without).append(parameter)
    return without, with_decay


def decay_groups(
    name: str, module: nn.Module, uses_weight_decay: Callable[[str, nn.Module], bool], lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """The groups of a part for the optimizer, without and with decay, of what isn't frozen; none is empty."""
    groups = []
    for suffix, parameters, decay in zip(
        (", no decay", ""), split_decay(module, uses_weight_decay), (0.0, weight_decay), strict=True
    ):
        if learning := [parameter for parameter in parameters if parameter.requires_grad]:
            groups.append({"name": name + suffix, "params": learning, "lr": lr, "weight_decay": decay})
    return groups
