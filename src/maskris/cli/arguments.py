"""A typed function's signature and docstring as a command line, by jsonargparse."""

import inspect
import math
import re
import types
from argparse import SUPPRESS, Action
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

import docstring_parser
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from maskris.experiments.recipe import SECTIONS
from maskris.training.config import TrainingConfig
from maskris.utils.config_errors import simplify

MODELS = ("checkpoint", "checkpoints", "runs")
"""Names of what comes first in commands that take models; it can be given as ``--model`` too."""

_MOST_CHOICES = 50  # letters of all choices of an option that still fit into a line of the usage
_METAVARS = {int: "N", float: "X", Path: "PATH"}


class HelpFormatter(DefaultHelpFormatter):
    """Says what is required and what the defaults are, but not how Python writes types."""

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if action.required and action.option_strings:
            return f"{text} (required)"
        if action.default is None or action.default == SUPPRESS or action.nargs == 0:
            return text
        default = str(action.default).lower() if isinstance(action.default, bool) else "%(default)s"
        return f"{text} (default: {default})"


class Parser(ArgumentParser):
    """An `ArgumentParser` whose errors say what was meant, in two lines."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Show what is wrong and exit with code 2."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            message = self._explain_unknown(message.removeprefix(prefix).split())
        else:
            message = simplify(message)
            for action in self._actions:  # jsonargparse speaks of keys, users of options
                if action.option_strings and message.startswith(f"{action.dest}: "):
                    message = action.option_strings[-1] + message.removeprefix(action.dest)
        self.exit(2, f"error: {message}\n`{self.prog} --help` shows what it takes.\n")
        raise AssertionError("exit returned")

    def _explain_unknown(self, words: list[str]) -> str:
        wrong = words[0].split("=")[0]
        if not wrong.startswith("--"):
            hint = "phrases with spaces need quotes"
            if "--data" in self._option_string_actions and wrong.endswith(".parquet"):
                hint = f"did you mean --data {wrong}?"
            return f"{self.prog} can't use {' '.join(words)!r}; {hint}"
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        close = get_close_matches(wrong, known, n=1)
        return f"there is no option {wrong}" + (f"; did you mean {close[0]}?" if close else "")


@dataclass(frozen=True)
class Argument:
    """One argument of a command.

    Attributes:
        name: As in Python.
        annotation: Its type.
        default: ``inspect.Parameter.empty`` for what is required.
        text: Its help.
        positional: Given by its place; otherwise an option.
    """

    name: str
    annotation: Any
    default: Any
    text: str
    positional: bool = False

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def shown(self) -> str:
        """As it is written in a command line, ``--from`` for ``from_``; what turns it off for a flag that is on."""
        if self.positional:
            return self.name
        turns_off = _without_none(self.annotation) is bool and self.default is True
        return f"--{'no-' if turns_off else ''}{self.name.rstrip('_').replace('_', '-')}"


def arguments_of(function: Callable[..., Any]) -> list[Argument]:
    """The arguments of a command, without ``overrides``; a dataclass stands for its fields, each an option."""
    found = []
    texts = _descriptions(function)
    for name, parameter in inspect.signature(function).parameters.items():
        kind = parameter.annotation
        if inspect.isclass(kind) and is_dataclass(kind):
            texts_of_class = _descriptions(*reversed(inspect.getmro(kind)))
            for field in fields(kind):
                default = parameter.empty if field.default is MISSING else field.default
                found.append(Argument(field.name, field.type, default, texts_of_class.get(field.name, "")))
        elif name != "overrides":
            positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            found.append(Argument(name, kind, parameter.default, texts.get(name, ""), positional))
    return found


def _descriptions(*documented: Any) -> dict[str, str]:
    """What docstrings say about arguments; later ones win."""
    parsed = (docstring_parser.parse(inspect.cleandoc(one.__doc__ or "")) for one in documented)
    return {parameter.arg_name: parameter.description or "" for document in parsed for parameter in document.params}


def parse(name: str, function: Callable[..., Any], words: Sequence[str]) -> dict[str, Any]:
    """Words of the command line as the arguments of a function.

    Parameters that can be given by position are positional arguments; the others are options, with dashes for
    underscores. A parameter that is a dataclass is made of the options that are its fields. A parameter ``overrides``
    gets the keys of a recipe, as `split_overrides` finds them. ``--help`` and wrong usage end the process.

    Args:
        name: Of the command, for messages.
        function: With types and a docstring in Google style.
        words: What follows the command.
    """
    parameters = inspect.signature(function).parameters
    rest, overrides = split_overrides(words) if "overrides" in parameters else (list(words), [])
    if (first := next(iter(parameters), "")) in MODELS:
        rest = models_first(rest, several=first != "checkpoint")
    parser = make_parser(name, function, recipe_keys=any(word in ("-h", "--help") for word in rest))
    dashed = [re.sub("^--[^=]+", lambda option: option[0].replace("_", "-"), word) for word in rest]
    values: dict[str, Any] = parser.parse_args(together(parser, dashed)).as_dict()
    for parameter in parameters.values():
        if is_dataclass(parameter.annotation):
            made: Any = parameter.annotation
            values[parameter.name] = made(**{field.name: values.pop(field.name) for field in fields(made)})
    return values | {"overrides": overrides} if "overrides" in parameters else values


def make_parser(name: str, function: Callable[..., Any], *, recipe_keys: bool = False) -> Parser:
    """The parser that `parse` uses; with the keys of a recipe in its help, for functions with ``overrides``."""
    description = docstring_parser.parse(inspect.getdoc(function) or "").description
    # Whole names only: --model would be taken for --model-class.
    parser = Parser(prog=f"maskris {name}", description=description, formatter_class=HelpFormatter, allow_abbrev=False)
    for argument in arguments_of(function):
        _add(parser, argument)
    if recipe_keys and "overrides" in inspect.signature(function).parameters:
        _describe_recipe(parser)
    return parser


def together(parser: Parser, words: Sequence[str]) -> list[str]:
    """What is given by position, put in one place: argparse closes a list of phrases at the first option.

    ``photo.jpg --model M "the phrase"`` becomes ``--model M -- photo.jpg "the phrase"``.
    """
    options = {name: action for action in parser._actions for name in action.option_strings}
    bound: list[str] = []
    loose: list[str] = []
    room = 0.0  # values that the last option still takes
    for number, word in enumerate(words):
        if word == "--":
            loose += words[number + 1 :]
            break
        # As argparse sees it: no negative number, and no text with a space before its equals sign.
        if re.fullmatch(r"--?[^\s=\d.-][^\s=]*(=.*)?", word, re.DOTALL):
            bound.append(word)
            meant = [name for name in options if name == word]
            takes = options[meant[0]].nargs if len(meant) == 1 else 0
            room = 0 if takes == 0 else 1 if takes in (None, "?") else math.inf
        elif room:
            bound.append(word)
            room -= 1
        else:
            loose.append(word)
    return [*bound, "--", *loose] if loose else bound


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate ``--training.lr 1e-4`` and its like from a command's own options."""
    own: list[str] = []
    overrides: list[str] = []
    target = own
    for word in words:
        option = word.split("=")[0]
        # The data of a command is an option of its own; model and strategy as a whole are classes.
        if option.startswith(tuple(f"--{name}." for name in SECTIONS)) or option in ("--model", "--strategy"):
            overrides.append(word)
            target = own if "=" in word else overrides
        else:
            target.append(word)
            target = own
    return own, overrides


