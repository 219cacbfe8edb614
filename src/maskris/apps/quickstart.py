"""The whole job in minutes on a CPU: embedded data, MaskRIS training, evaluation, pictures."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskris.data.table import ReferringTable
    from maskris.evaluation.results import Evaluation
    from maskris.models.base import RISModel

IMAGES = {"train": 3000, "val": 150, "testA": 100, "testB": 100}
OCCLUSION = 0.25
OCCLUSION_PATCH = 8
EXAMPLES = 12


def quickstart(
    *,
    out: Path = Path("quickstart"),
    compare: bool = False,
    seed: int = 0,
    overrides: list[str] | None = None,
) -> None:
    """Make the embedded data, train a small CARIS with MaskRIS on it, evaluate it on unseen scenes and draw what it finds.

    Takes about five minutes on two CPU cores and needs no download.

    Args:
        out: Folder for the data, the model, overview.png and summary.json; an interrupted run goes on where it stopped.
        compare: Train the supervised twin as well, with the same number of steps, and show both.
        seed: Seed of the data and of the training.
        overrides: Keys of the recipe with their values.
    """
    import rich

    from maskris.data.prepare import prepare
    from maskris.data.shapes import write_shapes
    from maskris.data.table import ReferringTable
    from maskris.evaluation.report import scores_table

    start = time.perf_counter()
    data = out / "data"
    file = data / "shapes.parquet"
    if not file.exists():
        rich.print("[bold]1/4[/] Drawing scenes and their expressions")
        write_shapes(data, images=IMAGES, seed=seed, progress=True)
        prepare(data, file, dataset="shapes", split_by="unc", progress=False)
    table = ReferringTable.open(file)
    unseen = table.split([name for name in table.splits if name != "train"])

    names = {"MaskRIS": "maskris", "Supervised": "supervised"} if compare else {"MaskRIS": "maskris"}
    results: dict[str, Evaluation] = {}
    occluded: dict[str, Evaluation] = {}
    models: dict[str, RISModel] = {}
    for name, method in names.items():
        rich.print(f"[bold]2/4[/] Training CARIS on {len(table.split('train'))} referents: {name}")
        models[name] = _train(method, table, out / method, seed, overrides or [])
        rich.print("[bold]3/4[/] Evaluating on unseen scenes, clean and with a quarter of each image hidden")
        results[name], occluded[name] = _evaluate(models[name], unseen, out / method)
        rich.print(results[name])
    groups = {}
    for name in names:
        groups[name] = results[name].scores
        groups[f"{name}, {OCCLUSION:.0%} hidden"] = occluded[name].scores
    rich.print(scores_table(groups, title="Unseen scenes", heading="model"))

    rich.print("[bold]4/4[/] Drawing")
    picture = _draw(models, unseen, results)
    picture.save(out / "overview.png")
    summary = {"seconds": round(time.perf_counter() - start, 1), **_numbers(results["MaskRIS"])}
    summary["occlusion_25"] = _numbers(occluded["MaskRIS"])
    if compare:
        summary["supervised"] = _numbers(results["Supervised"])
        summary["supervised"]["occlusion_25"] = _numbers(occluded["Supervised"])
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    rich.print(
        f"Done in {summary['seconds']:.0f} s. Look at {out / 'overview.png'}; numbers: {out / 'summary.json'}; "
        f"model: {out / 'maskris' / 'last'}\n"
        f'Next: maskris predict PHOTO.png "the red circle" --model {out / "maskris"}'
    )


def _train(method: str, table: "ReferringTable", folder: Path, seed: int, overrides: list[str]) -> "RISModel":
    from maskris.apps.recipe import Recipe
    from maskris.data.dataset import ReferringDataset
    from maskris.training.trainer import Trainer

    recipe = Recipe(f"shapes-{method}", [f"--training.seed={seed}", *overrides])
    config = recipe.training
    import torch

    torch.manual_seed(seed)  # the random weights that the training starts from
    model, strategy = recipe.instantiate()
    dataset = ReferringDataset(
        table.split(recipe.splits.train),
        model.preprocess,
        model.tokenizer,
        training=True,
        seed=seed,
        referents_per_image=config.referents_per_image,
        cache_images=config.cache_images,
    )
    result = Trainer(model, strategy, dataset, None, config, folder).fit("auto")
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    if result.interrupted is not None:
        raise KeyboardInterrupt
    return model


def _evaluate(model: "RISModel", table: "ReferringTable", folder: Path) -> "tuple[Evaluation, Evaluation]":
    from maskris.evaluation.evaluate import evaluate
    from maskris.evaluation.robustness import PatchOcclusion

    hidden = PatchOcclusion(OCCLUSION, OCCLUSION_PATCH)
    clean = evaluate(model, table, batch_size=64, name=folder.name)
    occluded = evaluate(model, table, batch_size=64, name=folder.name, perturb=hidden)
    clean.save(folder / "unseen.parquet")
    occluded.save(folder / "unseen_occluded.parquet")
    return clean, occluded


def _numbers(evaluation: "Evaluation") -> dict[str, Any]:
    scores = evaluation.scores.to_dict()
    return {key: scores[key] for key in ("oiou", "miou", "precision")}


def _draw(models: "dict[str, RISModel]", table: "ReferringTable", results: "dict[str, Evaluation]") -> Any:
    """Expressions of every kind as they come, the first on each image; nothing is chosen by its result."""
    from maskris.inference.overview import Panel, overview
    from maskris.inference.predictor import Predictor

    rows = next(iter(results.values())).rows.to_pylist()
    kinds = sorted({row["kind"] for row in rows})
    chosen: list[tuple[int, int]] = []
    images: set[int] = set()
    place = {(r.ref_id, r.dataset): i for i, r in enumerate(table)}
    for turn in range(EXAMPLES):
        for row in rows:
            if row["kind"] == kinds[turn % len(kinds)] and row["image_id"] not in images:
                images.add(row["image_id"])
                chosen.append((place[row["ref_id"], row["dataset"]], row["number"]))
                break
    panels = []
    predictors = {name: Predictor(model) for name, model in models.items()}
    for i, number in chosen:
        photo, text = table.image_path(i), table.expressions(i)[number]
        masks = {name: predictor.predict(text, image=photo).mask for name, predictor in predictors.items()}
        panels.append(Panel(photo, text, masks, table.mask(i)))
    return overview(
        panels, columns=3 if len(models) == 1 else 2, title="Unseen scenes", subtitle="IoU beside each mask"
    )
