"""A training method of one's own: MaskRIS that learns only where the clean prediction is sure of itself.

    python examples/own_strategy.py

draws scenes, trains a small model for a few steps and prints what came of it. The same class in the command line:

    cd examples && maskris train shapes-maskris --strategy own_strategy.Confident --data DATA.parquet
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from maskris import (
    Batch,
    ImageMasking,
    MaskCriterion,
    Random,
    Recipe,
    ReferringDataset,
    ReferringTable,
    RISModel,
    Strategy,
    TextMasking,
    Trainer,
    evaluate,
    mask_batch,
    prepare_dataset,
    write_shapes,
)


class Confident(Strategy):
    """The masked input learns from the clean prediction, but only from pixels of which that is sure.

    Args:
        sure: Probability that the likelier class must have.
        patch_size: Side of the masked patches in pixels.
    """

    terms = ("clean", "masked")  # names for the log, as many as `losses` yields

    def __init__(self, sure: float = 0.8, patch_size: int = 8) -> None:
        self.sure = sure  # public attributes identify a run: it can't be continued with other values
        self.image, self.text = ImageMasking(0.5, patch_size), TextMasking()

    def losses(self, model: RISModel, batch: Batch, rng: Random) -> Iterator[Tensor]:
        """The trainer backpropagates each loss before it asks for the next."""
        logits = model(batch)  # [N, 2, h, w]
        yield 0.5 * MaskCriterion()(model, logits, batch)
        target = logits.detach().softmax(1)  # without gradient
        sure = (target.amax(1) >= self.sure).float()  # [N, h, w]
        masked = mask_batch(batch, model.tokenizer, self.image, self.text, rng)  # all randomness comes from rng
        loss = -(target * model(masked).log_softmax(1)).sum(1)  # [N, h, w]
        yield 0.5 * (loss * sure).sum() / sure.sum().clamp(min=1)


def main(steps: int, out: Path) -> None:
    """Data, training, evaluation."""
    torch.set_num_threads(2)
    write_shapes(out / "data", images={"train": min(12 * steps, 500), "val": 20})
    prepare_dataset(out / "data", out / "shapes.parquet", dataset="shapes", split_by="unc", progress=False)
    table = ReferringTable.open(out / "shapes.parquet")

    # The small model and the training settings of the recipe; the method is ours.
    recipe = Recipe("shapes-maskris", [f"--training.steps={steps}", "--training.log_every=10"])
    model, _ = recipe.instantiate()
    train = ReferringDataset(
        table.split("train"), model.preprocess, model.tokenizer, training=True, referents_per_image=4
    )
    result = Trainer(model, Confident(), train, None, recipe.training, out / "run").fit()

    found = evaluate(model, table.split("val"), workers=0)
    print(f"{result.step} steps in {result.seconds:.0f} s: {out / 'run' / 'last'}")
    print(f"oIoU {100 * found.metrics['oIoU']:.1f}, mIoU {100 * found.metrics['mIoU']:.1f} on scenes it has not seen")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for data and model (default: a new temporary one)")
    options = parser.parse_args()
    main(options.steps, options.out or Path(tempfile.mkdtemp(prefix="own_strategy_")))
