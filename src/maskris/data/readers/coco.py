"""Reader of COCO-style JSON whose objects carry expressions, and of COCO's lists of images, annotations and classes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskris.data.readers import Reader
from maskris.data.readers.validation import EXPRESSION_KEYS, ReadResult, RowValidator, expressions_of, images_folder
from maskris.utils.files import read_json


def read_coco(source: str | Path, images: str | Path | None = None, *, dataset: str | None = None) -> ReadResult:
    """Read COCO-style JSON in which objects carry expressions.

    An annotation (or an entry of a list ``refs`` or ``referring``, with ``ann_id``: one id or several) is a referent if
    it has ``expressions`` or ``sentences`` (lists) or ``caption`` or ``expression`` (one string); annotations without
    are passed over. Its ``split``, or else that of its image, or else ``"train"``, is its split.

    Args:
        source: The JSON file.
        images: Folder of the images; by default the file's folder or ``images`` or ``train2017``, … in it.
        dataset: Name for the table; by default the file's name.

    Returns:
        Rows and problems; ``read_coco(…).table()`` is the table.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If the file is no COCO file.
    """
    file = Path(source)
    content = CocoFile(file)
    rows = RowValidator(file, images_folder(file.parent, images, content.file_names), dataset)
    key = next((key for key in ("refs", "referring") if key in content.values), "annotations")
    for number, ref in enumerate(content.values[key]):
        where = f"{key}[{number}]" + (f" (id {ref['id']})" if isinstance(ref, dict) and "id" in ref else "")
        if not isinstance(ref, dict):
            rows.reject(where, "bad value", f"expected a dict, not {str(ref)[:60]}")
        elif key != "annotations" or (EXPRESSION_KEYS & ref.keys()):
            _add(rows, where, ref, content)
    if not rows.result.rows:
        rows.reject("", "empty expressions", "no annotation carries expressions", fatal=True)
    return rows.result


class CocoFile:
    """Images, annotations and categories of a COCO file by their ids.

    Args:
        file: The JSON file.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it is no COCO file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.values: Any = read_json(file, object)
        try:
            self.images: dict[Any, dict[str, Any]] = {one["id"]: one for one in self.values["images"]}
            self.annotations: dict[Any, dict[str, Any]] = {one["id"]: one for one in self.values["annotations"]}
            self.categories = {one["id"]: str(one["name"]) for one in self.values.get("categories", [])}
            self.file_names = [str(image.get("file_name")) for image in self.images.values()]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{file} is no COCO file: it needs lists of images, annotations and categories with ids ({error!r})"
            ) from error

    def image(self, image_id: object) -> dict[str, Any]:
        """The image with an id; empty if there is none."""
        return self.images.get(image_id, {}) if isinstance(image_id, int) else {}

    def annotation(self, ann_id: object) -> dict[str, Any] | None:
        """The annotation with an id."""
        return self.annotations.get(ann_id) if isinstance(ann_id, int) else None

    def category(self, ids: Iterable[object]) -> str:
        """Names of classes; those of several kinds are joined with commas."""
        known = (self.categories[one] for one in ids if isinstance(one, int) and one in self.categories)
        return ", ".join(dict.fromkeys(known))


def _add(rows: RowValidator, where: str, ref: dict[str, Any], content: CocoFile) -> None:
    problems = []
    named = ref.get("ann_ids", ref.get("ann_id", ref.get("annotation_id", ref.get("id"))))
    ann_ids = named if isinstance(named, list) else [named]
    targets = [target for one in ann_ids if (target := content.annotation(one)) is not None]
    if len(targets) < len(ann_ids) or not ann_ids:
        problems.append(("missing annotation", f"there is no annotation {named!r}"))
    image_id = ref.get("image_id", targets[0].get("image_id") if targets else None)
    photo = content.image(image_id)
    if not photo:
        problems.append(("missing annotation", f"image_id {image_id!r} is not in the list images"))
    if any(target.get("image_id") != image_id for target in targets):
        problems.append(("missing annotation", f"an annotation belongs to another image than {image_id}"))
    values = {
        "split": ref.get("split", photo.get("split", "train")),
        "image_id": image_id,
        "ref_id": ref.get("ref_id", ref.get("id", len(rows.result.rows))),
        "ann_ids": ann_ids,
        "category": content.category(target.get("category_id") for target in targets),
        "image": str(photo.get("file_name", "")),
        "height": photo.get("height"),
        "width": photo.get("width"),
        "expressions": expressions_of(ref),
        "kinds": ref.get("kinds"),
        "mask_source": ref.get("mask_source", "annotated"),
    }
    rows.add(where, values, None if problems else [one.get("segmentation") for one in targets], problems)


COCO = Reader("coco", read_coco, "a COCO-style .json file", "file", lambda source, *_: source.suffix.lower() == ".json")
