"""The embedded data set: procedural scenes with unambiguous expressions, written in the layouts of REFER and gRefCOCO.

It needs no download and trains in minutes, and it goes through the same readers as RefCOCO and gRefCOCO. Three variants
differ as RefCOCO, RefCOCO+ and RefCOCOg do, a fourth has complex language, and a fifth speaks of several objects and of
none. Every expression carries its kind, so that results can be broken down.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskris.data import masks
from maskris.data.prepare import prepare_dataset
from maskris.data.published_counts import Counts
from maskris.data.shapes.language import ALIKE, VARIANTS, expressions
from maskris.data.shapes.scene import SHAPES, Scene, make_scene, masks_of, render
from maskris.data.table import ReferringTable
from maskris.utils.progress import show_progress
from maskris.utils.rng import KeyedRandom

OBJECTS: dict[str, tuple[int, int]] = {
    "train": (3, 5), "val": (3, 5), "testA": (2, 3), "testB": (6, 8), "combinations": (3, 5), "longer": (3, 5)
}  # fmt: skip
"""Fewest and most objects of a scene: testA is sparse and testB crowded, with smaller objects."""

ALIKE_OBJECTS: dict[str, tuple[int, int]] = {
    "train": (5, 6), "val": (5, 6), "testA": (3, 4), "testB": (7, 8), "combinations": (5, 6), "longer": (5, 6)
}  # fmt: skip
"""The same of scenes whose objects share attributes; see `ALIKE`."""

_DEFAULT_IMAGES = {"train": 2000, "val": 200, "testA": 200, "testB": 200, "combinations": 200, "longer": 200}


def write_shapes(
    out: str | Path,
    *,
    images: Mapping[str, int] | None = None,
    seed: int = 0,
    size: int = 64,
    datasets: Sequence[str] = ("shapes",),
    progress: bool = False,
) -> dict[str, dict[str, Counts]]:
    """Write scenes and expressions in the layouts of REFER and gRefCOCO.

    The same arguments give the same bytes of pixels and the same sentences on every machine, and scene `i` of a split
    does not depend on how many there are. Scenes of different splits are different scenes.

    - ``shapes``: short expressions with location words, as RefCOCO has them
    - ``shapes+``: without location words, as RefCOCO+
    - ``shapesg``: long sentences, as RefCOCOg
    - ``shapesc``: complex ones about one object: negation, counting, two steps, attributes of which each is needed
    - ``gshapes``: short ones about one object, several or none, as gRefCOCO

    The first three share their pictures, and so do the last two, in which objects share attributes.

    Args:
        out: Root folder: gets ``train2014/`` with the pictures (PNG) and, for each data set, ``<name>/refs(unc).p``
            (``gshapes/grefs(unc).json``) and ``<name>/instances.json``.
        images: Scenes per split. Splits are train and val; testA with fewer and testB with more objects;
            ``combinations``, where every target has a color, shape and texture that occur together in no other split
            (see `held_out_color`); and ``longer``, where sentences have more words than anywhere else (`LONGEST`), of
            which ``shapes+`` has none.
        seed: Seed of everything.
        size: Height and width of the pictures in pixels; the layout is the same at every size.
        datasets: Which of the five.
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
    families = {alike: [writers[name] for name in datasets if (name in ALIKE) == alike] for alike in (False, True)}
    scenes = sum(images.values()) * sum(map(bool, families.values()))
    with show_progress("drawing scenes", scenes, shown=progress) as bar:
        for (place, split), (alike, family) in product(enumerate(OBJECTS, start=1), families.items()):
            for number in range(images.get(split, 0) if family else 0):
                objects = (ALIKE_OBJECTS if alike else OBJECTS)[split]
                scene = make_scene(seed, split, number, objects, alike=alike)
                image_id = (place + 10 * alike) * 1_000_000 + number
                file = f"COCO_train2014_{image_id:012d}.png"
                Image.fromarray(render(scene, size)).save(out / "train2014" / file, compress_level=1)
                visible = masks_of(scene, size)
                for writer in family:
                    writer.add(scene, split, image_id, file, visible, size)
                bar.advance()
    for name, writer in writers.items():
        writer.write(out / name, seed)
    return {name: writer.counts() for name, writer in writers.items()}


