"""The commands over data and checkpoints. Heavy imports stand inside, so that ``--help`` answers at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from maskris.data.table import ReferringTable


def prepare(
    source: Path,
    *,
    out: Path,
    format: Literal["auto", "refer", "grefcoco", "coco", "jsonl"] = "auto",  # noqa: A002 (the option's name)
    dataset: str | None = None,
    split_by: str | None = None,
    images: Path | None = None,
    skip_invalid: bool = False,
    check_images: bool = True,
) -> None:
    """Check annotations and their images, and write them to one Parquet file for training and evaluation.

    All problems are reported at once, with file and row; nothing is written then, unless --skip_invalid true.

    Args:
        source: Folder in the REFER or gRefCOCO layout, a COCO-style JSON file, or a JSON Lines file.
        out: The Parquet file to write.
        format: What the source is; auto goes by its ending and contents.
        dataset: Which data set of the folder, such as refcoco+.
        split_by: Which partition, such as unc, umd or google.
        images: Folder of the images, if it isn't found beside the annotations.
        skip_invalid: Leave invalid rows out and write them to a file beside the output.
        check_images: Decode every image.
    """
    import rich

    from maskris.data import prepare as room

    rich.print(
        room.prepare(
            source,
            out,
            format=format,
            dataset=dataset,
            split_by=split_by,
            images=images,
            skip_invalid=skip_invalid,
            check_images=check_images,
        )
    )


def train(
    recipe: str,
    *,
    data: Path,
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
        data: Parquet file written by `maskris prepare`.
        out: The run folder; by default runs/<recipe>.
        resume: auto continues the run in the folder if there is one; never refuses such a folder; a folder continues
            from that checkpoint.
        overrides: Keys of the recipe with their values.
    """
    import rich

    from maskris.apps.recipe import Recipe
    from maskris.data.dataset import ReferringDataset
    from maskris.data.table import ReferringTable
    from maskris.training.trainer import Trainer

    chosen = Recipe(recipe, overrides or [])
    config, splits = chosen.training, chosen.splits
    table = ReferringTable.open(data)
    model, strategy = chosen.instantiate()
    dataset = ReferringDataset(
        choose_splits(table, [splits.train], data),
        model.preprocess,
        model.tokenizer,
        training=True,
        seed=config.seed,
        referents_per_image=config.referents_per_image,
        cache_images=config.cache_images,
    )
    truncated, total = dataset.count_truncated()
    if truncated:
        rich.print(
            f"{truncated} of {total} expressions are longer than {model.tokenizer.max_length} tokens and are cut"
        )
    validation = choose_splits(table, [splits.validation], data) if splits.validation else None
    folder = out or Path("runs") / Path(recipe).stem
    trainer = Trainer(model, strategy, dataset, validation, config, folder)
    if trainer.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(chosen.to_yaml())
    result = trainer.fit(resume)
    if result.interrupted is not None:
        return 128 + result.interrupted
    if trainer.rank == 0:
        rich.print(f"Done: {result.step} steps in {result.seconds:.0f} s. The model: {_model_of(folder)}")
    return 0


def evaluate(
    checkpoint: str,
    data: Path,
    *,
    splits: list[str] | None = None,
    protocol: Literal["maskris", "lavt", "cris", "grefcoco"] = "maskris",
    out: Path | None = None,
    batch_size: int = 32,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    workers: int = 2,
    occlusion: float = 0.0,
    occlusion_patch: int = 32,
) -> None:
    """Evaluate a model on every expression of a table, and show the metrics by split, length, size and kind.

    Args:
        checkpoint: A run folder, a model folder or a Hub id.
        data: Parquet file written by `maskris prepare`.
        splits: Splits to evaluate; all but train by default.
        protocol: How predictions are compared with the truth; published numbers differ in it.
        out: Write one row per expression to this Parquet file.
        batch_size: Most expressions at once.
        device: Such as cuda or cpu; the fastest by default.
        precision: Numbers in which the network computes.
        workers: Processes that load images.
        occlusion: Share of the image's patches to hide, to measure robustness; 0 hides none.
        occlusion_patch: Side of such a patch in pixels of the model's input.
    """
    import rich

    from maskris.data.table import ReferringTable
    from maskris.evaluation import evaluate as room
    from maskris.evaluation.robustness import PatchOcclusion
    from maskris.inference.predictor import fastest_device
    from maskris.models.base import load_model

    table = ReferringTable.open(data)
    chosen = splits or [name for name in table.splits if name != "train"] or table.splits
    model = load_model(checkpoint)
    hidden = PatchOcclusion(occlusion, occlusion_patch, mean=model.preprocess.mean) if occlusion else None
    result = room.evaluate(
        model,
        choose_splits(table, chosen, data),
        protocol,
        batch_size=batch_size,
        device=device or fastest_device(),
        precision=precision,
        workers=workers,
        perturb=hidden,
        name=checkpoint,
    )
    rich.print(result)
    if out is not None:
        rich.print(f"One row per expression: {result.save(out)}")


