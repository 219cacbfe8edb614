"""What the docs speak of, in small: annotations and photos in RefCOCO's layout, tables, and models by their names."""

import json
import shutil
from pathlib import Path

import torch
from tiny import SWIN, bert

from maskris.cli.main import main
from maskris.data.shapes.language import vocabulary
from maskris.data.shapes.writer import write_shapes
from maskris.models.caris.model import CARIS

BERT = bert(110)
MODEL = {
    "vision": SWIN,
    "text": BERT,
    "tokenizer": vocabulary(),
    "width": 16,
    "layers": 1,
    "heads": 2,
    "points": 2,
    "preprocess": {"height": 64, "width": 64},
}
MODELS = (
    "MODEL", "caris-refcoco", "caris-refcoco-combined", "quickstart/maskris", "quickstart/supervised", "runs/refcoco",
    "runs/refcoco-maskris", "runs/refcoco-supervised",
)  # fmt: skip
TINY_MODEL = {f"--model.{key}": json.dumps(value) for key, value in MODEL.items()}
TINY_OPTIONS = {"resamples": "20", "workers": "0"}
TINY_TRAINING = {
    "--training.epochs": "null",
    "--training.steps": "1",
    "--training.batch_size": "1",
    "--training.workers": "0",
    "--training.device": "cpu",
    "--training.precision": "fp32",
}


def make_world(folder: Path) -> None:
    """Write everything; takes about a second."""
    for layout in ("DATA", "SOURCE"):
        write_layout(folder / layout)
    for name in ("refcoco", "refcoco+", "refcocog"):
        split_by = "umd" if name == "refcocog" else "unc"
        command = ["prepare", str(folder / "DATA"), "--dataset", name, "--split-by", split_by]
        assert main([*command, "--out", str(folder / f"{name}.parquet")]) == 0
    for name in ("DATA", "shapes", "mine"):
        shutil.copy(folder / "refcoco.parquet", folder / f"{name}.parquet")
    photos = sorted((folder / "DATA" / "train2014").iterdir())
    for name in ("photos", "FOLDER"):
        (folder / name).mkdir()
        shutil.copy(photos[0], folder / name)
    shutil.copy(photos[1], folder / "photos" / "1.jpg")
    (folder / "rows.csv").write_text("image,expression\nphotos/1.jpg,the square\n")
    shutil.copy(photos[0], folder / "photo.jpg")  # Pillow goes by the content
    instances = json.loads((folder / "DATA" / "refcoco" / "instances.json").read_text())
    image = instances["images"][0]
    spoken = [one | {"expressions": ["the thing"], "split": "train"} for one in instances["annotations"]]
    kept = [one for one in spoken if one["image_id"] == image["id"]]
    (folder / "annotations.json").write_text(json.dumps(instances | {"images": [image], "annotations": kept}))
    torch.manual_seed(0)
    for name in MODELS:
        CARIS(**MODEL, max_tokens=20).save_pretrained(folder / name)
        (folder / name / "stand-in").touch()


def write_layout(folder: Path) -> None:
    """The embedded data set under the names of RefCOCO, RefCOCO+ and RefCOCOg."""
    images = {"train": 4, "val": 1, "testA": 1, "testB": 1}
    write_shapes(folder, images=images, datasets=("shapes", "shapes+", "shapesg"))
    for ours, theirs in (("shapes", "refcoco"), ("shapes+", "refcoco+"), ("shapesg", "refcocog")):
        (folder / ours).rename(folder / theirs)
    for partition in ("umd", "google"):
        shutil.copy(folder / "refcocog" / "refs(unc).p", folder / "refcocog" / f"refs({partition}).p")