def models_first(words: Sequence[str], *, several: bool = False) -> list[str]:
    """What is given by ``--model``, put first, which is the place of models: ``--model M photo.jpg`` is the same there.

    Args:
        words: What follows the command.
        several: Whether the command takes more than one.
    """
    rest: list[str] = []
    models: list[str] = []
    room = 0.0  # values that --model still takes
    for number, word in enumerate(words):
        if word == "--":
            rest += words[number:]
            break
        if word.startswith("--model="):
            models.append(word.removeprefix("--model="))
        elif word == "--model" and not [*words, "-"][number + 1].startswith("-"):
            room = math.inf if several else 1
        elif room and not word.startswith("-"):
            models.append(word)
            room -= 1
        else:
            rest.append(word)
            room = 0
    return [*models, *rest]


def _add(parser: Parser, argument: Argument) -> None:
    options: dict[str, Any] = {"help": argument.text}
    if argument.name in MODELS:
        options["help"] += " Also as --model."
    if not argument.required:
        options["default"] = list(argument.default) if isinstance(argument.default, tuple) else argument.default
    inner = _without_none(argument.annotation)
    if inner is bool:  # a flag without a value, which turns the default round
        if argument.default and argument.text:
            options["help"] = f"Don't {argument.text[0].lower()}{argument.text[1:]}"
        action = "store_false" if argument.default else "store_true"
        parser.add_argument(argument.shown, dest=argument.name, action=action, **options)
        return
    optional = argument.positional and not argument.required
    if get_origin(inner) in (list, Sequence):
        (inner,) = get_args(inner)
        options |= {"nargs": "*" if optional else "+", "type": inner}
    else:
        options |= {"type": argument.annotation} | ({"nargs": "?"} if optional else {})
    if not argument.positional:
        options |= {"required": argument.required, "dest": argument.name}
        choices = ", ".join(get_args(inner)) if get_origin(inner) is Literal else ""
        if len(choices) > _MOST_CHOICES:
            options["help"] += f" One of {choices}."
        if not get_args(inner) or len(choices) > _MOST_CHOICES:  # those of a Literal show their choices
            options["metavar"] = _METAVARS.get(inner, argument.shown.removeprefix("--").upper())
    parser.add_argument(argument.shown, **options)


def _without_none(annotation: Any) -> Any:
    """``Path`` of ``Path | None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        return inner[0] if len(inner) == 1 else annotation
    return annotation


def _describe_recipe(parser: Parser) -> None:
    """Help for keys that only the recipe understands; it parses them later, when the classes are imported."""
    own = parser.format_usage().removeprefix("usage: ").rstrip().replace("%", "%%")
    parser.usage = f"{own}\n{' ' * len(f'usage: {parser.prog} ')}[--SECTION.KEY VALUE ...]"
    parser.add_class_arguments(TrainingConfig, "training", help="keys of the recipe: training")
    next(action for action in parser._actions if action.dest == "training").help = SUPPRESS  # recipes are such files
    parser.add_argument_group(
        "keys of the recipe: model, strategy, data",
        "--model.KEY and --strategy.KEY are the arguments of the classes, such as --model.layers 3 or "
        "--strategy.image.ratio 0.5; --strategy maskris.Supervised changes the class. --data.train and "
        "--data.validation name the splits to train and to evaluate on; null for no validation. --data.augment is a "
        "list of augmentations, none by default, and --data.reduced_decoding true decodes large JPEGs faster "
        "(docs/data.md); --data.negatives 3 draws three expressions for each that don't fit it.",
    )
