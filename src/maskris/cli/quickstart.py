"""The whole job in minutes on a CPU: embedded data, MaskRIS training, evaluation, pictures."""

import json
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskris.cli.common import say, show

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskris.data.table import ReferringTable
    from maskris.evaluation.metrics import Scores
    from maskris.evaluation.result import Evaluation
    from maskris.models.base import RISModel


OCCLUSION, OCCLUSION_PATCH = 0.25, 8

EXAMPLES = 12

THREADS = 2  # tensors are so small that more threads wait for each other


def quickstart(
    *,
    out: Path = Path("quickstart"),
    compare: bool = False,
    seed: int = 0,
    images: int = 2000,
    overrides: list[str] | None = None,
) -> int:
    """Make data, train a small CARIS with MaskRIS, evaluate it on unseen scenes and draw what it finds.

    Takes about five minutes on two CPU cores and needs no download. A run that was interrupted goes on where it stopped
    when the same command is given again.

    Args:
        out: Folder for the data, the models, overview.png and summary.json.
        compare: Train the supervised twin as well, with the same number of steps, and show both.
        seed: Seed of the data and of the training.
        images: Scenes to train on.
        overrides: Keys of the recipe with their values.
    """
    import torch

    start = time.perf_counter()
    threads = torch.get_num_threads()
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    try:
        return _run(out, compare, seed, images, overrides or [], start)
    finally:
        torch.set_num_threads(threads)


def _run(out: Path, compare: bool, seed: int, images: int, overrides: list[str], start: float) -> int:
    say("1/4  Drawing scenes with their expressions")
    from maskris.data.shapes.writer import embedded_data

    table = embedded_data(out / "data", seed, images)
    unseen = table.split([name for name in table.splits if name != "train"])
    methods = {"MaskRIS": "maskris", "Supervised": "supervised"} if compare else {"MaskRIS": "maskris"}
    models: dict[str, RISModel] = {}
    clean: dict[str, Evaluation] = {}
    occluded: dict[str, Evaluation] = {}
    for name, method in methods.items():
        say(f"2/4  Training CARIS on {images:,} scenes: {name}")
        model, stopped_by = _train(method, table, out / method, seed, overrides)
        if stopped_by is not None:
            return 128 + stopped_by
        models[name] = model
        say("3/4  Evaluating on unseen scenes, clean and with a quarter of each picture hidden")
        clean[name], occluded[name] = _evaluate(model, unseen, out / method)
    _report(clean, occluded)
    say("4/4  Drawing what was found")
    _draw(models, unseen.split("val"), clean).save(out / "overview.png")

    summary = {"seconds": round(time.perf_counter() - start, 1), **_numbers(clean["MaskRIS"], occluded["MaskRIS"])}
    if compare:
        summary["supervised"] = _numbers(clean["Supervised"], occluded["Supervised"])
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    val = unseen.split("val")
    say(
        f"\nDone in {summary['seconds']:.0f} s. Written:\n"
        f"  {out / 'overview.png'}   what it finds in unseen scenes\n"
        f"  {out / 'summary.json'}   the numbers\n"
        f"  {out / 'maskris' / 'last'}   the model\n"
        f'Next: maskris predict {val.image_path(0)} "{val.expressions(0)[0]}" --model {out / "maskris"}'
    )
    return 0


def _train(
    method: str, table: "ReferringTable", folder: Path, seed: int, overrides: list[str]
) -> "tuple[RISModel, int | None]":
    """The trained model, and the signal that stopped the training early."""
    from maskris.experiments.recipe import Recipe, make_trainer

    recipe = Recipe(f"shapes-{method}", [f"--training.seed={seed}", *overrides])
    trainer = make_trainer(recipe, table, folder, validate=False)
    return trainer.model, trainer.fit("auto").interrupted


def _evaluate(model: "RISModel", table: "ReferringTable", folder: Path) -> "tuple[Evaluation, Evaluation]":
    from maskris.evaluation.evaluator import evaluate
    from maskris.robustness.occlusion import PatchOcclusion

    hidden = PatchOcclusion(OCCLUSION, OCCLUSION_PATCH)
    clean = evaluate(model, table, batch_size=64, workers=0, name=folder.name)
    occluded = evaluate(model, table, batch_size=64, workers=0, name=folder.name, perturb=hidden)
    clean.save(folder / "unseen.parquet")
    occluded.save(folder / "unseen_occluded.parquet")
    return clean, occluded


def _report(clean: "dict[str, Evaluation]", occluded: "dict[str, Evaluation]") -> None:
    from maskris.reporting.scores import scores_table

    groups = {}
    for name, evaluation in clean.items():
        show(evaluation)
        groups[name] = _scores(evaluation, "val")
        groups[f"{name}, {OCCLUSION:.0%} hidden"] = _scores(occluded[name], "val")
    show(scores_table(groups, title="Unseen scenes (val)", heading="model"))


def _scores(evaluation: "Evaluation", split: str) -> "Scores":
    return evaluation.breakdown("split")[f"shapes unc {split}"]


def _numbers(clean: "Evaluation", occluded: "Evaluation") -> dict[str, Any]:
    """What summary.json holds: scenes like those of the training on top, the other splits below."""

    def scores(evaluation: "Evaluation", split: str) -> dict[str, Any]:
        found = _scores(evaluation, split)
        return {"oiou": found.oiou, "miou": found.miou, "precision": found.precision}

    others = {split: scores(clean, split) | {"occlusion_25": scores(occluded, split)} for split in ("testA", "testB")}
    return {**scores(clean, "val"), "occlusion_25": scores(occluded, "val"), "splits": others}


def _draw(models: "dict[str, RISModel]", table: "ReferringTable", results: "dict[str, Evaluation]") -> "Image":
    """Expressions drawn at random, each from another scene; nothing is chosen by its result."""
    from maskris.inference.contact_sheet import Panel, overview
    from maskris.inference.predictor import Predictor

    rows = next(iter(results.values())).rows.to_pylist()
    place = {referent.ref_id: i for i, referent in enumerate(table)}
    chosen: list[tuple[int, int]] = []
    images: set[int] = set()
    rng = random.Random(0)
    for row in rng.sample(rows, len(rows)):
        if row["split"] == "val" and row["image_id"] not in images and len(chosen) < EXAMPLES:
            images.add(row["image_id"])
            chosen.append((place[row["ref_id"]], row["number"]))
    predictors = {name: Predictor(model) for name, model in models.items()}
    panels = []
    for i, number in chosen:
        photo, text = table.image_path(i), table.expressions(i)[number]
        masks = {name: predictor.predict(text, image=photo).mask for name, predictor in predictors.items()}
        panels.append(Panel(photo, text, masks, table.mask(i)))
    return overview(panels, columns=3 if len(models) == 1 else 2, title="Unseen scenes")
