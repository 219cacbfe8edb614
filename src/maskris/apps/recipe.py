"""Recipes: a YAML file that names model, method, training and splits, with typed overrides on top."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from maskris.models.base import RISModel
    from maskris.strategies.base import Strategy
    from maskris.training.config import TrainingConfig

SECTIONS = ("model", "strategy", "training", "data")


@dataclass(frozen=True)
class Splits:
    """Which splits of the table serve for what.

    Args:
        train: Split to train on.
        validation: Split to evaluate on during training; null for none.
        test: Splits to report after training with `maskris evaluate`.
    """

    train: str = "train"
    validation: str | None = "val"
    test: tuple[str, ...] = ("val",)


class RecipeError(ValueError):
    """A recipe that does not exist or does not hold what it must; the message says where and what."""


def shipped() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(entry.name.removesuffix(".yaml") for entry in files("maskris.recipes").iterdir() if _is_recipe(entry))


def find(name: str | Path) -> Path:
    """The file of a recipe: a shipped one by its name, or any YAML file.

    Raises:
        RecipeError: If there is neither.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    if str(name) in shipped():
        return Path(str(files("maskris.recipes") / f"{name}.yaml"))  # wheels are installed unpacked
    close = get_close_matches(str(name), shipped(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "`maskris recipes` lists what is shipped"
    raise RecipeError(f"There is no recipe {str(name)!r}, neither shipped nor as a YAML file; {hint}")


class Recipe:
    """A recipe with its overrides, checked: unknown keys and wrong types are errors.

    Args:
        name: Name of a shipped recipe, or a YAML file.
        overrides: Command-line arguments such as ``["--training.lr", "5e-5", "--strategy.image.ratio=0.5"]``.

    Raises:
        RecipeError: If a key is unknown or a value has the wrong type.
    """

    def __init__(self, name: str | Path, overrides: Sequence[str] = ()) -> None:
        self.name = str(name)
        self._parser = _parser()
        from jsonargparse import ArgumentError

        file = find(name)
        try:
            self._values: Namespace = self._parser.parse_args([f"--config={file}", *overrides])
        except ArgumentError as error:
            raise RecipeError(f"Recipe {self.name} with {list(overrides)}: {_essence(error)}") from error

    def instantiate(self) -> tuple["RISModel", "Strategy"]:
        """Build the model and the strategy; weights named in the recipe are loaded from their folder or the Hub."""
        built = self._parser.instantiate_classes(self._values)
        return built.model, built.strategy

    @property
    def training(self) -> "TrainingConfig":
        """The training settings."""
        from maskris.training.config import TrainingConfig

        return TrainingConfig(**self._values.training.as_dict())

    @property
    def splits(self) -> Splits:
        """Which splits serve for what."""
        return Splits(**self._values.data.as_dict())

    def to_yaml(self) -> str:
        """The resolved recipe, every default written out; `Recipe` reads it again."""
        values = self._values.clone()
        values.pop("config")
        text: str = self._parser.dump(values, skip_none=False)
        return text


def _parser() -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    from maskris.models.base import RISModel
    from maskris.strategies.base import Strategy
    from maskris.training.config import TrainingConfig

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(RISModel, "model", required=True)
    parser.add_subclass_arguments(Strategy, "strategy", required=True)
    parser.add_class_arguments(TrainingConfig, "training")
    parser.add_class_arguments(Splits, "data")
    return parser


def _is_recipe(entry: Any) -> bool:
    return str(entry.name).endswith(".yaml")


def _essence(error: Exception) -> str:
    """What a person can use of a message that lists every type that was tried."""
    noise = ("Does not validate", "Subtypes:", "Errors:", "Given value", "- Expected a <class 'NoneType'>")
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line.removeprefix("- ") for line in lines if line and not line.startswith(noise))
