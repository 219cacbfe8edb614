"""Recipes: a YAML file that names model, method, training and splits, with typed overrides on top."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from maskris.models.weights.released import find_released
from maskris.registry import find_class
from maskris.training.config import TrainingConfig
from maskris.utils.config_errors import simplify
from maskris.utils.imports import working_folder

if TYPE_CHECKING:
    from maskris.data.augment import Augmentation
    from maskris.data.corruption import Corruption
    from maskris.models.base import RISModel
    from maskris.strategies.base import Strategy

SECTIONS = ("model", "strategy", "training", "data")
SHIPPED = Path(str(files("maskris.recipes")))  # wheels are installed unpacked


@dataclass(frozen=True)
class Splits:
    """Which splits of the table serve for what.

    Args:
        train: Split to train on.
        validation: Split to evaluate on during training; null for none.
        validation_dataset: Data set whose rows of that split decide alone, where the data holds several; null for all.
        test: Splits to report after training; `maskris train` ends with the command for it.
        exclude_overlap: Don't train on images that occur in any other split of the given files. For training on several
            data sets together, whose splits overlap; a table of `maskris prepare --combine` has none left.
        text: Sentences that the recipe was published with, where a data set offers both: sent (cleaned) or raw (as
            typed). Other ones are trained on with a warning; null for any.
    """

    train: str = "train"
    validation: str | None = "val"
    validation_dataset: str | None = None
    test: tuple[str, ...] = ("val",)
    exclude_overlap: bool = False
    text: Literal["sent", "raw"] | None = None


class RecipeError(ValueError):
    """A recipe that does not exist or does not hold what it must; the message says where and what."""


def shipped(folder: str = "") -> list[str]:
    """The names of the shipped recipes, or of the YAML files in a folder beside them."""
    return sorted(path.stem for path in SHIPPED.joinpath(folder).glob("*.yaml"))


def find(name: str | Path) -> Path:
    """The file of a recipe: a shipped one by its name, or any YAML file.

    Raises:
        RecipeError: If there is neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    if str(name) in shipped():
        return SHIPPED / f"{name}.yaml"
    close = get_close_matches(str(name), shipped(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`maskris recipes` lists what is shipped"
    raise RecipeError(f"There is no recipe {str(name)!r}, neither shipped nor as a YAML file; {hint}")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds keys with values.

    Raises:
        RecipeError: If it holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no YAML: {error}".replace("\n", " ")) from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} holds no keys with values")
    return values


def read_recipe(name: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a recipe, on top of those of the recipe that its ``base`` names, and so on.

    Args:
        name: Name of a shipped recipe, or a YAML file. A base is one of these too, its path
            seen from the file's folder.
        above: Files that are based on this one.

    Raises:
        RecipeError: If a recipe does not exist or is no YAML, or if recipes are based on each other in a circle.
    """
    file = find(name).resolve()
    if file in above:
        circle = " -> ".join(map(str, (*above, file)))
        raise RecipeError(f"Recipes are based on each other in a circle: {circle}")
    values = read_yaml(file)
    if "base" not in values:
        return values
    base = str(values.pop("base"))
    beside = file.parent / base
    return merge(read_recipe(beside if beside.is_file() else base, (*above, file)), values)


def merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes on top of a recipe; a section that names its class takes the place of the old one as a whole."""
    merged = dict(values)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and "class_path" not in value:
            value = merge(old, value)
        merged[key] = value
    return merged


def full_text(name: str | Path) -> str:
    """A recipe as one file that depends on no other; what is based on another recipe keeps its first comment only.

    Raises:
        RecipeError: As `read_recipe`.
    """
    text = find(name).read_text(encoding="utf-8")
    if "base" not in read_yaml(find(name)):
        return text
    head = takewhile(lambda line: line.startswith("#"), text.splitlines())
    sections = ("\n".join(_block({key: value})) for key, value in read_recipe(name).items())
    return "\n\n".join(["\n".join(head), *sections]) + "\n"


def _block(values: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """YAML in the style of the shipped recipes: small mappings and all lists in one line."""
    indent = "  " * depth
    for key, value in values.items():
        if isinstance(value, dict) and (
            depth == 0 or len(value) > 4 or any(isinstance(v, dict) for v in value.values())
        ):
            yield f"{indent}{key}:"
            yield from _block(value, depth + 1)
        else:
            text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=88).removesuffix("...\n")
            yield f"{indent}{key}: {textwrap.indent(text, indent + '  ').strip()}"


class Recipe:
    """A recipe with its overrides, checked: unknown keys and wrong types are errors.

    A class of this package may be named in short: ``lavt``, ``ema_teacher``.

    Args:
        name: Name of a shipped recipe, or a YAML file.
        overrides: Command-line arguments such as ``["--training.lr", "5e-5", "--strategy.image.ratio=0.5"]``.

    Attributes:
        training: The training settings.
        splits: Which splits serve for what.
        model_class: The import path of the model's class.
        reduced_decoding: Whether JPEGs are decoded at a reduced size where they are large, see `ReferringDataset`.
        supervision: Whether masks or boxes are trained on.
        negatives: Expressions drawn for each that don't fit it (3 for TRIS), see `ReferringDataset`.

    Raises:
        RecipeError: If a key is unknown or a value has the wrong type.
    """

    def __init__(self, name: str | Path, overrides: Sequence[str] = ()) -> None:
        self.name = str(name)
        self.overrides = list(overrides)
        find(name)  # before anything heavy
        self._parser = _parser()
        try:
            values = _with_full_names(read_recipe(name))
            with working_folder():
                self._values = self._parser.parse_args([f"--config={yaml.safe_dump(values)}", *_full_names(overrides)])
        except ArgumentError as error:
            keys = [*SECTIONS, *(action.dest for action in self._parser._actions if "." in action.dest)]
            raise self._error(simplify(str(error), keys)) from error
        except ValueError as error:
            raise self._error(str(error)) from error
        for section in SECTIONS:  # what can be known before anything heavy is loaded
            if not isinstance(self._values.get(section), Namespace):
                raise self._error(f"{section} must hold keys with values")
        try:
            self.training = TrainingConfig(**self._values.training.as_dict())
        except ValueError as error:
            raise self._error(f"training: {error}") from error
        self.splits = Splits(**{key: self._values.data[key] for key in Splits.__dataclass_fields__})
        self.model_class = str(self._values.model.class_path)
        self.reduced_decoding = bool(self._values.data.reduced_decoding)
        self.supervision: Literal["masks", "boxes"] = self._values.data.supervision
        self.negatives = int(self._values.data.negatives)
        if self.negatives < 0:
            raise self._error(f"data.negatives must be at least 0, not {self.negatives}")

    def _error(self, message: str) -> RecipeError:
        return RecipeError(f"Recipe {' '.join([self.name, *self.overrides])}: {message}")

    def instantiate(self) -> tuple["RISModel", "Strategy"]:
        """Build the model and the strategy.

        Weights that the recipe names are loaded from their folder or the Hub. Those that it does not name are random
        and follow from ``training.seed``.

        Raises:
            RecipeError: If the arguments contradict each other, or weights can't be had.
        """
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            try:
                built = self._parser.instantiate(self._values)
            except (ValueError, TypeError, OSError) as error:
                raise self._error(simplify(str(error))) from error
        return built.model, built.strategy

    @property
    def augmentations(self) -> tuple["Augmentation", ...]:
        """The augmentations of the training data, in their order.

        Raises:
            RecipeError: If their arguments contradict each other.
        """
        from maskris.data.augment import Augmentation

        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--augment", type=list[Augmentation])
        try:
            built = parser.instantiate(parser.parse_object({"augment": self._values.data.augment}))
        except (ValueError, TypeError) as error:
            raise self._error(f"data.augment: {simplify(str(error))}") from error
        return tuple(built.augment)

    @property
    def corruption(self) -> "Corruption | None":
        """How the masks that are trained on are made worse; ``None`` leaves them as they are.

        Raises:
            RecipeError: If a value is out of range.
        """
        from maskris.data.corruption import Corruption

        values = self._values.data.corrupt
        try:
            return None if values is None else Corruption(**values.as_dict())
        except ValueError as error:
            raise self._error(f"data.corrupt: {error}") from error

    def to_yaml(self) -> str:
        """The resolved recipe, every default written out; `Recipe` reads it again."""
        values = self._values.clone()
        values.pop("config")
        text: str = self._parser.dump(values, skip_unset=False)
        return text


def _parser() -> ArgumentParser:
    from maskris.data.augment import Augmentation
    from maskris.data.corruption import Corruption
    from maskris.models.base import RISModel
    from maskris.strategies.base import Strategy

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(RISModel, "model", required=True)
    parser.add_subclass_arguments(Strategy, "strategy", required=True)
    parser.add_class_arguments(TrainingConfig, "training")
    parser.add_class_arguments(Splits, "data", instantiate=False)
    parser.add_argument("--data.augment", type=list[Augmentation], default=[])
    parser.add_argument("--data.reduced_decoding", type=bool, default=False)
    parser.add_argument("--data.supervision", type=Literal["masks", "boxes"], default="masks")
    parser.add_argument("--data.corrupt", type=Corruption | None, default=None)
    parser.add_argument("--data.negatives", type=int, default=0)
    return parser


def _full_names(overrides: Sequence[str]) -> list[str]:
    """Overrides with the import paths of the classes that they name, in short or otherwise."""
    words = list(overrides)
    for i, word in enumerate(words):
        if match := re.fullmatch(r"--(model|strategy)(=(.+))?", word):
            if match[3]:
                words[i] = f"--{match[1]}={_full_name(match[1], match[3])}"
            elif i + 1 < len(words):
                words[i + 1] = _full_name(match[1], words[i + 1])
    return words


def _with_full_names(values: dict[str, Any]) -> dict[str, Any]:
    """The same for the values of a recipe."""
    values |= {kind: _full_class(kind, values[kind]) for kind in ("model", "strategy") if kind in values}
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("augment"), list):
        data["augment"] = [_full_class("augmentation", one) for one in data["augment"]]
    return values


def _full_class(kind: str, value: Any) -> Any:
    if isinstance(value, str):
        return _full_name(kind, value)
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        return {**value, "class_path": _full_name(kind, value["class_path"])}
    return value


def _full_name(kind: str, name: str) -> str:
    """The import path of a class: its public name if it has one, so that a kept recipe depends on no file of ours."""
    if kind == "model" and find_released(name):
        raise ValueError(f"{name} is no class but a trained model; --training.init_from {name} starts from its weights")
    if name == "null" or not all(part.isidentifier() for part in name.split(".")):
        return name
    from maskris.data.augment import Augmentation
    from maskris.models.base import RISModel
    from maskris.strategies.base import Strategy

    bases: dict[str, type] = {"model": RISModel, "strategy": Strategy, "augmentation": Augmentation}
    found: type = find_class(kind, name, bases[kind])
    package = __name__.partition(".")[0]
    public = getattr(import_module(package), found.__name__, None)
    return f"{package if public is found else found.__module__}.{found.__qualname__}"
