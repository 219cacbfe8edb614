"""Recipes: a YAML file that names model, method, training and splits, with typed overrides on top."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from maskris.utils.config_errors import simplify
from maskris.utils.imports import working_folder

if TYPE_CHECKING:
    from maskris.data.augment import Augmentation
    from maskris.data.table import ReferringTable
    from maskris.models.base import RISModel
    from maskris.strategies.base import Strategy
    from maskris.training.config import TrainingConfig
    from maskris.training.trainer import Trainer


SECTIONS = ("model", "strategy", "training", "data")


@dataclass(frozen=True)
class Splits:
    """Which splits of the table serve for what.

    Args:
        train: Split to train on.
        validation: Split to evaluate on during training; null for none.
        test: Splits to report after training; `maskris train` ends with the command for it.
        exclude_overlap: Don't train on images that occur in any other split of the given files. For training on several
            data sets together, whose splits overlap; a table of `maskris prepare --combine` has none left.
    """

    train: str = "train"
    validation: str | None = "val"
    test: tuple[str, ...] = ("val",)
    exclude_overlap: bool = False


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
        file = find(name)  # before anything heavy
        self._parser = _parser()
        try:
            with working_folder():
                self._values = self._parser.parse_args([f"--config={file}", *overrides])
        except ArgumentError as error:
            message = simplify(str(error), _keys(self._parser))
            if message.startswith("Unexpected config"):
                message = f"the file holds no keys; a recipe has {', '.join(SECTIONS)}"
            raise self._error(message, overrides) from error
        self._check(overrides)

    def _check(self, overrides: Sequence[str]) -> None:
        """What can be known before anything heavy is loaded."""
        for section in SECTIONS:
            if not isinstance(self._values.get(section), Namespace):
                raise self._error(f"{section} must hold keys with values", overrides)
        try:
            _ = self.training, self.splits
        except ValueError as error:
            raise self._error(f"training: {error}", overrides) from error

    def _error(self, message: str, overrides: Sequence[str] = ()) -> RecipeError:
        return RecipeError(f"Recipe {' '.join([self.name, *overrides])}: {message}")

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
    def training(self) -> "TrainingConfig":
        """The training settings."""
        from maskris.training.config import TrainingConfig

        return TrainingConfig(**self._values.training.as_dict())

    @property
    def splits(self) -> Splits:
        """Which splits serve for what."""
        values = self._values.data.as_dict()
        return Splits(**{key: value for key, value in values.items() if key in Splits.__dataclass_fields__})

    @property
    def reduced_decoding(self) -> bool:
        """Whether JPEGs are decoded at a reduced size where they are large, see `ReferringDataset`."""
        return bool(self._values.data.reduced_decoding)

    @property
    def augmentations(self) -> tuple["Augmentation", ...]:
        """The augmentations of the training data, in their order.

        Raises:
            RecipeError: If their arguments contradict each other.
        """
        parser = ArgumentParser(exit_on_error=False)
        _add_augment(parser)
        try:
            built = parser.instantiate(parser.parse_object({"data.augment": self._values.data.augment}))
        except (ValueError, TypeError) as error:
            raise self._error(f"data.augment: {simplify(str(error))}") from error
        return tuple(built.data.augment)

    def to_yaml(self) -> str:
        """The resolved recipe, every default written out; `Recipe` reads it again."""
        values = self._values.clone()
        values.pop("config")
        text: str = self._parser.dump(values, skip_unset=False)
        return text


def _parser() -> ArgumentParser:
    from maskris.models.base import RISModel
    from maskris.strategies.base import Strategy
    from maskris.training.config import TrainingConfig

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(RISModel, "model", required=True)
    parser.add_subclass_arguments(Strategy, "strategy", required=True)
    parser.add_class_arguments(TrainingConfig, "training")
    parser.add_class_arguments(Splits, "data", instantiate=False)
    _add_augment(parser)
    parser.add_argument("--data.reduced_decoding", type=bool, default=False)
    return parser


def _add_augment(parser: ArgumentParser) -> None:
    from maskris.data.augment import Augmentation

    parser.add_argument("--data.augment", type=list[Augmentation], default=[])


def _keys(parser: ArgumentParser) -> list[str]:
    """The sections, and the keys of training and data, such as ``training.lr``."""
    return [*SECTIONS, *(action.dest for action in parser._actions if "." in action.dest)]


def _is_recipe(entry: Any) -> bool:
    return str(entry.name).endswith(".yaml")


def make_trainer(
    recipe: "Recipe", table: "ReferringTable", out: Path, *, validate: bool = True, progress: bool = True
) -> "Trainer":
    """The trainer of a run; nothing is trained or written yet.

    Args:
        recipe: With its overrides.
        table: With the splits that the recipe trains and validates on.
        out: The run folder.
        validate: Whether to evaluate on the recipe's validation split during training.
        progress: Show progress on stderr.

    Raises:
        ValueError: If the table lacks a split.
        RecipeError: If the model can't be built.
    """
    from maskris.data.dataset import ReferringDataset
    from maskris.data.table import choose_splits
    from maskris.training.run_record import RECIPE
    from maskris.training.trainer import Trainer

    config, splits = recipe.training, recipe.splits
    # What the data lacks is said before a model is built or downloaded.
    chosen = choose_splits(table, [splits.train], "--data.train")
    validation = None
    if validate and splits.validation:
        validation = choose_splits(table, [splits.validation], "--data.validation (null for none)")
    if splits.exclude_overlap and (others := [name for name in table.splits if name != splits.train]):
        chosen = chosen.without_images_of(table.split(others))
    model, strategy = recipe.instantiate()
    dataset = ReferringDataset(
        chosen,
        model.preprocess,
        model.tokenizer,
        training=True,
        seed=config.seed,
        referents_per_image=config.referents_per_image,
        cache_images=config.cache_images,
        augment=recipe.augmentations,
        reduced_decoding=recipe.reduced_decoding,
    )
    files = {RECIPE: recipe.to_yaml()}
    return Trainer(model, strategy, dataset, validation, config, out, progress=progress, files=files)
