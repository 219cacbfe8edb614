"""Data of one's own: photos with masks and phrases as JSON Lines, from the first file to the first prediction.

    python examples/own_dataset.py

paints photos of balls, writes `mine.jsonl`, checks and prepares it, trains a small model, evaluates it and asks
it about a photo. With files of your own, in the command line:

    maskris prepare mine.jsonl --out mine.parquet
    maskris train refcoco-maskris --data mine.parquet
"""

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFilter

from maskris import Predictor, Recipe, ReferringTable, evaluate, load_model, prepare_dataset, train

COLORS = {"red": "#c0392b", "blue": "#2e5fa8", "green": "#2e8b57", "yellow": "#e0b030"}


def paint(number: int, folder: Path) -> list[dict[str, Any]]:
    """A photo of two balls on a lawn or a floor; one line of JSON for each ball."""
    rng = random.Random(number)
    photo = Image.new("RGB", (160, 120), rng.choice(["#6b705c", "#a5a58d", "#cbc0d3"]))
    draw, lines = ImageDraw.Draw(photo), []
    for side, color in zip(("left", "right"), rng.sample(sorted(COLORS), 2), strict=True):
        radius = rng.randint(14, 26)
        x, y = rng.randint(30, 50) + 80 * (side == "right"), rng.randint(30, 90)
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.ellipse(box, fill=COLORS[color])
        mask = Image.new("L", photo.size)
        ImageDraw.Draw(mask).ellipse(box, fill=255)  # white is inside
        mask.save(folder / f"{number}_{side}.png")
        phrases = [f"the {color} ball", f"the ball on the {side}", f"{side} one"]
        # Polygons and COCO's RLE do as well as a PNG; see docs/data.md.
        split = "train" if number % 5 else "val"
        lines.append({"image": f"{number}.jpg", "mask": f"{number}_{side}.png", "expressions": phrases, "split": split})
    photo.filter(ImageFilter.GaussianBlur(0.7)).save(folder / f"{number}.jpg")
    return lines


def main(steps: int, out: Path) -> None:
    """Data, training, evaluation, prediction."""
    torch.set_num_threads(2)  # the tensors are small
    folder = out / "mine"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for number in range(60) for line in paint(number, folder)]
    (folder / "mine.jsonl").write_text("\n".join(json.dumps(line) for line in lines))

    # Everything that is wrong would be said here, all at once, with the line.
    report = prepare_dataset(folder / "mine.jsonl", out / "mine.parquet", progress=False)
    print(f"{report.counts['train'].expressions} expressions to train on, {report.counts['val'].expressions} to test")
    table = ReferringTable.open(out / "mine.parquet")

    # A small model from nothing that knows the words of these data. For real photos: refcoco-maskris.
    words = sorted({word for line in lines for phrase in line["expressions"] for word in phrase.split()})
    flip = "[{class_path: HorizontalFlip}]"  # exchanges left and right in the phrases too
    settings = [f"--model.tokenizer={words}", f"--training.steps={steps}", "--training.referents_per_image=2"]
    recipe = Recipe("shapes-supervised", [*settings, f"--data.augment={flip}"])
    result = train(recipe, table, out / "run")

    found = evaluate(load_model(out / "run"), table.split("val"), progress=False)
    print(f"{result.step} steps in {result.seconds:.0f} s; oIoU {100 * found.metrics['oIoU']:.1f} on photos not seen")

    predictor = Predictor.from_pretrained(out / "run")
    predictor.set_image(folder / "0.jpg")  # encoded once
    for ball in predictor.predict(["the ball on the left", "the ball on the right"]):
        print(f"{ball.expression}: box {ball.box}, score {ball.score:.2f}, {ball.mask.sum()} pixels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder for data and model (default: a new temporary one)")
    options = parser.parse_args()
    main(options.steps, options.out or Path(tempfile.mkdtemp(prefix="own_dataset_")))
