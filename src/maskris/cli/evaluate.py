"""`maskris evaluate`: measures a model on every expression of prepared data."""

from pathlib import Path
from typing import Literal

from maskris.cli.common import check_output, say, show
from maskris.utils.process import is_first_process, join_processes


def evaluate(
    checkpoint: str,
    data: list[Path],
    *,
    splits: list[str] | None = None,
    protocol: Literal["maskris", "lavt", "cris", "grefcoco"] = "maskris",
    out: Path | None = None,
    intervals: bool = False,
    interval_unit: Literal["expression", "image", "referent"] = "image",
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
    from maskris.data.table import choose_splits, open_tables
    from maskris.evaluation import evaluator as room
    from maskris.models.loading import load_model
    from maskris.reporting.scores import intervals_table
    from maskris.robustness.occlusion import PatchOcclusion
    from maskris.utils.process import fastest_device

    if out is not None:
        check_output(out, [checkpoint, *data], ".parquet")
    table = open_tables(data)
    chosen = choose_splits(table, splits, "--splits")
    model = load_model(checkpoint, model_class)
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
