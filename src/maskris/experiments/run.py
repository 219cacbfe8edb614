"""`build_trainer` and `train`: a run from its recipe and its data, as `maskris train` does it."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from maskris.data.combine import joined_referents
from maskris.data.corruption import corrupt_masks
from maskris.data.dataset import ReferringDataset
from maskris.data.table import ReferringTable, choose_splits, open_tables
from maskris.evaluation.result import pseudo_note
from maskris.experiments.recipe import Recipe
from maskris.training.run_record import RECIPE
from maskris.training.trainer import Trainer, TrainingResult
from maskris.utils.process import is_first_process

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

    Warns of sentences of another kind than the recipe's, and of masks to validate on that a model made.

    Raises:
        ValueError: If the table lacks a split, or its validation split the data set to validate on.
        RecipeError: If the model can't be built.
    """
    config, splits = recipe.training, recipe.splits
    # What the data lacks is said before a model is built or downloaded.
    chosen = choose_splits(table, [splits.train], "--data.train")
    validation = None
    if validate and splits.validation:
        validation = choose_splits(table, [splits.validation], "--data.validation (null for none)")
        if (only := splits.validation_dataset) is not None:
            validation = _of_dataset(validation, only)
    if splits.exclude_overlap and (others := [name for name in table.splits if name != splits.train]):
        chosen = chosen.without_images_of(table.split(others))
    if recipe.corruption is not None:
        chosen = corrupt_masks(chosen, recipe.corruption)
    if is_first_process():
        _warn(recipe, chosen, validation)
    model, strategy = recipe.instantiate()
    dataset = ReferringDataset(
        chosen,
        model.preprocess,
        model.tokenizer,
        training=True,
        seed=config.seed,
        referents_per_image=config.referents_per_image,
        kind_weights=config.kind_weights,
        supervision=recipe.supervision,
        cache_images=config.cache_images,
        masks=strategy.needs_masks,
        augment=recipe.augmentations,
        negatives=recipe.negatives,
        reduced_decoding=recipe.reduced_decoding,
    )
    files = {RECIPE: recipe.to_yaml()}
    return Trainer(model, strategy, dataset, validation, config, out, progress=progress, files=files)


def _of_dataset(table: ReferringTable, name: str) -> ReferringTable:
    names = table.column("dataset")
    if name not in names:
        there = ", ".join(sorted({one or "(unnamed)" for one in names}))
        raise ValueError(
            f"The split to validate on has no rows of {name}, but of {there}; choose with --data.validation_dataset "
            "(null for all)"
        )
    return table.take(np.flatnonzero(np.array(names) == name))


def _warn(recipe: Recipe, chosen: ReferringTable, validation: ReferringTable | None) -> None:
    """Warn of data that make another training than the recipe's."""
    wanted = recipe.splits.text
    if wanted and (other := sorted(set(chosen.column("text")) - {"", wanted})):
        warnings.warn(
            f"{recipe.name} was published with the sentences {wanted!r}, but the data has {' and '.join(other)!r}: "
            f"prepare it with --text {wanted}, or train with --data.text null",
            stacklevel=3,
        )
    if validation is not None and (note := _pseudo_note(validation)):
        warnings.warn(f"Validation: {note}", stacklevel=3)


def _pseudo_note(table: ReferringTable) -> str:
    return pseudo_note(Counter(table.column("mask_source")), set(table.column("mask_origin")) - {""})


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
        joined = joined_referents(dataset.table)
        note = f" (joined of {len(dataset.table) + joined:,}, so that an epoch is shorter)" if joined else ""
        log(f"{len(dataset.table):,} referents{note} with {dataset.table.num_expressions:,} expressions; {folder}")
        if pseudo := _pseudo_note(dataset.table):
            log(f"Training: {pseudo}")
        truncated, total = dataset.count_truncated()
        if truncated:
            log(f"{truncated:,} of {total:,} expressions have more than {longest} tokens and lose their last words")
    return trainer.fit(resume)
