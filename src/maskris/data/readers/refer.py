"""Readers of the published layouts: REFER (RefCOCO, RefCOCO+, RefCOCOg, RefCLEF) and gRefCOCO.

    root/<dataset>/refs(<split_by>).p     list of referents: ann_id, image_id, split, sentences
    root/<dataset>/instances.json         COCO annotations: polygons or RLE
    root/train2014/COCO_train2014_000000000009.jpg

``read_*`` gives a table or raises `InvalidData` with all problems; ``scan_*`` gives the rows and the problems, for
`maskris.data.prepare`. Neither opens an image: `prepare` does.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from maskris.data.readers.coco import read_coco, scan_coco
from maskris.data.readers.collector import InvalidData, Problem, Reading, RowCollector, load_json
from maskris.data.readers.jsonl import read_jsonl, scan_jsonl
from maskris.data.readers.pickles import load_plain
from maskris.data.table import ReferringTable

__all__ = [
    "InvalidData",
    "Problem",
    "Reading",
    "read_coco",
    "read_grefcoco",
    "read_jsonl",
    "read_refer",
    "scan_coco",
    "scan_grefcoco",
    "scan_jsonl",
    "scan_refer",
]

IMAGE_FOLDERS = (
    "train2014",
    "images/train2014",
    "images/mscoco/images/train2014",
    "train2017",
    "images/train2017",
    "images/saiapr_tc-12",
)
"""Where images are looked for beneath the root; the last is RefCLEF's."""

Wording = Literal["sent", "raw"]


def read_refer(
    root: str | Path, dataset: str, split_by: str, images: str | Path | None = None, *, text: Wording = "sent"
) -> ReferringTable:
    """Read the REFER layout.

    Args:
        root: Folder that holds the data sets and, unless `images` is given, the images (see `IMAGE_FOLDERS`).
        dataset: Name of the data set's folder, for example ``"refcoco+"``.
        split_by: ``"unc"``, ``"umd"``, ``"google"``, … as in ``refs(unc).p``.
        images: Folder of the images; files may be named as in COCO 2014 or as in COCO 2017.
        text: ``"sent"`` is the cleaned sentence, ``"raw"`` what the annotator typed (LAVT trains on the latter).

    Raises:
        FileNotFoundError: If an annotation file is missing.
        InvalidData: If annotations have problems; the error holds all of them.
        ValueError: If a file is damaged, or a pickle that wants more than plain values.
    """
    return scan_refer(root, dataset, split_by, images, text=text).table()


def scan_refer(
    root: str | Path, dataset: str, split_by: str, images: str | Path | None = None, *, text: Wording = "sent"
) -> Reading:
    """As `read_refer`, but the problems are returned."""
    return _scan(Path(root), dataset, split_by, images, text, ("refs({}).p",), no_target=False)


def read_grefcoco(
    root: str | Path,
    dataset: str = "grefcoco",
    split_by: str = "unc",
    images: str | Path | None = None,
    *,
    text: Wording = "sent",
) -> ReferringTable:
    """Read the gRefCOCO layout: ``grefs(unc).json`` (or ``.p``, or ``refs(*).p``), where a referent may be several
    objects (``ann_id`` is a list, the mask their union) or none (``[-1]``, the mask is empty).

    Arguments and errors are those of `read_refer`.
    """  # noqa: D205
    return scan_grefcoco(root, dataset, split_by, images, text=text).table()


def scan_grefcoco(
    root: str | Path,
    dataset: str = "grefcoco",
    split_by: str = "unc",
    images: str | Path | None = None,
    *,
    text: Wording = "sent",
) -> Reading:
    """As `read_grefcoco`, but the problems are returned."""
    names = ("grefs({}).json", "grefs({}).p", "refs({}).json", "refs({}).p")
    return _scan(Path(root), dataset, split_by, images, text, names, no_target=True)


def partitions(folder: Path) -> list[tuple[str, str]]:
    """The annotation files in a data set's folder: pairs of name and ``split_by``, sorted."""
    found = ((path.name, re.fullmatch(r"g?refs\((.+)\)\.(?:p|json)", path.name)) for path in sorted(folder.iterdir()))
    return [(name, match[1]) for name, match in found if match]


def _scan(
    root: Path,
    dataset: str,
    split_by: str,
    images: str | Path | None,
    text: Wording,
    names: Sequence[str],
    *,
    no_target: bool,
) -> Reading:
    if text not in ("sent", "raw"):
        raise ValueError(f"text must be 'sent' or 'raw', not {text!r}")
    folder = root / dataset
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: expected the folder of the data set {dataset!r} in {root}")
    file = next((path for name in names if (path := folder / name.format(split_by)).is_file()), None)
    if file is None:
        available = ", ".join(sorted({name for _, name in partitions(folder)}))
        raise FileNotFoundError(
            f"{folder / names[0].format(split_by)} does not exist; split_by can be: {available or '(nothing is there)'}"
        )
    refs = load_plain(file) if file.suffix == ".p" else load_json(file)
    if not isinstance(refs, list):
        raise ValueError(f"{file} must hold a list of referents, not a {type(refs).__name__}")
    instances = _Instances(folder / "instances.json")
    photos = _Photos(images_root(root, images))
    collector = RowCollector(file, root, photos.folder, dataset, split_by, text)
    for number, ref in enumerate(refs):
        if not isinstance(ref, dict):
            collector.unreadable(f"row {number}", "bad value", f"a referent is a dict, not a {type(ref).__name__}")
            continue
        _add(collector, number, ref, instances, photos, text, no_target)
    return collector.reading


