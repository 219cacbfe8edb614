"""Reader of the published layouts: REFER (RefCOCO, RefCOCO+, RefCOCOg, RefCLEF) and gRefCOCO.

    root/<dataset>/refs(<split_by>).p     list of referents: ann_id, image_id, split, sentences
    root/<dataset>/instances.json         COCO annotations: polygons or RLE
    root/train2014/COCO_train2014_000000000009.jpg

No image is opened: `prepare_dataset` does that.
"""

import os
import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

from maskris.data.readers import Reader
from maskris.data.readers.coco import CocoFile
from maskris.data.readers.hub_files import metadata_files, parquet_files
from maskris.data.readers.pickles import load_plain
from maskris.data.readers.validation import ReadResult, RowValidator
from maskris.utils.files import read_json

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
    root: str | Path,
    dataset: str | None = None,
    split_by: str | None = None,
    images: str | Path | None = None,
    *,
    text: Wording = "sent",
) -> ReadResult:
    """Read the REFER layout.

    Args:
        root: Folder that holds the data sets and, unless `images` is given, the images (see `IMAGE_FOLDERS`); or the
            folder of one data set in it.
        dataset: Name of the data set's folder, for example ``"refcoco+"``; not needed if there is only one.
        split_by: ``"unc"``, ``"umd"``, ``"google"``, … as in ``refs(unc).p``; not needed if there is only one.
        images: Folder of the images; files may be named as in COCO 2014 or as in COCO 2017.
        text: ``"sent"`` is the cleaned sentence, ``"raw"`` what the annotator typed (LAVT trains on the latter).

    Raises:
        FileNotFoundError: If an annotation file is missing.
        ValueError: If several data sets or none fit, a file is damaged, or a pickle holds more than plain values.
    """
    return _read(Path(root), dataset, split_by, images, text, no_target=False)


def read_grefcoco(
    root: str | Path,
    dataset: str | None = "grefcoco",
    split_by: str | None = "unc",
    images: str | Path | None = None,
    *,
    text: Wording = "sent",
) -> ReadResult:
    """Read the gRefCOCO layout: ``grefs(unc).json``, or ``.p``, or ``refs(*).p``; otherwise as `read_refer`.

    A referent may be several objects (``ann_id`` is a list, the mask their union) or none (``[-1]``, an empty mask).
    """
    return _read(Path(root), dataset, split_by, images, text, no_target=True)


def partitions(folder: Path) -> list[tuple[str, str]]:
    """The annotation files in a data set's folder: pairs of name and ``split_by``, sorted."""
    found = ((path.name, partition_of(path.name)) for path in sorted(folder.iterdir()))
    return [(name, split_by) for name, split_by in found if split_by]


def partition_of(name: str) -> str | None:
    """``"unc"`` of ``refs(unc).p``; ``None`` for the name of another file."""
    match = re.fullmatch(r"g?refs\((.+)\)\.(?:p|json)", name)
    return match[1] if match else None


def _choose(source: Path, dataset: str | None, split_by: str | None) -> tuple[Path, str, str]:
    """Folder, partition and name of the one annotation file that a folder and two optional names mean."""
    photos = {Path(folder).parts[0] for folder in IMAGE_FOLDERS}  # which have too many files to be listed
    subfolders = sorted(path for path in source.iterdir() if path.is_dir() and path.name not in photos)
    if partitions(source) and dataset in (None, source.resolve().name):
        folders = [source.resolve()]
    elif dataset is None:
        folders = subfolders
    elif (source / dataset).is_dir():
        folders = [source / dataset]
    else:
        there = ", ".join(folder.name for folder in subfolders if partitions(folder))
        raise FileNotFoundError(f"{source} has no folder {dataset!r}; data sets in it: {there or 'none'}")
    choices = [(folder, by, name) for folder in folders for name, by in partitions(folder)]
    matching = [choice for choice in choices if split_by in (None, choice[1])]
    if len({(folder, by) for folder, by, _ in matching}) == 1:
        return matching[0]
    listed = ", ".join(sorted({f"--dataset {folder.name} --split-by {by}" for folder, by, _ in choices}))
    if not choices:
        raise FileNotFoundError(f"{source} holds no refs(*).p or grefs(*).json: expected <data set>/refs(<split by>).p")
    raise ValueError(f"{'Several data sets fit' if matching else 'Nothing fits'} in {source}; choose one of: {listed}")


def _layout(source: Path, dataset: str | None, split_by: str | None) -> Literal["refer", "grefcoco"] | None:
    """Which of the two a folder has; "refer" also where `read_refer` raises the error again."""
    try:
        folder, _, name = _choose(source, dataset, split_by)
    except FileNotFoundError:
        other = bool(parquet_files(source) or metadata_files(source)) and not (dataset and is_refer(source))
        return None if dataset is None or other else "refer"
    except ValueError:
        return "refer"
    return "grefcoco" if name.startswith("grefs") or folder.name.startswith("grefcoco") else "refer"


