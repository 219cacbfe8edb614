"""The command line: every command is a typed function with a docstring, imported when it is called."""

import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

COMMANDS = {
    "quickstart": ("maskris.cli.quickstart", "Make data, train a small model, evaluate it and draw what it finds."),
    "prepare": ("maskris.cli.prepare", "Check annotations of any format and write them to one Parquet file."),
    "train": ("maskris.cli.train", "Train a model by a recipe."),
    "evaluate": ("maskris.cli.evaluate", "Evaluate a model on prepared data."),
    "robustness": ("maskris.cli.robustness", "Measure models on worse pictures and sentences, and compare them."),
    "reproduce": ("maskris.cli.reproduce", "Measure published numbers again and say which are verified."),
    "predict": ("maskris.cli.predict", "Segment what phrases mean in a photo, a folder of them, or rows of a file."),
    "demo": ("maskris.demo.app", "Open a page on which a model can be tried with photos and phrases."),
    "convert": ("maskris.cli.convert", "Turn published weights into a model folder."),
    "recipes": ("maskris.cli.recipes", "List the shipped recipes, or print one."),
    "study": ("maskris.cli.study", "Train variants of a recipe with several seeds and compare them."),
    "report": ("maskris.cli.report", "Write one HTML file on runs: numbers with intervals, curves, pictures."),
    "doctor": ("maskris.cli.doctor", "Check this machine and your data, and run two training steps."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What follows ``maskris``; by default the process's own.

    Returns:
        Exit code: 0, 1 for an error that was explained, 2 for wrong usage, 128 + n when stopped by signal n.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        _say(_overview())
        return 0
    if words[0] in ("--version", "version"):
        from importlib.metadata import version

        _say(f"maskris {version('maskris')}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        from difflib import get_close_matches

        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean `maskris {close[0]}`?" if close else "`maskris --help` lists the commands"
        return _fail(f"There is no command {name!r}; {hint}", code=2)
    from maskris.cli.arguments import parse

    function: Callable[..., int | None] = getattr(importlib.import_module(COMMANDS[name][0]), name)
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
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items())
    return (
        "maskris: referring image segmentation, from a photo and a phrase to the mask of what the phrase means\n\n"
        f"usage: maskris COMMAND …\n\n{lines}\n\n"
        "`maskris COMMAND --help` tells the options of a command. Begin with `maskris quickstart`."
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


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(message: str, code: int = 1) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code
