"""Classes of one's own that a command line or a recipe names: they may lie in the folder where the command runs."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskris.models.base import RISModel


@contextmanager
def working_folder() -> Iterator[None]:
    """Let modules be imported from the working folder, as ``python -m`` does.

    It comes last, so that nothing in it takes the place of an installed package, and only while classes that the user
    named are imported: a folder called ``wandb`` must not look like the package.
    """
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def model_class(path: str | None) -> "type[RISModel] | None":
    """The class of a model by its path, such as ``my_module.MyModel``; ``None`` for none.

    Raises:
        ValueError: If there is no such module or class, or it is no model.
    """
    if path is None:
        return None
    from maskris.models.base import RISModel

    module, _, name = path.rpartition(".")
    if not module:
        raise ValueError(f"--model-class needs the module too, such as my_module.{path}")
    try:
        with working_folder():
            found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, but lacks something itself
        raise ValueError(
            f"--model-class {path}: there is no module {error.name}, neither in this folder nor installed"
        ) from error
    if not (isinstance(found, type) and issubclass(found, RISModel)):
        raise ValueError(f"--model-class {path}: {module} has no subclass of RISModel under the name {name}")
    return found
