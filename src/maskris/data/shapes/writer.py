"""The embedded data set: procedural scenes with unambiguous expressions, written in the REFER layout.

It needs no download and trains in minutes, and it goes through the same readers as RefCOCO. Three variants differ as
RefCOCO, RefCOCO+ and RefCOCOg do, and every expression carries its kind, so that results can be broken down.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskris.data import masks
from maskris.data.prepare import prepare_dataset
from maskris.data.published_counts import Counts
from maskris.data.shapes.language import VARIANTS, expressions
from maskris.data.shapes.scene import SHAPES, Scene, make_scene, masks_of, render
from maskris.data.table import ReferringTable
from maskris.utils.progress import show_progress
from maskris.utils.rng import KeyedRandom

OBJECTS: dict[str, tuple[int, int]] = {"train": (3, 5), "val": (3, 5), "testA": (2, 3), "testB": (6, 8)}
"""Fewest and most objects of a scene: testA is sparse and testB crowded, with smaller objects."""

_DEFAULT_IMAGES = {"train": 2000, "val": 200, "testA": 200, "testB": 200}


def write_shapes(
    out: str | Path,
    *,
    images: Mapping[str, int] | None = None,
    seed: int = 0,
    size: int = 64,
    datasets: Sequence[str] = ("shapes",),
    progress: bool = False,
) -> dict[str, dict[str, Counts]]:
    """Write scenes and expressions in the REFER layout.

    The same arguments give the same bytes of pixels and the same sentences on every machine, and scene `i` of a split
    does not depend on how many there are. Scenes of different splits are different scenes.

    Args:
        out: Root folder: gets ``train2014/`` with the pictures (PNG) and, for each data set, ``<name>/refs(unc).p``
            and ``<name>/instances.json``.
        images: Scenes per split; splits are train, val, testA (2 to 3 objects) and testB (6 to 8 objects).
        seed: Seed of everything.
        size: Height and width of the pictures in pixels; the layout is the same at every size.
        datasets: Which of ``"shapes"`` (short expressions with location words), ``"shapes+"`` (without location) and
            ``"shapesg"`` (long sentences), over the same pictures.
        progress: Show a progress bar.

    Returns:
        Per data set and split the number of images with referents, referents and expressions.

    Raises:
        ValueError: If a split or data set is unknown, or `size` is below 32.
    """
    images = _DEFAULT_IMAGES if images is None else images
    given = ((datasets, VARIANTS), (images, OBJECTS))
    if unknown := [name for names, known in given for name in names if name not in known]:
        raise ValueError(f"Unknown: {', '.join(unknown)}; data sets are {VARIANTS}, splits are {tuple(OBJECTS)}")
    if size < 32:
        raise ValueError(f"Below 32 pixels the textures can't be told apart; size = {size}")
    out = Path(out)
    (out / "train2014").mkdir(parents=True, exist_ok=True)
    writers = {name: _Writer(name) for name in datasets}
    with show_progress("drawing scenes", sum(images.values()), shown=progress) as bar:
        for place, split in enumerate(OBJECTS):
            for number in range(images.get(split, 0)):
                scene = make_scene(seed, split, number, OBJECTS[split])
                image_id = (place + 1) * 1_000_000 + number
                file = f"COCO_train2014_{image_id:012d}.png"
                Image.fromarray(render(scene, size)).save(out / "train2014" / file, compress_level=1)
                visible = masks_of(scene, size)
                for writer in writers.values():
                    writer.add(scene, split, image_id, file, visible, size)
                bar.advance()
    for name, writer in writers.items():
        writer.write(out / name, seed)
    return {name: writer.counts() for name, writer in writers.items()}


class _Writer:
    """One data set in the REFER layout."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.refs: list[dict[str, Any]] = []
        self.sent_ids = count()

    def add(self, scene: Scene, split: str, image_id: int, file: str, visible: list[np.ndarray], size: int) -> None:
        by_thing: dict[int, list[dict[str, Any]]] = {}
        for expression in expressions(scene, self.variant, KeyedRandom(*scene.key, self.variant)):
            text = expression.text
            sentence = {"sent": text, "raw": text, "tokens": text.split(), "kind": expression.kind}
            by_thing.setdefault(expression.thing, []).append({"sent_id": next(self.sent_ids), **sentence})
        self.images.append({"id": image_id, "file_name": file, "height": size, "width": size})
        for number, (thing, mask) in enumerate(zip(scene.things, visible, strict=True)):
            category = SHAPES.index(thing.shape) + 1
            annotation = {
                "id": image_id * 10 + number,
                "image_id": image_id,
                "category_id": category,
                "segmentation": {"size": [size, size], "counts": masks.encode(mask).decode()},
                "bbox": [int(side) for side in masks.box_of(mask)],
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
            self.annotations.append(annotation)
            if sentences := by_thing.get(number):
                ref = {
                    "ref_id": len(self.refs),
                    "ann_id": annotation["id"],
                    "image_id": image_id,
                    "file_name": file,
                    "split": split,
                    "category_id": category,
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                    "sentences": sentences,
                }
                self.refs.append(ref)

    def write(self, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        categories = [{"id": i + 1, "name": shape, "supercategory": "shape"} for i, shape in enumerate(SHAPES)]
        content = {
            "info": {"description": f"maskris {self.variant}, seed {seed}"},
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }
        (folder / "instances.json").write_text(json.dumps(content))
        with (folder / "refs(unc).p").open("wb") as file:
            pickle.dump(self.refs, file, protocol=2)

    def counts(self) -> dict[str, Counts]:
        result = {}
        for split in dict.fromkeys(ref["split"] for ref in self.refs):
            refs = [ref for ref in self.refs if ref["split"] == split]
            sentences = sum(len(ref["sentences"]) for ref in refs)
            result[split] = Counts(len({ref["image_id"] for ref in refs}), len(refs), sentences)
        return result


IMAGES = {"train": 2000, "val": 150, "testA": 75, "testB": 75}
SIZE = 128  # of the pictures; the model's input is 64


def embedded_data(folder: Path, seed: int, images: int) -> ReferringTable:
    """The embedded data set in the REFER layout, prepared; made only if the folder hasn't got this very one."""
    table, made = folder / "shapes.parquet", folder / "made.json"
    what = json.dumps({"images": IMAGES | {"train": images}, "size": SIZE, "seed": seed})
    if not (table.is_file() and made.is_file() and made.read_text() == what):
        write_shapes(folder, images=IMAGES | {"train": images}, seed=seed, size=SIZE, progress=True)
        prepare_dataset(folder, table, dataset="shapes", split_by="unc", progress=False)
        made.write_text(what)
    return ReferringTable.open(table)
