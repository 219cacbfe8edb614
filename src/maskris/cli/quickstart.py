"""Make data, train a small network, evaluate it and draw what it finds."""

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskris.cli.common import say, show

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskris.data.table import ReferringTable
    from maskris.evaluation.result import Evaluation
    from maskris.models.base import RISModel


OCCLUSION, OCCLUSION_PATCH = 0.25, 8
EXAMPLES = 12
THREADS = 1  # beside other work, threads that share such small tensors wait for each other most of the time
REST = 60  # seconds of a quickstart that aren't training, once the data is made


def quickstart(
    *,
    out: Path = Path("quickstart"),
    minutes: float | None = None,
    compare: bool = False,
    seed: int = 0,
    scenes: int | None = None,
    overrides: list[str] | None = None,
) -> int:
    """Make data, train a small network with MaskRIS, evaluate it on unseen scenes and draw what it finds.

    Takes about five minutes on a CPU core and needs no download. A run that was interrupted goes on where it stopped
    when the same command is given again.

    Args:
        out: Folder for the data, the models, overview.png and summary.json.
        minutes: How long it may take in all, of which training takes what is left; the recipe's number of steps, about
            five minutes on a CPU core, if it isn't given.
        compare: Train the supervised twin as well, with the same number of steps, and show both.
        seed: Seed of everything that is drawn.
        scenes: Scenes of the embedded data set to train on; by default 2,000, and 8,000 from 10 minutes on.
        overrides: Keys of the recipe with their values.

    Raises:
        ValueError: If the number of steps is given twice, or the time is too short.
    """
    import torch

    overrides = overrides or []
    if minutes is not None and any(key.startswith(("--training.steps", "--training.epochs")) for key in overrides):
        raise ValueError("--minutes chooses the number of steps: leave out either it or --training.steps")
    if scenes is None:  # fewer are known by heart in a longer training
        scenes = 8000 if minutes is not None and minutes >= 10 else 2000

    threads = torch.get_num_threads()
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    try:
        return _run(out, minutes, compare, seed, scenes, overrides)
    finally:
        torch.set_num_threads(threads)


def _run(out: Path, minutes: float | None, compare: bool, seed: int, scenes: int, overrides: list[str]) -> int:
    from maskris.data.shapes.writer import embedded_data
    from maskris.evaluation.evaluator import evaluate
    from maskris.experiments.recipe import Recipe
    from maskris.experiments.run import build_trainer
    from maskris.reporting.scores import groups_table
    from maskris.robustness.occlusion import PatchOcclusion
    from maskris.utils.files import write_json

    start = time.perf_counter()
    say("1/4  Drawing scenes with their expressions")
    table = embedded_data(out / "data", seed, scenes)
    unseen, val = table.split([name for name in table.splits if name != "train"]), table.split("val")
    models: dict[str, RISModel] = {}
    results: dict[str, tuple[Evaluation, Evaluation]] = {}
    names = ("MaskRIS", "Supervised") if compare else ("MaskRIS",)
    overrides = [f"--training.seed={seed}", *overrides]
    if minutes is not None:
        seconds = (start + 60 * minutes - time.perf_counter()) / len(names) - REST
        overrides.append(f"--training.steps={_steps(out, minutes, seconds, table, overrides)}")
    for name in names:
        folder = out / name.lower()
        recipe = Recipe(f"shapes-{folder.name}", overrides)
        trainer = build_trainer(recipe, table, folder, validate=False)
        kind = type(trainer.model).__name__
        say(f"2/4  Training {kind} on {scenes:,} scenes for {trainer.total_steps:,} steps: {name}")
        if (signal := trainer.fit().interrupted) is not None:
            return 128 + signal
        models[name] = trainer.model
        say("3/4  Evaluating on unseen scenes, clean and with a quarter of each image hidden")
        hidden = PatchOcclusion(OCCLUSION, OCCLUSION_PATCH)
        clean = evaluate(trainer.model, unseen, batch_size=64, name=folder.name)
        occluded = evaluate(trainer.model, unseen, batch_size=64, name=folder.name, perturb=hidden)
        clean.save(folder / "unseen.parquet")
        occluded.save(folder / "unseen_occluded.parquet")
        results[name] = clean, occluded
    columns: dict[str, Evaluation] = {}
    for name, (clean, occluded) in results.items():
        columns |= {name: clean, f"{name}, {OCCLUSION:.0%} hidden": occluded}
    show(groups_table(columns, "split", title="mIoU on unseen scenes"))
    show(groups_table({name: _val(result) for name, result in columns.items()}, "kind", title="mIoU on val by kind"))
    say("4/4  Drawing what was found")
    _draw(models, val, results["MaskRIS"][0]).save(out / "overview.png")
    summary = {"seconds": round(time.perf_counter() - start, 1), **_numbers(*results["MaskRIS"])}
    if compare:
        summary["supervised"] = _numbers(*results["Supervised"])
    write_json(out / "summary.json", summary)
    say(
        f"\nDone in {summary['seconds']:.0f} s. Written:\n"
        f"  {out / 'overview.png'}   what it finds in unseen scenes\n"
        f"  {out / 'summary.json'}   the numbers\n"
        f"  {out / 'maskris' / 'last'}   the model\n"
        f'Next: maskris predict {out / "maskris"} {val.image_path(0)} "{val.expressions(0)[0]}"'
    )
    return 0


