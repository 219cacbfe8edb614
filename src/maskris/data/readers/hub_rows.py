"""Rows of files from the Hub as referents: photos found or written out, masks of any form, and what a file lacks."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskris.data import masks
from maskris.data.coco_classes import COCO_CLASSES
from maskris.data.mask_forms import BLURRED, from_base64, is_one_polygon, segmentation_of
from maskris.data.orientation import turn_mask
from maskris.data.published_counts import Counts, published_sizes
from maskris.data.readers.hub_columns import by_meaning
from maskris.data.readers.hub_files import SPLIT_WORDS, family_of, label_of
from maskris.data.readers.photo_search import PhotoSearch
from maskris.data.readers.photos import PhotoFolder, WrittenPhoto
from maskris.data.readers.refer import Wording
from maskris.data.readers.validation import ReadResult, RowValidator
from maskris.data.table import TRAIN

EMBED = (
    "`dataset.push_to_hub(…)` stores photos and masks in the file, and `to_parquet` does after "
    '`dataset.with_format("arrow").map(datasets.table.embed_table_storage, batched=True)`'
)


@dataclass(frozen=True)
class HubOptions:
    """The options of `read_hub_parquet` and `read_imagefolder`, which explain them."""

    images: str | Path | None = None
    dataset: str | None = None
    split_by: str | None = None
    text: Wording = "sent"
    photos: str | Path | None = None
    incomplete: bool = False


class HubRows:
    """The referents of one data set from the Hub, file by file.

    Args:
        files: All its annotation files.
        splits: The splits that their names mean.
        base: The folder that was named, or that of the files; photos are looked for there.
        as_refer: Whether the columns are those of REFER's own annotations, so that the table gets their names.
        options: What was asked for.
    """

    def __init__(
        self, files: Sequence[Path], splits: set[str], base: Path, as_refer: bool, options: HubOptions
    ) -> None:
        self._options = options
        label = options.dataset or label_of(files[0] if len(files) == 1 else base)
        self._family = family_of(label)
        self._unnamed = as_refer and self._family is None and options.dataset is None
        if self._family and options.split_by:
            self._family = self._family[0], options.split_by
        name, by = self._family if self._family and (as_refer or self._family[0] == "refcoco-m") else (label, "")
        given = options.dataset or name, options.split_by or by
        self._rows = RowValidator(files[0], base, given[0], root=base, split_by=given[1])
        self._search = PhotoSearch(base, options.images, coco=as_refer)
        self._photos = PhotoFolder(Path(options.photos)) if options.photos is not None else None
        self._test_is_testa = self._family in (("refcoco", "unc"), ("refcoco+", "unc")) and "testA" not in splits
        self._image_ids: dict[str, int] = {}
        self._seen: Counter[str] = Counter()
        self._lacks: list[tuple[str, str]] = []

    def next_file(self, file: Path) -> None:
        """Go on with another file."""
        self._rows.next_file(file)

    def note(self, message: str) -> None:
        """Tell something that is no problem."""
        self._rows.result.notes.append(message)

    def lack(self, kind: str, message: str) -> None:
        """Name what the data carry less than they might: refused, unless incomplete data are taken."""
        self._lacks.append((kind, message))

    def discard(self) -> None:
        """Remove the photos that were written."""
        if self._photos is not None:
            self._photos.remove()

    def reject(self, where: str, message: str) -> None:
        """Note a row of which nothing can be read."""
        self._rows.reject(where, "bad value", message)

    def add(self, where: str, record: dict[str, Any], split: str | None) -> None:
        """Add the referents of one row.

        Args:
            where: The place in the file.
            record: Values by the names of their columns; nested lists of numbers may be arrays.
            split: What the file's name says.
        """
        values = by_meaning(record)
        listed = values.pop("objects", None)
        given = listed if isinstance(listed, list) else []
        objects = [by_meaning(one) if isinstance(one, dict) else {} for one in given]
        if any("expressions" in one for one in objects):
            for number, one in enumerate(objects):
                self._add(f"{where}, object {number}", values | one, split)
        elif listed == [] and "expressions" not in values:
            self._seen["empty"] += 1
        else:  # what is listed, if anything, are other things in the photo
            self._add(where, values, split)

    def finish(self) -> ReadResult:
        """The result, with what the data lack as a whole."""
        result, seen = self._rows.result, self._seen
        if seen["no mask"]:
            boxes = " (a box is no mask)" if seen["box"] else ""
            self.lack("no mask", f"{seen['no mask']:,} row(s) have no mask{boxes}, and serve prediction only")
        if seen["one polygon"] and not seen["polygons"]:
            lost = "what the objects have in further parts, their holes, and crowds are lost"
            self.lack("one polygon only", f"each of {seen['one polygon']:,} masks is a single polygon: {lost}")
        self._compare_with_published()
        for kind, message in self._lacks:
            if self._options.incomplete:
                self.note(f"Incomplete: {message}.")
            else:
                self._rows.reject("", kind, f"{message}; --incomplete takes the data as they are", fatal=True)
        if seen["test"]:
            self.note('What the file calls "test" is testA.')
        if seen["empty"]:
            self.note(f"{seen['empty']:,} photo(s) have an empty list of objects, and give no row.")
        if seen["blurred"]:
            self.note(f"{BLURRED} There are {seen['blurred']:,}.")
        if self._unnamed:
            self.note("These columns are REFER's; which data set it is, name with --dataset refcoco (or refcoco+, …).")
        result.images_root = self._search.folder
        if self._photos is not None and seen["embedded"]:
            result.images_root, result.photos = self._photos.folder, self._photos
            turned = f", {self._photos.turned:,} turned upright as their EXIF data say" if self._photos.turned else ""
            self.note(f"Photos out of the file: {self._photos.folder} ({len(self._photos.written):,} new{turned}).")
        return result

    def _compare_with_published(self) -> None:
        """Name the splits of a published data set that have other referents, or fewer expressions."""
        if self._family is None or not (published := published_sizes(*self._family)):
            return
        referents: Counter[str] = Counter()
        sentences: Counter[str] = Counter()
        for row in self._rows.result.rows:
            referents[str(row["split"])] += 1
            sentences[str(row["split"])] += len(row["expressions"])
        for split, number in referents.items():
            known = published.get(split, Counts(None, None, None))
            if number != known.referents or sentences[split] < (known.expressions or 0):
                there = f"{split} has {number:,} referents with {sentences[split]:,} expressions"
                expected = f"{known.referents:,}" if known.referents else "no such split"
                expected += f" with {known.expressions:,} there" if known.expressions else ""
                self.lack("unlike the published data", f"{there}; {' '.join(self._family)} has {expected}")

    def _add(self, where: str, values: dict[str, Any], split: str | None) -> None:
        problems: list[tuple[str, str]] = []
        image_id = _whole(values.get("image_id"))
        image, photo = self._photo(values, image_id, problems)
        size = _stated_size(values)
        if photo is not None and size in (None, (photo.width, photo.height)):
            size = photo.height, photo.width
        expressions, text = self._expressions(values.get("expressions"))
        segmentations = self._segmentations(values, size, photo, problems)
        no_target = values.get("no_target") is True
        masked = values.get("mask_source") or "annotated"
        ref_id, ann_id = _whole(values.get("ref_id")), _whole(values.get("ann_id"))
        ref_id = len(self._rows.result.rows) if ref_id is None else ref_id
        row = {
            "split": self._split(values.get("split"), split),
            "image_id": self._image_ids.setdefault(image, len(self._image_ids)) if image_id is None else image_id,
            "ref_id": ref_id,
            "ann_ids": [] if no_target else [ref_id if ann_id is None else ann_id],
            "category": str(values.get("category") or COCO_CLASSES.get(_whole(values.get("category_id")) or 0, "")),
            "image": image,
            "height": size and size[0],
            "width": size and size[1],
            "expressions": expressions,
            "kinds": values.get("kinds"),
            "mask_source": masked if "mask" in values or no_target else "none",
            "mask_origin": values.get("mask_origin") or "",
            "text": text,
        }
        self._rows.add(where, row, segmentations, problems)

    def _split(self, of_row: Any, of_file: str | None) -> Any:
        split = SPLIT_WORDS.get(of_row.lower(), of_row) if isinstance(of_row, str) else of_row
        split = split or of_file or TRAIN
        if split == "test" and self._test_is_testa:
            self._seen["test"] += 1
            return "testA"
        return split

    def _expressions(self, found: Any) -> tuple[list[Any], str]:
        """The sentences, and which they are where each stands there twice."""
        text = self._options.text
        if isinstance(found, str) and found.lstrip().startswith("["):
            with suppress(ValueError):  # a sentence that starts with a bracket
                found = json.loads(found)
        if isinstance(found, dict) and isinstance(found.get(text), list):
            return found[text], text  # a list of objects as `datasets` 3 stored it
        if not isinstance(found, list):
            return ([] if found is None else [found]), ""
        twice = any(isinstance(one, dict) for one in found)
        return [one.get(text) if isinstance(one, dict) else one for one in found], text if twice else ""

    def _photo(
        self, values: dict[str, Any], image_id: int | None, problems: list[tuple[str, str]]
    ) -> tuple[str, WrittenPhoto | None]:
        """The name of a row's photo, and the photo itself if the file holds it."""
        given = values.get("image")
        data, path = (given.get("bytes"), given.get("path")) if isinstance(given, dict) else (given, given)
        if isinstance(data, str) and (decoded := from_base64(data)):
            data, path = decoded, None
        names = [name for name in (path, values.get("image_name")) if isinstance(name, str) and name]
        if isinstance(data, bytes) and data and self._options.images is None:
            return self._embedded(data, names, problems)
        if not names:
            problems.append(("missing image", "there is neither a photo nor the name of one"))
            return "", None
        found = self._search.find(names, image_id)
        if isinstance(given, dict) and not (self._search.folder / found).is_file():
            lost = f"the file holds no photo, only the path {names[0]}"
            problems.append(("missing image", f"{lost}; name its folder with --images, or embed it: {EMBED}"))
        return found, None

    def _embedded(
        self, data: bytes, names: list[str], problems: list[tuple[str, str]]
    ) -> tuple[str, WrittenPhoto | None]:
        """Write a photo that the file holds."""
        if self._photos is None:
            raise ValueError(f"{self._rows.file} holds photos; say where they are to be written (`photos`)")
        self._seen["embedded"] += 1
        try:
            photo = self._photos.add(data, names)
        except ValueError as error:
            problems.append(("undecodable image", str(error)))
            return "", None
        return photo.name, photo

    def _segmentations(
        self,
        values: dict[str, Any],
        size: tuple[int, int] | None,
        photo: WrittenPhoto | None,
        problems: list[tuple[str, str]],
    ) -> list[Any] | None:
        """The mask as `RowValidator.add` takes it, in the pixels of the upright photo where the file holds it."""
        no_target = values.get("no_target") is True
        if no_target and values.get("mask") is None:
            return []
        if "mask" not in values:
            self._seen["no mask"] += 1
            self._seen["box"] += "box" in values
            return []
        if values["mask"] is None:
            problems.append(("empty mask", "the mask is null"))
            return None
        try:
            found = segmentation_of(values["mask"], size, self._load)
            if isinstance(found, list):
                self._seen["one polygon" if is_one_polygon(found) else "polygons"] += 1
            else:
                self._seen["blurred"] += "blurred" in found
            frame = _stated_size(values) if isinstance(found, list) else tuple(found.get("size") or ())
            if photo is not None and photo.orientation >= 5 and photo.height != photo.width and frame == photo.stored:
                counts = masks.from_segmentation(found, *photo.stored)
                counts, *upright = turn_mask(counts, *photo.stored, photo.orientation)
                found = {"size": upright, "counts": counts}
            if no_target and size and masks.area_of(masks.from_segmentation(found, *size), *size):
                problems.append(("bad value", "no_target is true, but there is a mask"))
        except (OSError, ValueError, TypeError) as error:
            problems.append(("damaged mask", str(error)))
            return None
        return [] if no_target else [found]

    def _load(self, path: str) -> bytes:
        """A mask that lies in a file of its own."""
        file = self._rows.file.parent / path
        if not file.is_file():
            raise FileNotFoundError(f"there is no mask, only the path {path} where no file is; embed it: {EMBED}")
        return file.read_bytes()


def _stated_size(values: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width that the row states."""
    info = values.get("image_info")
    if isinstance(info, str):
        with suppress(ValueError):
            info = json.loads(info)
    stated = values if values.get("height") is not None else info if isinstance(info, dict) else {}
    height, width = _whole(stated.get("height")), _whole(stated.get("width"))
    return (height, width) if height and width else None


def _whole(value: Any) -> int | None:
    """A whole number, which may be stored as a float or as text; ``None`` for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.strip().removeprefix("-").isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
