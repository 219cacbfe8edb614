"""`build_trainer` and `train`: a run from its recipe and its data, as `maskris train` does it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from maskris.data.dataset import ReferringDataset
from maskris.data.table import ReferringTable, choose_splits, open_tables
from maskris.experiments.recipe import Recipe
from maskris.training.run_record import RECIPE
from maskris.training.trainer import Trainer, TrainingResult

Log = Callable[[str], Any]
"""Called with sentences on what is going on, such as ``print``."""


def silent(text: str) -> None:
    """A `Log` that prints nothing."""


def build_trainer(
    recipe: Recipe, table: ReferringTable, out: Path, *, validate: bool = True, progress: bool = True
) -> Trainer:
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


def train(
    recipe: Recipe | str | Path,
    data: ReferringTable | str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    resume: str | Path = "auto",
    overrides: Sequence[str] = (),
    progress: bool = True,
    log: Log = silent,
) -> TrainingResult:
    """Train a model by a recipe; a run that was interrupted goes on where it stopped.

    Args:
        recipe: A recipe, the name of a shipped one, or a YAML file.
        data: A table with the splits of the recipe, or Parquet files written by `prepare_dataset`.
        out: The run folder; by default ``runs/<recipe>``.
        resume: As for `Trainer.fit`.
        overrides: Of the recipe if it is given by its name, such as ``["--training.lr=5e-5"]``.
        progress: Show progress on stderr.
        log: Gets the sizes of the data before the training.

    Raises:
        RecipeError: If the recipe can't be read or the model can't be built.
        ValueError: If the data lacks a split.
        CheckpointError: As `Trainer.fit`.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe, overrides)
    folder = Path("runs") / Path(recipe.name).stem if out is None else Path(out)
    if not isinstance(data, ReferringTable):
        data = open_tables([Path(file) for file in ([data] if isinstance(data, str | Path) else data)])
    trainer = build_trainer(recipe, data, folder, progress=progress)
    if trainer.rank == 0:
        dataset, longest = cast(Any, trainer.train), trainer.model.tokenizer.max_length
        log(f"{len(dataset.table):,} referents with {dataset.table.num_expressions:,} expressions; {folder}")
        truncated, total = dataset.count_truncated()
        if truncated:
            log(f"{truncated:,} of {total:,} expressions have more than {longest} tokens and lose their last words")
    return trainer.fit(resume)
