"""A recipe and a table become a `Trainer`: what `train`, `quickstart` and `study` have in common."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskris.apps.recipe import Recipe
    from maskris.data.table import ReferringTable
    from maskris.training.trainer import Trainer


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
    from maskris.apps.commands import choose_splits
    from maskris.data.dataset import ReferringDataset
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
    files = {"recipe.yaml": recipe.to_yaml()}
    return Trainer(model, strategy, dataset, validation, config, out, progress=progress, files=files)
