"""What reduced decoding does to the metrics of a model of the embedded data: `python -m benchmarks.reduced RUN`.

The scenes of a split are drawn large, saved as JPEGs like those of a camera, and evaluated with both ways of decoding.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

SIDE = 1024
"""Of the pictures: 16 times the input of the small models, so that an eighth is decoded."""


def measure(model: Any, images: int = 150, side: int = SIDE, quality: int = 92) -> dict[str, dict[str, float]]:
    """Evaluate with full and with reduced decoding: oIoU and mIoU.

    Args:
        model: Trained on the embedded data.
        images: Scenes of val.
        side: Of the pictures in pixels.
        quality: Of the JPEGs.

    Returns:
        ``{"full": {"oIoU": …, "mIoU": …}, "reduced": …}``, fractions.
    """
    from maskris.data.prepare import prepare_dataset
    from maskris.data.shapes.writer import write_shapes
    from maskris.data.table import ReferringTable
    from maskris.evaluation.evaluator import evaluate

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shapes(folder, images={"val": images}, size=side)
        for picture in (folder / "train2014").glob("*.png"):
            # The annotations name the PNG; readers go by what a file holds.
            Image.open(picture).convert("RGB").save(picture, format="JPEG", quality=quality)
        prepare_dataset(folder, folder / "table.parquet", dataset="shapes", split_by="unc", progress=False)
        table = ReferringTable.open(folder / "table.parquet").split("val")
        results = {}
        for way in ("full", "reduced"):
            metrics = evaluate(model, table, batch_size=64, progress=False, reduced_decoding=way == "reduced").metrics
            results[way] = {key: float(metrics[key]) for key in ("oIoU", "mIoU")}
    return results


def main() -> None:
    """The command line."""
    from rich.console import Console

    from maskris.models.loading import load_model

    parser = argparse.ArgumentParser(prog="python -m benchmarks.reduced", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", help="run folder of a model trained on the embedded data")
    parser.add_argument("--images", type=int, default=150, help="scenes of val")
    arguments = parser.parse_args()
    for way, metrics in measure(load_model(arguments.run), arguments.images).items():
        Console().print(f"{way:8}" + "   ".join(f"{key} {100 * value:.2f}" for key, value in metrics.items()))


if __name__ == "__main__":
    main()
