"""Modules of one's own that a command line or a recipe names: they may lie in the folder where the command runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
