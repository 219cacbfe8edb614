"""Evaluate a model on prepared data."""

from pathlib import Path

from maskris.cli.common import check_output, say, show
from maskris.cli.options import IntervalOptions, ModelOptions, ProtocolName, RequiredDataOptions


def evaluate(
    checkpoint: str,
    *,
    data: RequiredDataOptions,
    protocol: ProtocolName = "maskris",
    out: Path | None = None,
    intervals: bool = False,
    interval: IntervalOptions,
    occlusion: float = 0.0,
    occlusion_patch: int = 32,
    model: ModelOptions,
) -> None:
    """Evaluate a model on every expression of a table, and show the metrics by split, length, size and kind.

    Several GPUs: torchrun --nproc-per-node 8 -m maskris evaluate …

    Args:
        checkpoint: A run folder, a model folder, a name of `maskris models` or a Hub id.
        data: What is evaluated.
        protocol: How predictions are compared with the truth; published numbers differ in it.
        out: Write one row per expression to this Parquet file.
        intervals: Show how sure every metric is: bootstrap intervals of 95 per cent, by split.
        interval: How they are drawn.
        occlusion: Share of the image's patches to hide, to measure robustness; 0 hides none.
        occlusion_patch: Side of such a patch in pixels of the model's input.
        model: How it is run.
    """
    from maskris.evaluation import evaluator
    from maskris.reporting.scores import intervals_table
    from maskris.robustness.occlusion import PatchOcclusion
    from maskris.utils.process import is_first_process

    if out is not None:
        check_output(out, [checkpoint, *data.data], ".parquet")
    table = data.table()
    hidden = PatchOcclusion(occlusion, occlusion_patch) if occlusion else None
    options = model.evaluation() | data.evaluation()
    result = evaluator.evaluate(model.load(checkpoint), table, protocol, perturb=hidden, name=checkpoint, **options)
    if is_first_process():
        show(result)
        if intervals:
            show(intervals_table(result, interval.interval_unit, interval.resamples))
        if out is not None:
            say(f"One row per expression: {result.save(out)}")