def _add(
    collector: RowCollector,
    number: int,
    ref: dict[str, Any],
    instances: "_Instances",
    photos: "_Photos",
    text: Wording,
    no_target: bool,
) -> None:
    problems = []
    if missing := [key for key in ("ref_id", "ann_id", "image_id", "split", "sentences") if key not in ref]:
        problems.append(("missing key", f"the referent lacks {', '.join(missing)}"))
    image_id = ref.get("image_id")
    photo = instances.images.get(image_id) if isinstance(image_id, int) else None
    if photo is None:
        problems.append(("missing annotation", f"image_id {image_id!r} is not in {instances.file}"))
        photo = {}
    ann_ids = _ann_ids(ref)
    if not ann_ids and not no_target and "ann_id" in ref:
        problems.append(("empty mask", "the referent has no annotation; only gRefCOCO has expressions without target"))
    annotations = []
    for ann_id in ann_ids:
        annotation = instances.annotations.get(ann_id) if isinstance(ann_id, int) else None
        if annotation is None:
            problems.append(("missing annotation", f"ann_id {ann_id!r} is not in {instances.file}"))
        elif annotation.get("image_id") != image_id:
            problems.append(
                ("missing annotation", f"ann_id {ann_id} belongs to image {annotation.get('image_id')}, not {image_id}")
            )
        else:
            annotations.append(annotation)
    expressions, kinds, trouble = _sentences(ref.get("sentences"), text)
    values = {
        "split": ref.get("split"),
        "image_id": image_id,
        "ref_id": ref.get("ref_id"),
        "ann_ids": ann_ids,
        "category": instances.category(annotations, ref),
        "image": photos.name(image_id, photo.get("file_name"), ref.get("file_name")),
        "height": photo.get("height"),
        "width": photo.get("width"),
        "expressions": expressions,
        "kinds": kinds,
    }
    complete = len(annotations) == len(ann_ids)
    segmentations = [annotation.get("segmentation") for annotation in annotations] if complete else None
    if not ann_ids and not no_target:
        segmentations = None
    collector.add(f"ref_id {ref.get('ref_id')} (row {number})", values, segmentations, [*problems, *trouble])


def _ann_ids(ref: dict[str, Any]) -> list[Any]:
    """The annotations of a referent: none for gRefCOCO's ``[-1]`` or ``no_target``."""
    ann_ids = ref.get("ann_id")
    ann_ids = ann_ids if isinstance(ann_ids, list) else [ann_ids]
    return [] if ref.get("no_target") else [ann_id for ann_id in ann_ids if ann_id is not None and ann_id != -1]


def _sentences(sentences: Any, text: Wording) -> tuple[list[Any], list[str], Iterator[tuple[str, str]]]:
    if not isinstance(sentences, list) or not all(isinstance(sentence, dict) for sentence in sentences):
        return [], [], iter([("bad value", f"sentences must be a list of dicts, not {str(sentences)[:60]}")])
    expressions = [sentence.get(text) for sentence in sentences]
    kinds = [str(sentence.get("kind", "")) for sentence in sentences]
    lacking = [number for number, sentence in enumerate(sentences) if text not in sentence]
    return expressions, kinds, (("missing key", f"sentence {number} lacks {text!r}") for number in lacking)


class _Instances:
    """``instances.json`` by id."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist: it holds the masks of the referents")
        self.file = file
        content = load_json(file)
        try:
            self.images: dict[int, dict[str, Any]] = {image["id"]: image for image in content["images"]}
            self.annotations: dict[int, dict[str, Any]] = {one["id"]: one for one in content["annotations"]}
            self.categories: dict[int, str] = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{file} is no COCO file: it needs lists of images, annotations and categories with ids ({error!r})"
            ) from error

    def category(self, annotations: Sequence[dict[str, Any]], ref: dict[str, Any]) -> str:
        """Names of the objects' classes; those of several kinds are joined with commas."""
        ids = [annotation.get("category_id") for annotation in annotations]
        if not ids and isinstance(ref.get("category_id"), int):
            ids = [ref["category_id"]]
        return ", ".join(
            dict.fromkeys(self.categories[one] for one in ids if isinstance(one, int) and one in self.categories)
        )


class _Photos:
    """Finds the files of images. The folder is listed once: asking for 20,000 files is slow on a network drive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listing = set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208 - names are what we want

    def name(self, image_id: object, listed: object, of_ref: object) -> str:
        """The first name that exists, otherwise the first that should."""
        candidates = [listed] if isinstance(listed, str) and listed else []
        if isinstance(image_id, int):
            candidates += [f"COCO_train2014_{image_id:012d}.jpg", f"{image_id:012d}.jpg"]
        if isinstance(of_ref, str):  # COCO_train2014_000000581857_16.jpg: the last number is that of the annotation
            candidates.append(re.sub(r"_\d+(\.\w+)$", r"\1", of_ref))
        for candidate in candidates:
            if candidate in self.listing or ("/" in candidate and (self.folder / candidate).is_file()):
                return candidate
        return candidates[0] if candidates else ""


def images_root(root: Path, images: str | Path | None) -> Path:
    """The folder of the images: `images` if given, else the first of `IMAGE_FOLDERS` that exists."""
    if images is not None:
        return Path(images)
    candidates = [root / folder for folder in IMAGE_FOLDERS]
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])
