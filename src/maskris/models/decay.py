"""Which parameters of a part decay: the split that all models' parameter groups are made of."""

from collections.abc import Callable

from torch import nn


def split_decay(
    module: nn.Module, decays: Callable[[str, nn.Module], bool]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters without and with weight decay; `decays` sees a parameter's name and the module it belongs to."""
    without: list[nn.Parameter] = []
    with_decay: list[nn.Parameter] = []
    for prefix, part in module.named_modules():
        for name, parameter in part.named_parameters(recurse=False):
            (with_decay if decays(f"{prefix}.{name}", part) else without).append(parameter)
    return without, with_decay
