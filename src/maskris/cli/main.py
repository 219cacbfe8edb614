"""The command line: every command is a typed function with a docstring, imported when it is called.

A file of this package with a function of its own name is a command; the first line of the file says what it does.
"""

import importlib
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from maskris.cli.common import say

ELSEWHERE = {"demo": "maskris.demo.app"}
"""Commands whose module is above this package and is known by its name alone."""

ORDER = (
    "quickstart", "fetch", "prepare", "label", "train", "evaluate", "score", "robustness", "reproduce", "predict",
    "demo", "models", "convert", "recipes", "study", "report", "doctor",
)  # fmt: skip
"""Of the commands in the overview; others follow by the alphabet."""


class Command(NamedTuple):
    """A command: its module, whose function has the command's name, and what it does in one line."""

    module: str
    about: str

    def function(self, name: str) -> Callable[..., int | None]:
        """The function, imported now."""
        found: Callable[..., int | None] = getattr(importlib.import_module(self.module), name)
        return found


@cache
def commands() -> dict[str, Command]:
    """All commands by their names; their files are read but not imported."""
    here = Path(__file__).parent
    modules = {file.stem: f"maskris.cli.{file.stem}" for file in here.glob("*.py") if file.stem != "main"} | ELSEWHERE
    found = {}
    for name in sorted(modules, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        text = here.parent.joinpath(*modules[name].split(".")[1:]).with_suffix(".py").read_text(encoding="utf-8")
        first_line = re.match(r'r?"""(.*?)(?:"""|\n)', text)
        if first_line and re.search(rf"^def {name}\(", text, re.MULTILINE):
            found[name] = Command(modules[name], first_line[1])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows ``maskris``; by default the process's own.

    Returns:
        Exit code: 0, 1 for an error that was explained, 2 for wrong usage, 128 + n when stopped by signal n.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        say(_overview())
        return 0
    if words[0] in ("--version", "version"):
        from importlib.metadata import version

        say(f"maskris {version('maskris')}")
        return 0
    name, *rest = words
    if name not in commands():
        close = get_close_matches(name, commands(), n=1)
        hint = f"did you mean `maskris {close[0]}`?" if close else "`maskris --help` lists the commands"
        return _fail(f"There is no command {name!r}; {hint}", code=2)
    from maskris.cli.arguments import parse

    function = commands()[name].function(name)
    values = parse(name, function, rest)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.simplefilter("ignore", FutureWarning)  # for those who write code, such as deprecations in PyTorch
            return function(**values) or 0
    except KeyboardInterrupt:
        return _fail("Interrupted", code=128 + signal.SIGINT)
    except BrokenPipeError:  # `maskris recipes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
        return 128 + 13  # SIGPIPE, which Windows does not know
    except (ValueError, TypeError, LookupError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("MASKRIS_DEBUG"):
            raise
        return _fail(_explain(error))


def _overview() -> str:
    width = max(map(len, commands()))
    lines = "\n".join(f"  {name:<{width}}  {command.about}" for name, command in commands().items())
    return (
        "maskris: referring image segmentation, from a photo and a phrase to the mask of what the phrase means\n\n"
        f"usage: maskris COMMAND …\n\n{lines}\n\n"
        "`maskris COMMAND --help` shows the options of a command. Begin with `maskris quickstart`."
    )


def _explain(error: Exception) -> str:
    """What the error says; where it comes from only if it was not made to be read by users."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    missing = isinstance(error, ImportError) and error.name is None  # ours: it says which extra to install
    if not (missing or isinstance(error, (ValueError, OSError))) and type(error).__module__ == "builtins":
        text = f"{type(error).__name__}: {text}\n(MASKRIS_DEBUG=1 shows where this came from)"
    return text


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Without the line of our code that the warning came from."""
    sys.stderr.write(f"warning: {message}\n")


def _fail(message: str, code: int = 1) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code