class _Writer:
    """One data set in the layout of REFER, or of gRefCOCO where expressions may have several targets or none."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.generalized = variant == "gshapes"
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.refs: list[dict[str, Any]] = []
        self.sent_ids = count()

    def add(self, scene: Scene, split: str, image_id: int, file: str, visible: list[np.ndarray], size: int) -> None:
        by_things: dict[tuple[int, ...], list[dict[str, Any]]] = {}
        rng = KeyedRandom(*scene.key, self.variant)
        for expression in expressions(scene, self.variant, rng, split=split):
            text = expression.text
            sentence = {"sent": text, "raw": text, "tokens": text.split(), "kind": expression.kind}
            by_things.setdefault(expression.things, []).append({"sent_id": next(self.sent_ids), **sentence})
        self.images.append({"id": image_id, "file_name": file, "height": size, "width": size})
        for number, (thing, mask) in enumerate(zip(scene.things, visible, strict=True)):
            annotation = {
                "id": image_id * 10 + number,
                "image_id": image_id,
                "category_id": SHAPES.index(thing.shape) + 1,
                "segmentation": {"size": [size, size], "counts": masks.encode(mask).decode()},
                "bbox": [int(side) for side in masks.box_of(mask)],
                "area": int(mask.sum()),
                "iscrowd": 0,
            }
            self.annotations.append(annotation)
        for things, sentences in by_things.items():
            ann_ids = [image_id * 10 + number for number in things]
            categories = [SHAPES.index(scene.things[number].shape) + 1 for number in things]
            ref: dict[str, Any] = {
                "ref_id": len(self.refs),
                "ann_id": (ann_ids or [-1]) if self.generalized else ann_ids[0],
                "image_id": image_id,
                "file_name": file,
                "split": split,
                "category_id": (categories or [-1]) if self.generalized else categories[0],
                "sent_ids": [sentence["sent_id"] for sentence in sentences],
                "sentences": sentences,
            }
            self.refs.append(ref | ({"no_target": not things} if self.generalized else {}))

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
        if self.generalized:
            (folder / "grefs(unc).json").write_text(json.dumps(self.refs))
        else:
            with (folder / "refs(unc).p").open("wb") as file:
                pickle.dump(self.refs, file, protocol=2)

    def counts(self) -> dict[str, Counts]:
        result = {}
        for split in dict.fromkeys(ref["split"] for ref in self.refs):
            refs = [ref for ref in self.refs if ref["split"] == split]
            sentences = sum(len(ref["sentences"]) for ref in refs)
            result[split] = Counts(len({ref["image_id"] for ref in refs}), len(refs), sentences)
        return result


EDITION = 3
"""Of the scenes and sentences: data of another edition are not the same data set, and are made anew."""

IMAGES = {"train": 2000, "val": 150, "testA": 75, "testB": 75, "combinations": 75, "longer": 75}
SIZE = 128  # of the pictures; the model's input is 64


def embedded_data(folder: Path, seed: int, images: int) -> ReferringTable:
    """The embedded data set in the REFER layout, prepared; made only if the folder hasn't got this very one."""
    table, made = folder / "shapes.parquet", folder / "made.json"
    what = json.dumps({"images": IMAGES | {"train": images}, "size": SIZE, "seed": seed, "edition": EDITION})
    if not (table.is_file() and made.is_file() and made.read_text() == what):
        write_shapes(folder, images=IMAGES | {"train": images}, seed=seed, size=SIZE, progress=True)
        prepare_dataset(folder, table, dataset="shapes", split_by="unc", progress=False)
        made.write_text(what)
    return ReferringTable.open(table)
