"""Classes by name: the short names of this package, and dotted paths to classes of one's own.

A short name needs no table. ``lavt`` is the class of `maskris.models.lavt` whose name is LAVT in any spelling,
``ema_teacher`` is EMATeacher of `maskris.strategies.ema_teacher`: a new model or strategy is a file, and nothing else.
Modules are imported by their names, so this file depends on none of them.
"""

import importlib
import pkgutil
from difflib import get_close_matches
from typing import Any

from maskris.utils.imports import working_folder

PACKAGES = {
    "model": "maskris.models",
    "strategy": "maskris.strategies",
    "augmentation": "maskris.data.augment",
}
"""Where the classes with short names are: in modules of a package, or all in one module."""


def find_class(kind: str, name: str, base: type | None = None) -> type:
    """A class by its name.

    Args:
        kind: A key of `PACKAGES`.
        name: A short name (``lavt``), a class name (``LAVT``), a public name (``maskris.LAVT``), or a dotted path
            (``my_module.MyModel``); modules in the working folder are found too.
        base: What the class must derive from.

    Returns:
        The class.

    Raises:
        ValueError: If there is no such class, or it doesn't derive from `base`; says what there is.
    """
    found = load_by_path(name) if "." in name else _by_short_name(PACKAGES[kind], name)
    if found is None:
        close = get_close_matches(_plain(name), short_names(kind), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(short_names(kind))}."
        raise ValueError(f"There is no {kind} {name!r}; {hint} A class of your own needs its module: my_module.MyClass")
    if not isinstance(found, type) or (base is not None and not issubclass(found, base)):
        wanted = base.__name__ if base else "a class"
        raise ValueError(f"{name} is no {kind}: it doesn't derive from {wanted}")
    return found


def short_names(kind: str) -> list[str]:
    """The short names of a kind."""
    package = importlib.import_module(PACKAGES[kind])
    if not hasattr(package, "__path__"):
        return [_plain(name) for name in getattr(package, "__all__", [])]
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return [name for name in names if _by_short_name(PACKAGES[kind], name) is not None]


def _by_short_name(package: str, name: str) -> Any:
    """The class of a package, of the module with its name, or of the one module, in any spelling of the name."""
    module = importlib.import_module(package)
    candidates = [module]
    if hasattr(module, "__path__"):
        modules = {_plain(info.name): info.name for info in pkgutil.iter_modules(module.__path__)}
        if _plain(name) not in modules:
            return None
        candidates = [importlib.import_module(f"{package}.{modules[_plain(name)]}")]
    for candidate in candidates:
        for attribute, value in vars(candidate).items():
            if isinstance(value, type) and _plain(attribute) == _plain(name):
                return value
    return None


def load_by_path(path: str) -> Any:
    """What a dotted path names, such as ``my_module.read``; modules in the working folder are found too.

    Returns:
        A class, a function, …; ``None`` if the module has nothing of that name.

    Raises:
        ValueError: If there is no such module.
    """
    module, _, name = path.rpartition(".")
    try:
        with working_folder():
            return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, but lacks something itself
        raise ValueError(f"{path}: there is no module {error.name}, neither in this folder nor installed") from error


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