def _steps(out: Path, minutes: float, seconds: float, table: "ReferringTable", overrides: list[str]) -> int:
    """As many steps as fit; a run that is started again keeps the number it began with."""
    from maskris.experiments.time_budget import steps_within
    from maskris.utils.files import read_json, write_json

    file = out / "budget.json"
    if file.is_file() and (known := read_json(file)).get("minutes") == minutes:
        return int(known["steps"])
    steps = steps_within(seconds, "shapes-maskris", table, overrides)
    write_json(file, {"minutes": minutes, "steps": steps})
    return steps


def _val(evaluation: "Evaluation") -> "Evaluation":
    """Scenes like those of the training."""
    return evaluation.parts("split")["shapes unc val"]


def _numbers(clean: "Evaluation", occluded: "Evaluation") -> dict[str, Any]:
    """What summary.json holds: scenes like those of the training on top, the other splits below."""

    def scores(clean: "Evaluation", occluded: "Evaluation") -> dict[str, Any]:
        return dict(clean.scores.values) | {"occlusion_25": dict(occluded.scores.values)}

    hidden = occluded.parts("split")
    splits = {name.split()[-1]: scores(part, hidden[name]) for name, part in clean.parts("split").items()}
    kinds = {kind: found.values["mIoU"] for kind, found in _val(clean).breakdown("kind").items()}
    return splits.pop("val") | {"mIoU_by_kind": kinds, "splits": splits}


def _draw(models: "dict[str, RISModel]", table: "ReferringTable", result: "Evaluation") -> "Image":
    """Expressions drawn at random, each from another scene; nothing is chosen by its result."""
    from maskris.inference.contact_sheet import Panel, overview
    from maskris.inference.predictor import Predictor

    rows = result.rows.to_pylist()
    place = {referent.ref_id: i for i, referent in enumerate(table)}
    by_image: dict[int, dict[str, Any]] = {}
    for row in random.Random(0).sample(rows, len(rows)):
        if row["split"] == "val":
            by_image.setdefault(row["image_id"], row)
    predictors = {name: Predictor(model) for name, model in models.items()}
    panels = []
    for row in list(by_image.values())[:EXAMPLES]:
        i = place[row["ref_id"]]
        photo, text = table.image_path(i), table.expressions(i)[row["number"]]
        masks = {name: predictor.predict(text, image=photo).mask for name, predictor in predictors.items()}
        panels.append(Panel(photo, text, masks, table.mask(i)))
    return overview(panels, columns=3 if len(models) == 1 else 2, title="Unseen scenes")
