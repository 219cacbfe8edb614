"""The result of a reader: one row per referent, and every problem of every row instead of the first one only."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from PIL import Image

from maskris.data import masks
from maskris.data.readers.photos import PhotoFolder
from maskris.data.table import MASK_SOURCES, SPLITS, ReferringTable
from maskris.utils.files import sha256_of
from maskris.utils.text import invalid_text_reason

EXPRESSION_KEYS = {"expressions", "expression", "sentences", "captions", "caption"}
"""Keys of JSON records under which expressions stand."""

_SHOWN_PER_KIND = 20
_IMAGE_FOLDERS = (".", "images", "train2014", "train2017", "val2017")


@dataclass(frozen=True)
class Problem:
    """Something wrong in the annotations or with an image.

    Attributes:
        file: The annotation file.
        where: The row in it, for example ``"ref_id 17 (row 4)"`` or ``"line 12"``; ``""`` for the file as a whole.
        kind: A few words that problems have in common, for example ``"missing image"``.
        message: The problem in a sentence.
        row: Number of the row in `ReadResult.rows`; ``None`` where the row could not be read at all.
        fatal: Whether the data can't be used even without the rows that have problems.
    """

    file: str
    where: str
    kind: str
    message: str
    row: int | None = None
    fatal: bool = False

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.where, self.message) if part)


class InvalidData(ValueError):  # noqa: N818 - "error" would repeat the base class
    """Annotations have problems; `problems` holds all of them."""

    def __init__(self, problems: Sequence[Problem], hint: str = "") -> None:
        self.problems = list(problems)
        counts = Counter(problem.kind for problem in self.problems)
        lines = [f"{len(self.problems)} problem(s): {', '.join(f'{n} x {kind}' for kind, n in counts.items())}"]
        for kind, count in counts.items():
            shown = [problem for problem in self.problems if problem.kind == kind][:_SHOWN_PER_KIND]
            lines += [f"  [{kind}] {problem}" for problem in shown]
            if count > len(shown):
                lines.append(f"  [{kind}] ... and {count - len(shown)} more")
        super().__init__("\n".join(lines + ([hint] if hint else [])))

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidData, (self.problems,)


@dataclass
class ReadResult:
    """All rows of a source, valid and invalid, and their problems.

    Attributes:
        rows: As `ReferringTable.from_rows` takes them; those with problems may be incomplete.
        problems: Of rows (``problem.row``) and of the file.
        images_root: Folder that ``row["image"]`` is relative to.
        places: File and place in it of each row.
        notes: What is no problem, but should be known, in sentences.
        photos: The folder of photos that were written out of the source; removed are those that no row uses.
    """

    rows: list[dict[str, Any]]
    problems: list[Problem]
    images_root: Path
    places: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    photos: PhotoFolder | None = None

    def report(self, row: int, kind: str, message: str) -> None:
        """Add a problem of a row."""
        file, where = self.places[row]
        self.problems.append(Problem(file, where, kind, message, row))

    def table(self, skip_invalid: bool = False) -> ReferringTable:
        """The rows as a table.

        Args:
            skip_invalid: Leave rows with problems out instead of refusing.

        Raises:
            InvalidData: If there are problems (with `skip_invalid`: fatal ones), or no row is left.
        """
        if refused := [problem for problem in self.problems if problem.fatal or not skip_invalid]:
            raise InvalidData(refused)
        bad = {problem.row for problem in self.problems}
        rows = [row for number, row in enumerate(self.rows) if number not in bad]
        if not rows:
            raise InvalidData([*self.problems, Problem("", "", "no rows", "no valid row is left")])
        return ReferringTable.from_rows(rows, self.images_root)


class RowValidator:
    """Validation of a reader's referents, row by row; rows and problems are kept in `result`.

    Args:
        file: The annotation file, for hashes and messages.
        images_root: Folder of the images.
        dataset: Name of the data set; by default that of the file.
        root: Folder that the ``source`` column is relative to; by default the file's.
        split_by: Who split it.
        text: Which of several sentences were read; ``""`` where there is no choice.
    """

    def __init__(
        self,
        file: Path,
        images_root: str | Path,
        dataset: str | None = None,
        *,
        root: Path | None = None,
        split_by: str = "",
        text: str = "",
    ) -> None:
        self.result = ReadResult([], [], Path(images_root))
        self._common = {"dataset": dataset or file.stem, "split_by": split_by, "text": text}
        self._root = root
        self.next_file(file)
        self._ref_ids: dict[int, str] = {}
        self._image_size = cache(image_size)

    def next_file(self, file: Path) -> None:
        """Go on with another file of the same source."""
        self.file = file
        self._common["source"] = file.relative_to(self._root or file.parent).as_posix()
        self._common["source_sha256"] = sha256_of(file)

    def reject(self, where: str, kind: str, message: str, fatal: bool = False) -> None:
        """Note a row of which nothing can be kept, or a problem of the whole file."""
        self.result.problems.append(Problem(str(self.file), where, kind, message, None, fatal))

    def add(
        self,
        where: str,
        values: Mapping[str, Any],
        segmentations: Sequence[Any] | None,
        problems: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Add one referent.

        Args:
            where: The place in the file.
            values: Columns, without those of the mask: ``image``, ``split``, ``expressions`` and what else is known.
                Without ``height`` and ``width``, the size is that of the image file.
            segmentations: The mask is their union; an empty list for an expression without a target, ``None`` where
                there is no mask for one of the `problems`.
            problems: Kinds and messages of what the reader has found itself.
        """
        row = {**self._common, **values}
        self.result.rows.append(row)
        self.result.places.append((str(self.file), where))
        found = [*problems, *_problems_of_text(row), *self._problems_of_ids(where, row)]
        if segmentations is not None and (row.get("height"), row.get("width")) == (None, None) and row.get("image"):
            size = self._image_size(self.result.images_root / row["image"])
            if isinstance(size, ImageProblem):
                found.append(size)
            else:
                row["height"], row["width"] = size
        sides = row.get("height"), row.get("width")
        if not all(_is_whole(side) and 0 < side <= masks.MAX_SIDE for side in sides):
            if sides != (None, None):
                message = f"height and width must be positive whole numbers: {', '.join(map(repr, sides))}"
                found.append(("bad value", message))
        elif segmentations is not None:
            found += _add_mask(row, segmentations)
        for kind, message in found:
            self.result.report(len(self.result.rows) - 1, kind, message)

    def _problems_of_ids(self, where: str, row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        for name in ("ref_id", "image_id"):
            value = row.get(name)
            if value is not None and not (_is_whole(value) and abs(value) < 2**63):
                yield "bad value", f"{name} must be a whole number of at most 63 bits, not {value!r}"
                return
        ref_id = row.get("ref_id")
        if ref_id is not None and (first := self._ref_ids.setdefault(ref_id, where)) is not where:
            yield "duplicate ref_id", f"ref_id {ref_id} is that of {first} too"


class ImageProblem(NamedTuple):
    """Why an image file can't be used."""

    kind: str
    message: str


def image_size(path: Path, decode: bool = False) -> tuple[int, int] | ImageProblem:
    """Height and width of an image by its header; with `decode`, the file is read to its end."""
    try:
        with Image.open(path) as image:
            size = image.height, image.width
            if decode:
                image.draft("L", (1, 1))  # a JPEG is decoded at an eighth of its size: three times faster
                image.load()
    except FileNotFoundError:
        return ImageProblem("missing image", f"{path} does not exist")
    # Damaged files make the decoders raise all kinds of errors; whichever it is, the image can't be used.
    except Exception as error:
        return ImageProblem("undecodable image", f"{path} can't be decoded: {error}")
    return size


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _add_mask(row: dict[str, Any], segmentations: Sequence[Any]) -> list[tuple[str, str]]:
    """Give a row the union of segmentations, unless there are problems, which are returned."""
    height, width = row["height"], row["width"]
    parts, found = [], []
    for segmentation in segmentations:
        try:
            parts.append(masks.from_segmentation(segmentation, height, width))
            if message := masks.misplaced(segmentation, height, width):
                found.append(("misplaced polygon", message))
        except masks.SizeMismatchError as error:
            found.append(("size mismatch", str(error)))
        except (ValueError, TypeError, OverflowError) as error:
            found.append(("damaged mask", str(error)))
    if not found:
        row["mask"] = masks.union(parts, height, width)
        row["area"] = masks.area_of(row["mask"], height, width)
        found += [("empty mask", "the mask has no pixels")] if parts and not row["area"] else []
    return found


def _problems_of_text(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if row.get("split") not in SPLITS:
        yield "unknown split", f"the split is {row.get('split')!r}, but it must be one of {', '.join(SPLITS)}"
    expressions, kinds = row.get("expressions"), row.get("kinds")
    if not isinstance(expressions, list) or not expressions:
        yield "empty expressions", "there is no expression (a list of sentences is expected)"
        return
    for number, expression in enumerate(expressions):
        if not isinstance(expression, str):
            yield "bad value", f"expression {number} is not a string but {expression!r}"
        elif not expression.strip():
            yield "empty expressions", f"expression {number} is empty"
        elif reason := invalid_text_reason(expression):
            yield "bad value", f"expression {number} {reason}"
    texts = {name: row.get(name, "") for name in ("image", "category", "mask_origin")}
    texts = {name: text for name, text in texts.items() if isinstance(text, str)}
    if isinstance(kinds, list) and len(kinds) == len(expressions) and all(isinstance(kind, str) for kind in kinds):
        texts["kinds"] = " ".join(kinds)
    elif kinds is not None:
        yield "bad value", f"kinds must be {len(expressions)} strings, one per expression, not {kinds!r}"
    for name, text in texts.items():
        if reason := invalid_text_reason(text):
            yield "bad value", f"{name} {reason}"
    source, origin = row.get("mask_source", "annotated"), row.get("mask_origin", "")
    if source not in MASK_SOURCES:
        yield "bad value", f"mask_source must be one of {', '.join(MASK_SOURCES)}, not {source!r}"
    elif not isinstance(origin, str):
        yield "bad value", f"mask_origin must be a string, not {origin!r}"
    elif origin and source != "pseudo":
        yield "bad value", f"mask_origin {origin!r} says what made a pseudo mask, but mask_source is {source!r}"


def expressions_of(record: Mapping[str, Any]) -> list[Any]:
    """The sentences of a JSON record: under any of `EXPRESSION_KEYS`, a list of strings or of dicts, or one string."""
    sentences: Any = next((record[key] for key in sorted(EXPRESSION_KEYS, reverse=True) if record.get(key)), [])
    sentences = sentences if isinstance(sentences, list) else [sentences]
    return [one.get("sent", one.get("raw")) if isinstance(one, dict) else one for one in sentences]


def images_folder(folder: Path, images: str | Path | None, names: Sequence[str]) -> Path:
    """The folder of the images: `images` if given, else where one of the first ten is found, else `folder`."""
    if images is not None:
        return Path(images)
    roots = (folder / name for name in _IMAGE_FOLDERS)
    return next((root for root in roots if any((root / name).is_file() for name in names[:10])), folder)
