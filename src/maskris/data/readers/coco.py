"""Reader of COCO-style JSON whose objects carry expressions, and of COCO's lists of images, annotations and classes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskris.data.readers import Reader
from maskris.data.readers.validation import EXPRESSION_KEYS, ReadResult, RowValidator, expressions_of, images_folder
from maskris.data.table import TRAIN
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
    """Images, annotations and categories of a COCO file by their ids; raises as `read_coco`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.values: Any = read_json(file, object)
        try:
            self.images: dict[Any, dict[str, Any]] = {one["id"]: one for one in self.values["images"]}
            self.annotations: dict[Any, dict[str, Any]] = {one["id"]: one for one in self.values["annotations"]}
            self.categories = {one["id"]: str(one["name"]) for one in self.values.get("categories", [])}
            self.file_names = [str(image.get("file_name")) for image in self.images.values()]
        except (KeyError, TypeError, AttributeError) as error:
            needed = "lists of images, annotations and categories with ids"
            raise ValueError(f"{file} is no COCO file: it needs {needed} ({error!r})") from error

    def image(self, image_id: object) -> dict[str, Any]:
        """The image with an id; empty if there is none."""
        return self.images.get(image_id, {}) if isinstance(image_id, int) else {}

    def annotation(self, ann_id: object) -> dict[str, Any] | None:
        """The annotation with an id."""
        return self.annotations.get(ann_id) if isinstance(ann_id, int) else None

    def add_referent(
        self,
        rows: RowValidator,
        where: str,
        ann_ids: list[Any],
        values: dict[str, Any],
        problems: Iterable[tuple[str, str]] = (),
        no_target: bool = False,
        category_id: object = None,
    ) -> None:
        """Add a referent whose mask is the union of annotations.

        Args:
            rows: Gets the row.
            where: The place in the file that names the annotations.
            ann_ids: Their ids.
            values: Columns, ``image_id`` among them; the image, its size and the categories are added.
            problems: As for `RowValidator.add`.
            no_target: Whether there may be no annotation.
            category_id: Of a referent without annotations.
        """
        found, image_id = list(problems), values["image_id"]
        photo = self.image(image_id)
        if not photo:
            found.append(("missing annotation", f"image_id {image_id!r} is not in {self.file}"))
        targets = []
        for ann_id in ann_ids:
            target = self.annotation(ann_id)
            if target is None:
                found.append(("missing annotation", f"ann_id {ann_id!r} is not in {self.file}"))
            elif target.get("image_id") != image_id:
                message = f"ann_id {ann_id} belongs to image {target.get('image_id')}, not {image_id}"
                found.append(("missing annotation", message))
            else:
                targets.append(target)
        if not (ann_ids or no_target):
            message = "the referent has no annotation; only gRefCOCO has expressions without target"
            found.append(("empty mask", message))
        classes = [target.get("category_id") for target in targets] or [category_id]
        names = (self.categories[one] for one in classes if isinstance(one, int) and one in self.categories)
        row = {
            "ann_ids": ann_ids,
            "category": ", ".join(dict.fromkeys(names)),
            "image": str(photo.get("file_name", "")),
            "height": photo.get("height"),
            "width": photo.get("width"),
            **values,
        }
        complete = photo and len(targets) == len(ann_ids) and (ann_ids or no_target)
        rows.add(where, row, [target.get("segmentation") for target in targets] if complete else None, found)


def _add(rows: RowValidator, where: str, ref: dict[str, Any], content: CocoFile) -> None:
    named = ref.get("ann_ids", ref.get("ann_id", ref.get("annotation_id", ref.get("id"))))
    ann_ids = named if isinstance(named, list) else [named]
    first = next(filter(None, map(content.annotation, ann_ids)), {})
    image_id = ref.get("image_id", first.get("image_id"))
    values = {
        "split": ref.get("split", content.image(image_id).get("split", TRAIN)),
        "image_id": image_id,
        "ref_id": ref.get("ref_id", ref.get("id", len(rows.result.rows))),
        "expressions": expressions_of(ref),
        "kinds": ref.get("kinds"),
        "mask_source": ref.get("mask_source", "annotated"),
        "mask_origin": ref.get("mask_origin", ""),
    }
    content.add_referent(rows, where, ann_ids, values)


COCO = Reader("coco", read_coco, "a COCO-style .json file", "file", lambda source, *_: source.suffix.lower() == ".json")
