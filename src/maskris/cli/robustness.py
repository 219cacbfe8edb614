"""Measure models on worse images and sentences, and compare them."""

from pathlib import Path
from typing import Literal

from maskris.cli.common import say, show
from maskris.cli.options import MetricName, ModelOptions, ProtocolName, RequiredDataOptions


def robustness(
    checkpoints: list[str],
    *,
    data: RequiredDataOptions,
    out: Path = Path("robustness"),
    suite: Literal["quick", "full"] = "quick",
    families: list[str] | None = None,
    names: list[str] | None = None,
    seed: int = 0,
    protocol: ProtocolName = "maskris",
    metric: MetricName = "oIoU",
    model: ModelOptions,
) -> None:
    """Measure models under occlusion, corruptions of the image and worse sentences, and compare them.

    Every condition's rows are kept in the output folder: interrupted and given again, the same command goes on.
    Checkpoints of one name are seeds of one method, and are shown as mean and standard deviation. Several GPUs:
    torchrun --nproc-per-node 8 -m maskris robustness …

    Args:
        checkpoints: Run folders, model folders, names of `maskris models` or Hub ids; the first one's method is what
            the others are compared with.
        data: What is evaluated.
        out: Folder of the rows, tables and pictures.
        suite: quick has one corruption of each family and few severities, full has everything.
        families: Only these of occlusion, context, noise, blur, weather, digital and text.
        names: A name for each of them; by default those of their folders.
        seed: Seed of everything that is drawn.
        protocol: How predictions are compared with the truth; published numbers differ in it.
        metric: What the tables and pictures compare.
        model: How they are run.
    """
    from maskris.reporting.robustness import write_robustness
    from maskris.robustness.comparison import compare_robustness
    from maskris.utils.process import is_first_process

    comparison = compare_robustness(
        checkpoints,
        data.table(),
        suite,
        out=out,
        names=names,
        families=families,
        seed=seed,
        protocol=protocol,
        progress=is_first_process(),
        model_class=model.model_class,
        **model.evaluation(),
        **data.evaluation(),
    )
    if is_first_process():
        show(comparison, metric=metric)
        written = write_robustness(comparison, out, metric)
        if not any(path.suffix == ".png" for path in written):
            say("No pictures: they need matplotlib (pip install 'maskris[plots]')")
        say("Written:\n" + "\n".join(f"  {path}" for path in written))
