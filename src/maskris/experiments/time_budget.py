"""How many training steps fit into a given time on this machine."""

from pathlib import Path
from tempfile import TemporaryDirectory

from maskris.data.table import ReferringTable
from maskris.experiments.recipe import Recipe
from maskris.experiments.run import build_trainer

_SHORT, _LONG = 4, 12


def steps_within(seconds: float, name: str, table: ReferringTable, overrides: list[str]) -> int:
    """How many steps of a recipe take about `seconds`, found by two short trainings that are thrown away.

    Args:
        seconds: Of training alone.
        name: Of the recipe.
        table: With the split that it trains on.
        overrides: Of the recipe.

    Raises:
        ValueError: If not even a hundred steps fit.
        KeyboardInterrupt: If a signal asked to stop meanwhile.
    """
    # What a run costs beside its steps, such as reading pictures and writing a checkpoint, is in both.
    pace = (_try(_LONG, name, table, overrides) - _try(_SHORT, name, table, overrides)) / (_LONG - _SHORT)
    steps = int(seconds / max(pace, 1e-4))
    if steps < 100:
        raise ValueError(
            f"In {seconds:.0f} s this machine does {steps} steps of {pace:.1f} s, and a model learns nothing in that; "
            "give it more minutes"
        )
    return steps


def _try(steps: int, name: str, table: ReferringTable, overrides: list[str]) -> float:
    recipe = Recipe(name, [*overrides, f"--training.steps={steps}", "--training.warmup_steps=0"])
    with TemporaryDirectory() as folder:
        result = build_trainer(recipe, table, Path(folder), validate=False, progress=False).fit()
    if result.interrupted is not None:  # the trainer ends quietly, and nothing may begin after it
        raise KeyboardInterrupt
    return result.seconds