def predict(
    photo: Path,
    expressions: list[str],
    *,
    model: str | None = None,
    out: Path = Path("predictions"),
    threshold: float = 0.5,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
) -> None:
    """Segment what one or several phrases mean in a photo: overlay and masks as PNG, and JSON with COCO RLE.

    Args:
        photo: The photo.
        expressions: Phrases, each in quotes.
        model: A run folder, a model folder or a Hub id; by default the model of `maskris quickstart` in this folder.
        out: Folder to write to.
        threshold: Probability above which a pixel belongs to the mask.
        device: Such as cuda or cpu; the fastest by default.
        precision: Numbers in which the network computes.
    """
    import rich
    from rich.table import Table

    from maskris.inference.predictor import Predictor
    from maskris.inference.save import save_predictions

    if model is None:
        model = str(Path("quickstart") / "maskris")
        if not Path(model).is_dir():
            raise FileNotFoundError(
                "No model: give --model with a run folder, a model folder or a Hub id (or run `maskris quickstart` here)"
            )
    predictor = Predictor.from_pretrained(model, device=device, precision=precision)
    results = predictor.predict(expressions, image=photo, threshold=threshold)
    saved = save_predictions(photo, results, out, model=predictor.name, image=predictor.image)
    table = Table("expression", "score", "box (x, y, width, height)", "mask")
    for result, path in zip(results, saved.masks, strict=True):
        box = "nothing found" if result.box is None else ", ".join(f"{value:.0f}" for value in result.box)
        table.add_row(result.expression, f"{result.score:.2f}", box, str(path))
    rich.print(table, f"Overlay: {saved.overlay}\nJSON: {saved.json}", sep="\n")


def convert(
    source: Path,
    *,
    out: Path,
    kind: Literal["auto", "maskris", "swin"] = "auto",
    window: int | None = None,
    image_size: int = 448,
    text: str | None = None,
    tokenizer: str = "bert-base-uncased",
) -> None:
    """Turn a published checkpoint into a folder of safetensors that this package loads; nothing in it is executed.

    Args:
        source: The `.pth` or `.safetensors` file.
        out: The folder to write.
        kind: maskris for MaskRIS or CARIS, swin for ImageNet weights of a Swin; auto looks at the names in it.
        window: Resize the relative position tables of the Swin to this window.
        image_size: Height and width of the model's input.
        text: Hub id or folder of the text encoder's configuration; by default it follows from the weights.
        tokenizer: Hub id, folder or vocab.txt of the text encoder's tokenizer.
    """
    import rich

    from maskris.models.convert import convert_checkpoint

    rich.print(
        convert_checkpoint(source, out, kind=kind, window=window, image_size=image_size, text=text, tokenizer=tokenizer)
    )


def recipes(name: str | None = None) -> None:
    """List the shipped recipes, or print one.

    Args:
        name: The recipe to print.
    """
    import rich
    from rich.syntax import Syntax
    from rich.table import Table

    from maskris.apps.recipe import find, shipped

    if name is not None:
        rich.print(Syntax(find(name).read_text(), "yaml", background_color="default"))
        return
    table = Table("recipe", "what it is", title="Train one with: maskris train RECIPE --data FILE.parquet")
    for recipe in shipped():
        table.add_row(recipe, find(recipe).read_text().splitlines()[0].removeprefix("# "))
    rich.print(table)


def choose_splits(table: "ReferringTable", names: list[str], source: Path) -> "ReferringTable":
    """Some splits of a table.

    Raises:
        ValueError: If one of them does not exist.
    """
    missing = [name for name in names if name not in table.splits]
    if missing:
        raise ValueError(f"{source} has no split {', '.join(missing)}; it has {', '.join(table.splits)}")
    return table.split(names)


def _model_of(folder: Path) -> Path:
    return folder / "best" if (folder / "best").is_dir() else folder / "last"
