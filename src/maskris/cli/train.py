"""`maskris train`: trains a model by a recipe."""

import shlex
from pathlib import Path

from maskris.cli.common import say


def train(
    recipe: str,
    *,
    data: list[Path],
    out: Path | None = None,
    resume: str = "auto",
    overrides: list[str] | None = None,
) -> int:
    """Train a model by a recipe; every key of it can be overridden, such as --training.lr 5e-5 --model.layers 3.

    `maskris recipes` lists the shipped recipes and `maskris recipes NAME` shows the keys of one. A run that was killed
    goes on where it stopped when the same command is given again. Several GPUs: torchrun --nproc-per-node 8 -m maskris
    train …

    Args:
        recipe: Name of a shipped recipe, or a YAML file.
        data: Parquet files written by `maskris prepare`; several are trained on together.
        out: The run folder; by default runs/<recipe>.
        resume: auto continues the run in the folder if there is one; never refuses such a folder; a folder continues
            from that checkpoint.
        overrides: Keys of the recipe with their values.
    """
    from maskris.data.table import open_tables
    from maskris.experiments.recipe import Recipe, make_trainer

    chosen = Recipe(recipe, overrides or [])
    splits = chosen.splits
    table = open_tables(data)
    folder = out or Path("runs") / Path(recipe).stem
    trainer = make_trainer(chosen, table, folder)
    if trainer.rank == 0:
        dataset, longest = trainer.train, trainer.model.tokenizer.max_length
        say(f"{len(dataset.table):,} referents with {dataset.table.num_expressions:,} expressions; {folder}")
        truncated, total = dataset.count_truncated()
        if truncated:
            say(f"{truncated:,} of {total:,} expressions have more than {longest} tokens and lose their last words")
    result = trainer.fit(resume)
    if result.interrupted is not None:
        return 128 + result.interrupted
    if trainer.rank == 0:
        say(f"Done: step {result.step}, {result.seconds:.1f} s in this call. The model: {_model_of(folder)}")
        if tested := [name for name in splits.test if name in table.splits]:
            files = " ".join(shlex.quote(str(file)) for file in data)
            own = type(trainer.model)
            option = "" if own.__module__.startswith("maskris.") else f" --model-class {own.__module__}.{own.__name__}"
            say(f"Next: maskris evaluate {shlex.quote(str(folder))} {files} --splits {' '.join(tested)}{option}")
    return 0


def _model_of(folder: Path) -> Path:
    return folder / "best" if (folder / "best").is_dir() else folder / "last"
