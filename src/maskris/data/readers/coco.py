"""Readers of people's own data: COCO-style JSON with expressions, and JSON Lines.

`docs/data.md` shows both formats. Import the functions from `maskris.data.readers.refer`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskris.data.readers.collector import Reading, RowCollector, load_json
from maskris.data.table import ReferringTable


def read_coco(file: str | Path, images: str | Path | None = None, *, dataset: str | None = None) -> ReferringTable:
    """Read COCO-style JSON in which objects carry expressions.

    An annotation (or an entry of a list ``refs`` or ``referring``, with ``ann_id``: one id or several) is a referent if
    it has ``expressions`` or ``sentences`` (lists) or ``caption`` or ``expression`` (one string); annotations without
    are passed over. Its ``split``, or else that of its image, or else ``"train"``, is its split.

    Args:
        file: The JSON file.
        images: Folder of the images; by default the file's folder or ``images`` or ``train2017``, … in it.
        dataset: Name for the table; by default the file's name.

    Raises:
        FileNotFoundError: If the file is missing.
        InvalidData: If annotations have problems; the error holds all of them.
        ValueError: If the file is no COCO file.
    """
    return scan_coco(file, images, dataset=dataset).table()


def scan_coco(file: str | Path, images: str | Path | None = None, *, dataset: str | None = None) -> Reading:
    """As `read_coco`, but the problems are returned."""
    file = Path(file)
    content = load_json(file)
    try:
        photos = {image["id"]: image for image in content["images"]}
        annotations = {one["id"]: one for one in content["annotations"]}
        categories = {one["id"]: str(one["name"]) for one in content.get("categories", [])}
        refs = content.get("refs", content.get("referring"))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is no COCO file: expected lists images and annotations of dicts with ids ({error!r})"
        ) from error
    names = [str(photo.get("file_name")) for photo in photos.values()]
    collector = RowCollector(file, file.parent, _root_of(file.parent, images, names), dataset or file.stem)
    key = "annotations" if refs is None else "refs" if "refs" in content else "referring"
    for number, ref in enumerate(content[key]):
        where = f"{key}[{number}]" + (f" (id {ref['id']})" if isinstance(ref, dict) and "id" in ref else "")
        if not isinstance(ref, dict):
            collector.unreadable(where, "bad value", f"expected a dict, not {str(ref)[:60]}")
        elif key != "annotations" or (_EXPRESSION_KEYS & ref.keys()):
            _add_coco(collector, where, ref, photos, annotations, categories)
    if not collector.reading.rows:
        collector.unreadable("", "empty expressions", "no annotation carries expressions", fatal=True)
    return collector.reading


_EXPRESSION_KEYS = {"expressions", "expression", "sentences", "captions", "caption"}


def _expressions(record: dict[str, Any]) -> list[Any]:
    """The sentences of a record: under any of `_EXPRESSION_KEYS`, a list of strings or of dicts, or one string."""
    sentences: Any = next((record[key] for key in sorted(_EXPRESSION_KEYS, reverse=True) if record.get(key)), [])
    sentences = sentences if isinstance(sentences, list) else [sentences]
    return [one.get("sent", one.get("raw")) if isinstance(one, dict) else one for one in sentences]


def _add_coco(
    collector: RowCollector,
    where: str,
    ref: dict[str, Any],
    photos: dict[Any, dict[str, Any]],
    annotations: dict[Any, dict[str, Any]],
    categories: dict[Any, str],
) -> None:
    problems = []
    named = ref.get("ann_ids", ref.get("ann_id", ref.get("annotation_id", ref.get("id"))))
    ann_ids = named if isinstance(named, list) else [named]
    targets = [annotations[one] for one in ann_ids if isinstance(one, int) and one in annotations]
    if len(targets) < len(ann_ids) or not ann_ids:
        problems.append(("missing annotation", f"there is no annotation {named!r}"))
    image_id = ref.get("image_id", targets[0].get("image_id") if targets else None)
    photo = photos.get(image_id, {}) if isinstance(image_id, int) else {}
    if not photo:
        problems.append(("missing annotation", f"image_id {image_id!r} is not in the list images"))
    if any(target.get("image_id") != image_id for target in targets):
        problems.append(("missing annotation", f"an annotation belongs to another image than {image_id}"))
    kinds_of_object = (target.get("category_id") for target in targets)
    names = [categories[one] for one in kinds_of_object if isinstance(one, int) and one in categories]
    values = {
        "split": ref.get("split", photo.get("split", "train")),
        "image_id": image_id,
        "ref_id": ref.get("ref_id", ref.get("id", len(collector.reading.rows))),
        "ann_ids": ann_ids,
        "category": ", ".join(dict.fromkeys(names)),
        "image": str(photo.get("file_name", "")),
        "height": photo.get("height"),
        "width": photo.get("width"),
        "expressions": _expressions(ref),
        "kinds": ref.get("kinds"),
        "mask_source": ref.get("mask_source", "annotated"),
    }
    collector.add(where, values, None if problems else [one.get("segmentation") for one in targets], problems)


_FOLDERS: tuple[str, ...] = (".", "images", "train2014", "train2017", "val2017")


def _root_of(folder: Path, images: str | Path | None, names: list[str]) -> Path:
    """The folder of the images: `images` if given, else where the first of them is found, else `folder`."""
    if images is not None:
        return Path(images)
    exists: Callable[[Path], bool] = lambda root: any((root / name).is_file() for name in names[:10])  # noqa: E731
    return next((root for name in _FOLDERS if exists(root := folder / name)), folder)
