"""Classes by name: the short names of this package, and dotted paths to classes of one's own.

A short name needs no table. ``lavt`` is the class of `maskris.models.lavt` whose name is LAVT in any spelling,
``ema_teacher`` is EMATeacher of `maskris.strategies.ema_teacher`: a new model or strategy is a file, and nothing else.
"""

import importlib
import pkgutil
import re
from difflib import get_close_matches
from typing import Any, TypeVar

from maskris.utils.imports import working_folder

T = TypeVar("T")

PACKAGES = {
    "model": "maskris.models",
    "strategy": "maskris.strategies",
    "augmentation": "maskris.data.augment",
}
"""Where the classes with short names are: in modules of a package, or all in one module."""


def find_class(kind: str, name: str, base: type[T] = object) -> type[T]:  # type: ignore[assignment]
    """A class by its name.

    Args:
        kind: A key of `PACKAGES`.
        name: A short name in any spelling (``ema_teacher``, ``EMATeacher``), a public name (``maskris.LAVT``), or a
            dotted path (``my_module.MyModel``); modules in the working folder are found too.
        base: What the class must derive from.

    Raises:
        ValueError: If there is no such class, or it doesn't derive from `base`; names what there is.
        ImportError: If the module is there, but can't be imported.
    """
    found = load_by_path(name) if "." in name else _by_short_name(kind, name)
    if isinstance(found, type) and issubclass(found, base):
        return found
    if "." in name:
        module, _, attribute = name.rpartition(".")
        raise ValueError(f"{name} is no {kind}: {module} has no subclass of {base.__name__} under the name {attribute}")
    known = {_plain(each): each for each in short_names(kind, base)}
    close = get_close_matches(_plain(name), known, n=1)
    hint = f"did you mean {known[close[0]]}?" if close else f"there are {', '.join(known.values())}."
    raise ValueError(
        f"There is no {kind} {name!r}; {hint} A class of your own needs the module too, such as my_module.{name}"
    )


def short_names(kind: str, base: type = object) -> list[str]:
    """The short names of all classes of a kind that derive from `base`."""
    classes = {name: _by_short_name(kind, name) for name in _modules(kind)}
    return [name for name, found in classes.items() if found not in (None, base) and issubclass(found, base)]


def has_short_name(kind: str, found: type) -> bool:
    """Whether a class is the one that its own name, without a module, stands for."""
    return _by_short_name(kind, found.__name__) is found


def _modules(kind: str) -> dict[str, str]:
    """Every name that may be a short name, with the module that may hold its class."""
    package = PACKAGES[kind]
    module = importlib.import_module(package)
    if hasattr(module, "__path__"):
        return {info.name: f"{package}.{info.name}" for info in pkgutil.iter_modules(module.__path__)}
    names = (name for name in vars(module) if name[0] != "_")
    return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower(): package for name in names}


def _by_short_name(kind: str, name: str) -> type | None:
    """The class with this name in the module with this name, each in any spelling."""
    module = {_plain(short): module for short, module in _modules(kind).items()}.get(_plain(name))
    for attribute, value in vars(importlib.import_module(module)).items() if module else ():
        if (
            isinstance(value, type)
            and value.__module__.startswith(PACKAGES[kind])
            and _plain(attribute) == _plain(name)
        ):
            return value
    return None


def load_by_path(path: str) -> Any:
    """The class or function of a dotted path, such as ``my_module.read``; modules in the working folder are found too.

    Returns:
        ``None`` if the module has nothing of that name.

    Raises:
        ValueError: If there is no such module.
        ImportError: If the module is there, but can't be imported.
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
