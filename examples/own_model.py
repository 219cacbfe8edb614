"""A network of one's own: convolutions that the mean word embedding bends (FiLM), trained with MaskRIS.

    python examples/own_model.py

draws scenes, trains the network, evaluates, saves and loads it, and segments a picture. In the command line:

    cd examples && maskris evaluate RUN --data DATA.parquet --model-class own_model.Film
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskris import (
    ImageMasking,
    MaskRIS,
    Predictor,
    ReferringDataset,
    ReferringTable,
    RISModel,
    Trainer,
    TrainingConfig,
    build_tokenizer,
    evaluate,
    load_model,
    prepare_dataset,
    write_shapes,
)


def block(channels: int, width: int, stride: int = 1) -> list[nn.Module]:
    """A convolution with its norm."""
    return [nn.Conv2d(channels, width, 5, stride, padding=2), nn.GroupNorm(8, width), nn.ReLU()]


class Film(RISModel):
    """A few convolutions; the sentence scales and shifts their channels. The arguments are the configuration."""

    def __init__(self, tokenizer: Any, width: int = 48, max_tokens: int = 32, preprocess: Any = None) -> None:
        super().__init__()
        words = build_tokenizer(tokenizer)
        self.set_inputs(preprocess or {"height": 64, "width": 64}, words, max_tokens)
        self.embedding = nn.Embedding(len(words), width)
        self.film = nn.Linear(width, 2 * width)
        # Where a pixel lies is given to the network: "left" can't be seen in a few convolutions.
        self.vision = nn.Sequential(*block(5, width, stride=2), *block(width, width, stride=2))
        self.head = nn.Sequential(nn.ReLU(), *block(width, width), *block(width, width), nn.Conv2d(width, 2, 1))
        self.set_config()  # what save_pretrained writes

    def encode_image(self, images: Tensor) -> Tensor:
        """Once for each image ``[I, 3, H, W]``, however many expressions speak of it."""
        height, width = images.shape[-2:]
        y, x = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        place = torch.stack(torch.meshgrid(y, x, indexing="ij")).to(images)  # [2, H, W]
        return self.vision(torch.cat([images, place.expand(len(images), -1, -1, -1)], dim=1))  # [I, width, H/4, W/4]

    def segment(self, features: Tensor, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor) -> Tensor:
        """Logits ``[N, 2, H/4, W/4]``; padding has no part in the mean."""
        weights = attention_mask.unsqueeze(-1).to(features.dtype)  # [N, L, 1]
        sentence = (self.embedding(input_ids) * weights).sum(1) / weights.sum(1).clamp(min=1)  # [N, width]
        scale, shift = self.film(sentence)[..., None, None].chunk(2, dim=1)
        return self.head((1 + scale) * features[image_index] + shift)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """For the optimizer; a model with a pretrained encoder would give that a smaller rate."""
        return [{"name": "all", "params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]


def main(steps: int, out: Path) -> None:
    """Data, training, evaluation, prediction."""
    torch.set_num_threads(2)  # the tensors are small
    write_shapes(out / "data", images={"train": min(4 * steps, 1000), "val": 20})
    prepare_dataset(out / "data", out / "shapes.parquet", dataset="shapes", split_by="unc", progress=False)
    table = ReferringTable.open(out / "shapes.parquet")
    words = sorted({word for row in table for phrase in row.expressions for word in phrase.split()})
    model, rows = Film(words), table.split("train")
    train = ReferringDataset(rows, model.preprocess, model.tokenizer, training=True, referents_per_image=4)
    config = TrainingConfig(steps=steps, batch_size=4, referents_per_image=4, lr=2e-3, warmup_steps=20, workers=0)
    method = MaskRIS(ImageMasking(ratio=0.5, patch_size=8), single_forward=True)  # one pass is faster on small inputs
    result = Trainer(model, method, train, table.split("val"), config, out / "run").fit()
    loaded = load_model(out / "run")  # in a program that hasn't imported Film: load_model(folder, Film)
    found = evaluate(loaded, table.split("val"), progress=False)
    assert found.metrics["oIoU"] == result.metrics["oIoU"]  # what was saved is what was trained
    print(f"{result.step} steps in {result.seconds:.0f} s; oIoU {100 * found.metrics['oIoU']:.1f} on unseen scenes")
    row = table.split("val").row(0)
    prediction = Predictor(loaded).predict(row.expressions[0], image=table.split("val").image_path(0))
    print(f"{row.expressions[0]!r}: box {prediction.box}, true box {row.box}, score {prediction.score:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for data and model (default: a new temporary one)")
    options = parser.parse_args()
    main(options.steps, options.out or Path(tempfile.mkdtemp(prefix="own_model_")))
