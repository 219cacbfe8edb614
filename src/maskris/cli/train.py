"""Train a model by a recipe."""

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
    from maskris.experiments import run as library
    from maskris.experiments.recipe import Recipe
    from maskris.training.run_record import read_run
    from maskris.utils.process import is_first_process

    chosen = Recipe(recipe, overrides or [])
    table = open_tables(data)
    result = library.train(chosen, table, out, resume=resume, log=say)
    if result.interrupted is not None:
        return 128 + result.interrupted
    if is_first_process():
        folder = read_run(result.out).model_folder
        say(f"Done: step {result.step}, {result.seconds:.1f} s in this call. The model: {folder}")
        if tested := [name for name in chosen.splits.test if name in table.splits]:
            files = " ".join(shlex.quote(str(file)) for file in data)
            own = "" if chosen.model_class.startswith("maskris.") else f" --model-class {chosen.model_class}"
            run = shlex.quote(str(result.out))
            say(f"Next: maskris evaluate {run} --data {files} --splits {' '.join(tested)}{own}")
    return 0