def is_refer(source: Path) -> bool:
    """Whether a folder holds data sets in REFER's or gRefCOCO's layout."""
    return _layout(source, None, None) is not None


class Photos:
    """The files of a folder of images by COCO's names.

    The folder is listed once: asking for 20,000 files is slow on a network drive.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listing = set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208 - names are enough

    def name(self, image_id: object, listed: object, of_ref: object) -> str:
        """The first name that exists, otherwise the first that should."""
        names = [listed] if isinstance(listed, str) and listed else []
        if isinstance(image_id, int):
            names += [f"COCO_train2014_{image_id:012d}.jpg", f"{image_id:012d}.jpg"]
        if isinstance(of_ref, str):  # COCO_train2014_000000581857_16.jpg: the last number is that of the annotation
            names.append(re.sub(r"_\d+(\.\w+)$", r"\1", of_ref))
        there = (name for name in names if name in self.listing or ("/" in name and (self.folder / name).is_file()))
        return next(there, next(iter(names), ""))


def _read(
    source: Path, dataset: str | None, split_by: str | None, images: str | Path | None, text: Wording, no_target: bool
) -> ReadResult:
    if text not in ("sent", "raw"):
        raise ValueError(f"text must be 'sent' or 'raw', not {text!r}")
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder that holds data sets")
    folder, split_by, _ = _choose(source, dataset, split_by)
    names = ("grefs({}).json", "grefs({}).p", "refs({}).json", "refs({}).p") if no_target else ("refs({}).p",)
    files = [folder / name.format(split_by) for name in names]
    file = next((path for path in files if path.is_file()), files[0])
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist")
    refs = load_plain(file) if file.suffix == ".p" else read_json(file, object)
    if not isinstance(refs, list):
        raise ValueError(f"{file} must hold a list of referents, not a {type(refs).__name__}")
    if not (folder / "instances.json").is_file():
        raise FileNotFoundError(f"{folder / 'instances.json'} does not exist: it holds the masks of the referents")
    coco = CocoFile(folder / "instances.json")
    candidates = [folder.parent / name for name in IMAGE_FOLDERS] if images is None else [Path(images)]
    photos = Photos(next((path for path in candidates if path.is_dir()), candidates[0]))
    rows = RowValidator(file, photos.folder, folder.name, root=folder.parent, split_by=split_by, text=text)
    for number, ref in enumerate(refs):
        if isinstance(ref, dict):
            _add(rows, number, ref, coco, photos, text, no_target)
        else:
            rows.reject(f"row {number}", "bad value", f"a referent is a dict, not a {type(ref).__name__}")
    return rows.result


def _add(
    rows: RowValidator, number: int, ref: dict[str, Any], coco: CocoFile, photos: Photos, text: str, no_target: bool
) -> None:
    problems = []
    if missing := [key for key in ("ref_id", "ann_id", "image_id", "split", "sentences") if key not in ref]:
        problems.append(("missing key", f"the referent lacks {', '.join(missing)}"))
    sentences, image_id = ref.get("sentences"), ref.get("image_id")
    if not isinstance(sentences, list) or not all(isinstance(sentence, dict) for sentence in sentences):
        problems.append(("bad value", f"sentences must be a list of dicts, not {str(sentences)[:60]}"))
        sentences = []
    problems += [("missing key", f"sentence {n} lacks {text!r}") for n, one in enumerate(sentences) if text not in one]
    values = {
        "split": ref.get("split"),
        "image_id": image_id,
        "ref_id": ref.get("ref_id"),
        "image": photos.name(image_id, coco.image(image_id).get("file_name"), ref.get("file_name")),
        "expressions": [sentence.get(text) for sentence in sentences],
        "kinds": [str(sentence.get("kind", "")) for sentence in sentences],
    }
    where = f"ref_id {ref.get('ref_id')} (row {number})"
    no_target = no_target or "ann_id" not in ref  # which is reported already
    named = [] if ref.get("no_target") else ref.get("ann_id")
    ann_ids = [one for one in (named if isinstance(named, list) else [named]) if one not in (None, -1)]
    coco.add_referent(rows, where, ann_ids, values, problems, no_target, ref.get("category_id"))


REFER = Reader(
    "refer",
    read_refer,
    "a folder with <data set>/refs(<split by>).p",
    "folder",
    lambda *given: _layout(*given) == "refer",
)
GREFCOCO = Reader(
    "grefcoco",
    partial(read_grefcoco, dataset=None, split_by=None),
    "a folder with <data set>/grefs(<split by>).json",
    "folder",
    lambda *given: _layout(*given) == "grefcoco",
)
