"""The commands over data and checkpoints. Heavy imports stand inside, so that ``--help`` answers at once."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from maskris.apps.outputs import check_output
from maskris.apps.terminal import say, show

if TYPE_CHECKING:
    import torch

    from maskris.data.table import ReferringTable


def prepare(
    source: Path | None = None,
    *,
    out: Path,
    format: Literal["auto", "refer", "grefcoco", "coco", "jsonl"] = "auto",  # noqa: A002 (the option's name)
    dataset: str | None = None,
    split_by: str | None = None,
    images: Path | None = None,
    text: Literal["sent", "raw"] = "sent",
    combine: list[str] | None = None,
    published_list: Path | None = None,
    skip_invalid: bool = False,
    check_images: bool = True,
) -> None:
    """Check annotations and their images, and write them to one Parquet file for training and evaluation.

    All problems are reported at once, with file and row; nothing is written then, unless --skip-invalid is given.

    Args:
        source: Folder in the REFER or gRefCOCO layout, a COCO-style JSON file, or a JSON Lines file.
        out: The Parquet file to write.
        format: What the source is; auto goes by its ending and contents.
        dataset: Which data set of the folder, such as refcoco+.
        split_by: Which partition, such as unc, umd or google; with --combine, those that aren't unc, unc and umd, such
            as refcocog=google.
        images: Folder of the images, if it isn't found beside the annotations.
        text: Take the cleaned sentences or those that the annotators typed (REFER and gRefCOCO only).
        combine: Combine these data sets of the folder, or Parquet files, for training: without training images that
            occur in a val or test split of any of them.
        published_list: With --combine, train on the images or annotations that this file names instead.
        skip_invalid: Leave invalid rows out and write them to a file beside the output.
        check_images: Decode every image.
    """
    inputs = [source, images, published_list, *(combine or [])]
    check_output(out, inputs, ".parquet")
    # Rejected rows that were corrected may be what is read: their file is replaced or removed with the table.
    check_output(out.with_name(f"{out.name}.rejects.jsonl"), inputs, ".jsonl")
    if combine is not None:
        from maskris.data.prepare_combined import prepare_combined

        if dataset is not None or format != "auto":
            raise ValueError("--dataset and --format are for a single data set; with --combine, name all in it")
        show(
            prepare_combined(
                source,
                combine,
                out,
                split_by=split_by,
                images=images,
                text=text,
                published_list=published_list,
                skip_invalid=skip_invalid,
                check_images=check_images,
            )
        )
        return
    from maskris.data import prepare as room

    if source is None:
        raise ValueError("Say what to read: maskris prepare SOURCE --out FILE.parquet")
    if published_list is not None:
        raise ValueError("--published-list is for --combine")
    show(
        room.prepare(
            source,
            out,
            format=format,
            dataset=dataset,
            split_by=split_by,
            images=images,
            text=text,
            skip_invalid=skip_invalid,
            check_images=check_images,
        )
    )


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
    from maskris.apps.building import make_trainer
    from maskris.apps.recipe import Recipe
    from maskris.data.dataset import ReferringDataset

    chosen = Recipe(recipe, overrides or [])
    splits = chosen.splits
    table = open_tables(data)
    folder = out or Path("runs") / Path(recipe).stem
    trainer = make_trainer(chosen, table, folder)
    if trainer.rank == 0:
        dataset, longest = cast(ReferringDataset, trainer.train), trainer.model.tokenizer.max_length
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


def evaluate(
    checkpoint: str,
    data: list[Path],
    *,
    splits: list[str] | None = None,
    protocol: Literal["maskris", "lavt", "cris", "grefcoco"] = "maskris",
    out: Path | None = None,
    intervals: bool = False,
    interval_unit: Literal["expression", "image", "referent"] = "expression",
    batch_size: int = 32,
    device: str | None = None,
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    workers: int = 2,
    reduced_decoding: bool = False,
    occlusion: float = 0.0,
    occlusion_patch: int = 32,
    model_class: str | None = None,
) -> None:
    """Evaluate a model on every expression of a table, and show the metrics by split, length, size and kind.

    Several GPUs: torchrun --nproc-per-node 8 -m maskris evaluate …

    Args:
        checkpoint: A run folder, a model folder or a Hub id.
        data: Parquet files written by `maskris prepare`.
        splits: Splits to evaluate; all but train by default.
        protocol: How predictions are compared with the truth; published numbers differ in it.
        out: Write one row per expression to this Parquet file.
        intervals: Show how sure every metric is: bootstrap intervals of 95 per cent, by split.
        interval_unit: What is drawn again for them: expressions, or all those about an image or a referent together.
        batch_size: Most expressions at once.
        device: Such as cuda or cpu; the fastest by default.
        precision: Numbers in which the network computes.
        workers: Processes that load images.
        reduced_decoding: Decode large JPEGs at a reduced size, as training with data.reduced_decoding does.
        occlusion: Share of the image's patches to hide, to measure robustness; 0 hides none.
        occlusion_patch: Side of such a patch in pixels of the model's input.
        model_class: Class of a model of your own, such as my_module.MyModel.
    """
    from maskris.apps.classes import model_class as import_class
    from maskris.evaluation import evaluate as room
    from maskris.evaluation.report import intervals_table
    from maskris.evaluation.robustness import PatchOcclusion
    from maskris.inference.predictor import fastest_device
    from maskris.models.base import load_model

    if out is not None:
        check_output(out, [checkpoint, *data], ".parquet")
    table = open_tables(data)
    chosen = choose_splits(table, splits, "--splits")
    model = load_model(checkpoint, import_class(model_class))
    place = join_processes(device)
    hidden = PatchOcclusion(occlusion, occlusion_patch) if occlusion else None
    result = room.evaluate(
        model,
        chosen,
        protocol,
        batch_size=batch_size,
        device=place or device or fastest_device(),
        precision=precision,
        workers=workers,
        reduced_decoding=reduced_decoding,
        perturb=hidden,
        name=checkpoint,
    )
    if is_first_process():
        show(result)
        if intervals:
            show(intervals_table(result, interval_unit))
        if out is not None:
            say(f"One row per expression: {result.save(out)}")


def convert(
    source: Path,
    *,
    out: Path,
    kind: Literal["auto", "maskris", "lavt", "cris", "etris", "swin"] = "auto",
    window: int | None = None,
    image_size: int | None = None,
    text: str | None = None,
    text_heads: int | None = None,
    tokenizer: str | None = None,
    heads: int = 8,
    prompt_levels: list[int] | None = None,
    fusion_heads: list[int] | None = None,
    bridge_heads: int | None = None,
    max_tokens: int | None = None,
) -> None:
    """Turn a published checkpoint into a folder of safetensors that this package loads; nothing in it is executed.

    The configuration is read off the shapes of the weights; the options are for what leaves no trace in them.

    Args:
        source: The `.pth` or `.safetensors` file.
        out: The folder to write.
        kind: maskris for MaskRIS or CARIS, lavt, cris, etris, or swin for ImageNet weights of a Swin; auto looks at the
            names in it.
        window: Resize the relative position tables of the Swin to this window.
        image_size: Height and width of the model's input; by default those of the training script's arguments in the
            file, or the published ones.
        text: Hub id or folder of BERT's configuration; by default it follows from the weights.
        text_heads: Attention heads of BERT, instead of its configuration; one for every 64 channels by default.
        tokenizer: Hub id, folder or vocab.txt of the text encoder's tokenizer; by default the published one.
        heads: Attention heads of the decoder (MaskRIS, CRIS, ETRIS).
        prompt_levels: Sides of the grids of MaskRIS's conditional prompts, if their number leaves a choice.
        fusion_heads: Attention heads of LAVT's four fusions; one each by default.
        bridge_heads: Attention heads of ETRIS's bridges; 4 with a ResNet and 8 with a transformer by default.
        max_tokens: Most tokens of an expression; by default the published number.
    """
    from maskris.models.convert import convert_checkpoint

    report = convert_checkpoint(
        source,
        out,
        kind=kind,
        window=window,
        image_size=image_size,
        text=text,
        text_heads=text_heads,
        tokenizer=tokenizer,
        heads=heads,
        prompt_levels=prompt_levels,
        fusion_heads=fusion_heads or (1, 1, 1, 1),
        bridge_heads=bridge_heads,
        max_tokens=max_tokens,
    )
    say(str(report))


def recipes(name: str | None = None) -> None:
    """List the shipped recipes, or print one.

    A recipe of your own begins with `maskris recipes NAME > mine.yaml`.

    Args:
        name: The recipe to print.
    """
    from rich.console import Console
    from rich.syntax import Syntax
    from rich.table import Table

    from maskris.apps.recipe import find, shipped

    if name is not None:
        text = find(name).read_text(encoding="utf-8").rstrip("\n")
        if Console().is_terminal:
            show(Syntax(text, "yaml", background_color="default", word_wrap=True))
        else:  # rich would fill the lines with blanks and cut the long ones
            say(text)
        return
    table = Table("recipe", "what it is")
    for recipe in shipped():
        table.add_row(recipe, find(recipe).read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))
    show(table)
    say("Train by one: maskris train RECIPE --data FILE.parquet")


def open_tables(files: list[Path]) -> "ReferringTable":
    """The rows of one or several Parquet files.

    Raises:
        FileNotFoundError: If one does not exist.
        ValueError: If one holds something else.
    """
    from maskris.data.table import ReferringTable

    tables = [ReferringTable.open(file) for file in files]
    return tables[0] if len(tables) == 1 else ReferringTable.concat(tables)


def choose_splits(table: "ReferringTable", names: list[str] | None, option: str) -> "ReferringTable":
    """Some splits of a table.

    Args:
        table: All of the data.
        names: The splits; by default all but train, or train if there is no other.
        option: Where the names can be changed, for the message.

    Raises:
        ValueError: If one of them does not exist.
    """
    names = names or [name for name in table.splits if name != "train"] or table.splits
    if missing := [name for name in names if name not in table.splits]:
        raise ValueError(
            f"The data has no split {', '.join(missing)}, but {', '.join(table.splits)}; choose with {option}"
        )
    return table.split(names)


def quickstart_model(otherwise: str) -> str:
    """The model of `maskris quickstart` in this folder, which commands take that are given none.

    Args:
        otherwise: How else to say which model, for the message.

    Raises:
        FileNotFoundError: If there is none.
    """
    folder = Path("quickstart") / "maskris"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No model: {otherwise} a run folder, a model folder or a Hub id, or run `maskris quickstart` here"
        )
    return str(folder)


def join_processes(device: str | None) -> "torch.device | None":
    """Let the processes that torchrun started find each other; this one's device, or ``None`` if it is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    import torch
    from accelerate import PartialState

    # Where there is no GPU, accelerate joins processes only if it is told to use the CPU.
    cpu = device == "cpu" or not torch.cuda.is_available()
    return cast("torch.device", PartialState(cpu=cpu).device)


def is_first_process() -> bool:
    """Whether this process speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _model_of(folder: Path) -> Path:
    return folder / "best" if (folder / "best").is_dir() else folder / "last"
