"""The command line: every command is a typed function with a docstring, imported when it is called."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

COMMANDS = {
    "quickstart": ("maskris.apps.quickstart", "Make data, train a small model, evaluate it and draw what it finds."),
    "prepare": ("maskris.apps.commands", "Check annotations of any format and write them to one Parquet file."),
    "train": ("maskris.apps.commands", "Train a model by a recipe."),
    "evaluate": ("maskris.apps.commands", "Evaluate a model on prepared data."),
    "predict": ("maskris.apps.commands", "Segment what phrases mean in a photo."),
    "convert": ("maskris.apps.commands", "Turn published weights into a model folder."),
    "recipes": ("maskris.apps.commands", "List the shipped recipes, or print one."),
    "doctor": ("maskris.apps.doctor", "Check this machine and your data, and run two training steps."),
}

# Their sections are passed on to the recipe, which knows the types.
RECIPE_COMMANDS = ("train", "quickstart")
RECIPE_SECTIONS = ("--model.", "--strategy.", "--training.", "--data.")


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
        from maskris import __version__

        _say(f"maskris {__version__}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        from difflib import get_close_matches

        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean `maskris {close[0]}`?" if close else "`maskris --help` lists the commands"
        return _fail(f"There is no command {name!r}; {hint}", code=2)
    function: Callable[..., int | None] = getattr(importlib.import_module(COMMANDS[name][0]), name)
    try:
        return function(**_parse(name, function, rest)) or 0
    except KeyboardInterrupt:
        return _fail("Interrupted", code=130)
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("MASKRIS_DEBUG"):
            raise
        return _fail(f"{error}\n(MASKRIS_DEBUG=1 shows where this came from)")


def _parse(name: str, function: Callable[..., Any], words: list[str]) -> dict[str, Any]:
    """Command-line words to arguments, by the function's signature and docstring; exits on ``--help`` and misuse."""
    from jsonargparse import ArgumentParser

    overrides: list[str] = []
    if name in RECIPE_COMMANDS:
        words, overrides = split_overrides(words)
    parser = ArgumentParser(prog=f"maskris {name}", description=inspect.getdoc(function) and _first_paragraph(function))
    own = _add_special(parser, function)
    parser.add_function_arguments(function, skip={*own, "overrides"}, as_group=False)
    values = parser.parse_args(words)
    arguments: dict[str, Any] = parser.instantiate_classes(values).as_dict()
    if name in RECIPE_COMMANDS:
        arguments["overrides"] = overrides
    return arguments


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate ``--training.lr 1e-4`` and its like from a command's own options."""
    own: list[str] = []
    overrides: list[str] = []
    target = own
    for word in words:
        if word.startswith(RECIPE_SECTIONS):
            overrides.append(word)
            target = own if "=" in word else overrides
        else:
            target.append(word)
            target = own
    return own, overrides


def _add_special(parser: Any, function: Callable[..., Any]) -> set[str]:
    """Positional arguments, and options that take several words: what signatures alone can't say."""
    helps = _parameter_help(function)
    added = set()
    for parameter in inspect.signature(function).parameters.values():
        positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        several = (
            str(parameter.annotation).startswith(("list[", "typing.Optional[list[")) and parameter.name != "overrides"
        )
        if not positional and not several:
            continue
        required = parameter.default is parameter.empty
        options: dict[str, Any] = {"help": helps.get(parameter.name)}
        if several:
            options |= {"nargs": "+", "type": str}
        else:
            options |= {"type": parameter.annotation}
            if not required:
                options["nargs"] = "?"
        if not required:
            options["default"] = parameter.default
        parser.add_argument(parameter.name if positional else f"--{parameter.name}", **options)
        added.add(parameter.name)
    return added


def _parameter_help(function: Callable[..., Any]) -> dict[str, str]:
    from docstring_parser import parse

    return {p.arg_name: p.description or "" for p in parse(inspect.getdoc(function) or "").params}


def _first_paragraph(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").split("\n\nArgs:")[0]


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items())
    return (
        "maskris: referring image segmentation, from a photo and a phrase to the mask of what the phrase means\n\n"
        f"usage: maskris COMMAND …\n\n{lines}\n\n"
        "`maskris COMMAND --help` tells the options of a command. Begin with `maskris quickstart`."
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _fail(message: str, code: int = 1) -> int:
    sys.stderr.write(f"error: {message}\n")
    return code
