"""The referring table: one row per referent, with its expressions and its mask, in a Parquet file.

The rows live in Arrow buffers, which forked worker processes share and which hold no Python objects: 150,000
expressions open in a fraction of a second.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maskris.data import masks
from maskris.utils.files import atomic_file

SPLITS = (
    "train", "val", "test", "testA", "testB", "testC", "testAB", "testAC", "testBC", "combinations", "longer"
)  # fmt: skip
"""Names that a split may have; anything else is more likely a slip than a split.

Those from testC to testBC are RefCLEF's, where a referent of testAB belongs to the tests A and B: ``split(["testA",
"testAB", "testAC"])`` is what REFER calls testA. The last two are the embedded data set's: unseen combinations of
attributes, and longer sentences than in training.
"""

TRAIN = SPLITS[0]
"""The split to train on; all others are for evaluation."""

MASK_SOURCES = ("annotated", "pseudo", "none")
_ROOT_KEY = b"maskris.images_root"


@dataclass(frozen=True)
class Referent:
    """One row of a table.

    Attributes:
        dataset: Name of the data set, for example ``"refcoco+"``.
        split_by: Who split it, for example ``"unc"``.
        split: ``"train"``, ``"val"``, ``"testA"``, …
        image_id: Number of the image in its source.
        ref_id: Number of the referent in its source.
        ann_ids: Numbers of the annotations; the mask is their union; empty where the expressions have no target.
        ann_id: The first of them, or -1.
        category: Name of the object's class; ``""`` where unknown.
        image: Path of the image relative to the table's images root.
        height: Of the image in pixels.
        width: Of the image in pixels.
        expressions: The sentences about the referent.
        kinds: One per expression, for example ``"location"``; ``""`` where unknown.
        origins: In training rows of a combined data set one per expression, for example ``"refcoco unc 17"``: its data
            set, and the number of the referent there. Otherwise empty, since the row has both.
        text: Which of the sentences that its source offers the expressions are: ``"sent"``, ``"raw"``, or ``""`` where
            it offers one only.
        mask: Compressed COCO counts of ``[height, width]``.
        mask_source: ``"annotated"`` by people (an expression without a target too: its mask is known to be empty),
            ``"pseudo"`` by a model, or ``"none"`` where it is unknown.
        mask_origin: Of a pseudo mask: which model, the hash of its weights, and the rule that made a mask of what it
            said; ``""`` otherwise, or where nobody noted it.
        box: x, y, width, height of the mask's tight box in pixels; zeros where the mask is empty.
        area: Pixels of the mask.
        source: The annotation file, relative to the data folder.
        source_sha256: Of that file.
    """

    dataset: str
    split_by: str
    split: str
    image_id: int
    ref_id: int
    ann_ids: tuple[int, ...]
    ann_id: int
    category: str
    image: str
    height: int
    width: int
    expressions: tuple[str, ...]
    kinds: tuple[str, ...]
    origins: tuple[str, ...]
    text: str
    mask: bytes
    mask_source: str
    mask_origin: str
    box: masks.Box
    area: int
    source: str
    source_sha256: str


_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    bytes: pa.large_binary(),
    tuple[int, ...]: pa.list_(pa.int64()),
    tuple[str, ...]: pa.list_(pa.string()),
    masks.Box: pa.list_(pa.float32(), 4),
}

SCHEMA = pa.schema(
    (field.name, pa.int32() if field.name in ("height", "width") else _TYPES[field.type]) for field in fields(Referent)
)
"""The columns: those of `Referent`."""


class ReferringTable:
    """Referents with their expressions, masks and images; immutable.

    Args:
        table: An Arrow table with the columns of `SCHEMA`.
        images_root: Folder that the ``image`` column is relative to.

    Raises:
        ValueError: If columns are missing.
    """

    def __init__(self, table: pa.Table, images_root: str | Path) -> None:
        if missing := ", ".join(name for name in SCHEMA.names if name not in table.column_names):
            raise ValueError(f"This is no table of referents: it lacks the columns {missing}; run `maskris prepare`")
        self.arrow: pa.Table = table.select(SCHEMA.names).cast(SCHEMA).combine_chunks().replace_schema_metadata(None)
        self.images_root = Path(images_root)
        self._origin: tuple[str, str, np.ndarray | None] | None = None  # path, images root and rows, for pickling

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], images_root: str | Path) -> "ReferringTable":
        """Build a table from dictionaries.

        Args:
            rows: Each needs ``image``, ``expressions`` and ``mask``, either as compressed counts with ``height`` and
                ``width`` or as a ``[h, w]`` array. Everything else has a default: box and area follow from the mask,
                an image's number is that of its first appearance, a referent's that of its row, and the split is
                ``"train"``. With a ``mask_source`` of ``"none"``, the mask is empty by default.
            images_root: Folder that ``image`` is relative to.

        Raises:
            ValueError: If a row lacks something, has an unknown key, or contradicts itself.
        """
        image_ids: dict[str, int] = {}
        complete = [_complete(number, row, image_ids) for number, row in enumerate(rows)]
        return cls(pa.Table.from_pylist(complete, schema=SCHEMA), images_root)

    @classmethod
    def open(cls, path: str | Path, images_root: str | Path | None = None) -> "ReferringTable":
        """Open a file that `save` wrote.

        Args:
            path: The Parquet file.
            images_root: Folder of the images, if it is another one than when the table was saved.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not a table of referents.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; `maskris prepare SOURCE --out {path}` makes such a file")
        try:
            table = read_parquet(path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a Parquet file: {error}") from error
        if images_root is None:
            images_root = path.parent / (table.schema.metadata or {}).get(_ROOT_KEY, b".").decode()
        try:
            opened = cls(table, images_root)
        except ValueError as error:  # which Arrow's are too
            raise ValueError(f"{path}: {error}") from error
        opened._origin = (str(path.resolve()), str(images_root), None)
        return opened

    def save(self, path: str | Path) -> None:
        """Write a Parquet file atomically; the same table gives the same bytes.

        The images root is stored relative to the file where it lies beneath the file's folder (both can then be moved
        together), otherwise absolute.
        """
        root, folder = self.images_root.resolve(), Path(path).parent.resolve()
        stored = root.relative_to(folder) if root.is_relative_to(folder) else root
        table = self.arrow.replace_schema_metadata({_ROOT_KEY: stored.as_posix().encode()})
        with atomic_file(Path(path), "wb") as file:  # pyarrow would take "a:b.parquet" for a URI
            pq.write_table(table, file, compression="zstd", use_dictionary=_REPEATED)

    @classmethod
    def concat(cls, tables: Sequence["ReferringTable"]) -> "ReferringTable":
        """The rows of several tables, one after the other.

        Where their images lie in different folders, the ``image`` column becomes absolute.

        Raises:
            ValueError: If there are none.
        """
        if not tables:
            raise ValueError("Expected at least one table to concatenate")
        root = tables[0].images_root
        alike = all(table.images_root == root for table in tables)
        parts = [table.arrow if alike else table._with_absolute_images() for table in tables]
        return cls(pa.concat_tables(parts), root)

    def __len__(self) -> int:
        """The number of rows, that is of referents."""
        return int(self.arrow.num_rows)

    def __repr__(self) -> str:
        splits = ", ".join(self.splits) or "empty"
        return f"ReferringTable({len(self)} referents, {self.num_expressions} expressions; {splits})"

    @property
    def num_expressions(self) -> int:
        """Expressions of all referents together."""
        return int(self.expressions_per_row.sum())

    @property
    def expressions_per_row(self) -> np.ndarray:
        """Expressions of each referent: ``[rows]`` int64."""
        return np.asarray(pc.list_value_length(self.arrow["expressions"]), dtype=np.int64)

    @property
    def num_images(self) -> int:
        """Different images."""
        return int(pc.count_distinct(self.arrow["image"]).as_py())

    @property
    def splits(self) -> list[str]:
        """The splits that occur, in the order of their first rows."""
        return [str(name) for name in pc.unique(self.arrow["split"]).to_pylist()]

    def column(self, name: str) -> list[Any]:
        """One column as Python objects."""
        return list(self.arrow[name].to_pylist())

    def row(self, i: int) -> Referent:
        """One referent.

        Raises:
            IndexError: If there is no such row.
        """
        values = ((name, self._value(name, i)) for name in SCHEMA.names)
        plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values}
        return Referent(**plain)

    def __iter__(self) -> Iterator[Referent]:
        return (self.row(i) for i in range(len(self)))

    def expressions(self, i: int) -> tuple[str, ...]:
        """The expressions of row `i`."""
        return tuple(self._value("expressions", i))

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of the image of row `i`."""
        return self._value("height", i), self._value("width", i)

    def mask(self, i: int) -> np.ndarray:
        """The mask of row `i`: ``[height, width]`` bool at the image's original size."""
        return masks.decode(self._value("mask", i), *self.size(i))

    def image_path(self, i: int) -> Path:
        """Where the image of row `i` lies."""
        return self.images_root / str(self._value("image", i))

    def split(self, names: str | Sequence[str]) -> "ReferringTable":
        """The rows of one split or several, in the order of this table.

        Raises:
            KeyError: If a split does not occur.
            ValueError: If none is named.
        """
        wanted = [names] if isinstance(names, str) else list(names)
        if not wanted:
            raise ValueError(f"Name at least one split; the table has {', '.join(self.splits) or 'none'}")
        if unknown := [name for name in wanted if name not in self.splits]:
            raise KeyError(f"The table has no split {', '.join(unknown)}; it has {', '.join(self.splits) or 'none'}")
        return self.take(np.flatnonzero(pc.is_in(self.arrow["split"], pa.array(wanted))))

    def take(self, rows: Sequence[int] | np.ndarray) -> "ReferringTable":
        """The rows with these numbers, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        taken = ReferringTable(self.arrow.take(pa.array(rows)), self.images_root)
        if self._origin is not None:
            path, root, earlier = self._origin
            taken._origin = (path, root, rows if earlier is None else earlier[rows])
        return taken

    def without_images_of(self, other: "ReferringTable") -> "ReferringTable":
        """The rows whose images (by their files) don't occur in another table, for example in its evaluation splits."""
        theirs = {str(other.images_root / image) for image in set(other.column("image"))}
        ours = [str(self.images_root / image) for image in self.column("image")]
        return self.take([i for i, path in enumerate(ours) if path not in theirs])

    def by_image(self) -> list[np.ndarray]:
        """The row numbers of each image, images in the order of their first rows."""
        image = np.asarray(self.arrow["image"].combine_chunks().dictionary_encode().indices)
        order = np.argsort(image, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(image[order])) + 1) if len(order) else []

    def to_pylist(self) -> list[dict[str, Any]]:
        """All rows as dictionaries."""
        return list(self.arrow.to_pylist())

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker that is not forked opens the file itself: sending the contents costs as much time and more memory.
        if self._origin is None:
            return ReferringTable, (self.arrow, self.images_root)
        return _reopen, self._origin

    def _value(self, name: str, i: int) -> Any:
        if not -len(self) <= i < len(self):
            raise IndexError(f"Row {i} does not exist: the table has {len(self)}")
        return self.arrow[name][int(i)].as_py()

    def _with_absolute_images(self) -> pa.Table:
        images = [(self.images_root / image).absolute().as_posix() for image in self.column("image")]
        return self.arrow.set_column(SCHEMA.get_field_index("image"), "image", pa.array(images, pa.string()))


_REPEATED = ["dataset", "split_by", "split", "category", "image", "text", "mask_source", "mask_origin"]
_REPEATED += ["source", "source_sha256"]


def _reopen(path: str, images_root: str, rows: np.ndarray | None) -> ReferringTable:
    table = ReferringTable.open(path, images_root)
    return table if rows is None else table.take(rows)


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file, mapped into memory; raises `pa.ArrowInvalid` if it is none."""
    # By its name alone, pyarrow would take "a:b.parquet" for a URI.
    with pa.memory_map(str(path)) as file:
        # One thread is as fast for a local file, and leaves no threads behind for workers to be forked from.
        return pq.read_table(file, use_threads=False)


def _complete(number: int, row: Mapping[str, Any], image_ids: dict[str, int]) -> dict[str, Any]:
    """A row of `from_rows` with every column."""
    if unknown := sorted(set(row) - set(SCHEMA.names)):
        raise ValueError(f"Row {number} has the unknown keys {', '.join(unknown)}; known are {', '.join(SCHEMA.names)}")
    given: dict[str, Any] = {name: value for name, value in row.items() if value is not None}
    mask = given.get("mask")
    if isinstance(mask, np.ndarray):
        given |= {"mask": masks.encode(mask), "height": mask.shape[0], "width": mask.shape[1]}
    elif isinstance(mask, str):
        given["mask"] = mask.encode("ascii")
    elif mask is None and given.get("mask_source") == "none" and {"height", "width"} <= given.keys():
        given["mask"] = masks.empty(given["height"], given["width"])
    if missing := [name for name in ("image", "expressions", "mask", "height", "width") if name not in given]:
        raise ValueError(f"Row {number} lacks {', '.join(missing)}")
    if isinstance(given["expressions"], str) or not given["expressions"]:
        raise ValueError(f"Row {number}: expressions must be a list with at least one sentence")
    counts = given["mask"], given["height"], given["width"]
    image = Path(given["image"]).as_posix()
    ann_ids = list(given.get("ann_ids", [given["ann_id"]] if given.get("ann_id", -1) >= 0 else []))
    defaults: dict[str, Any] = {
        **dict.fromkeys(("dataset", "split_by", "category", "text", "mask_origin", "source", "source_sha256"), ""),
        "split": TRAIN,
        "ref_id": number,
        "image_id": image_ids.setdefault(image, len(image_ids)),
        "ann_id": ann_ids[0] if ann_ids else -1,
        "kinds": [""] * len(given["expressions"]),
        "origins": [],
        "mask_source": "annotated",
        "box": masks.box_of_counts(*counts),
        "area": masks.area_of(*counts),
    }
    complete = {**defaults, **given, "image": image, "ann_ids": ann_ids}
    texts, kinds, origins = (len(complete[name]) for name in ("expressions", "kinds", "origins"))
    if kinds != texts:
        raise ValueError(f"Row {number} has {texts} expressions but {kinds} kinds")
    if origins not in (0, texts):
        raise ValueError(f"Row {number} has {texts} expressions but {origins} origins")
    if (mask_source := complete["mask_source"]) not in MASK_SOURCES:
        raise ValueError(f"Row {number}: mask_source must be one of {', '.join(MASK_SOURCES)}, not {mask_source!r}")
    return complete


def open_tables(files: list[Path]) -> "ReferringTable":
    """The rows of one or several Parquet files; raises as `ReferringTable.open`."""
    tables = [ReferringTable.open(file) for file in files]
    return tables[0] if len(tables) == 1 else ReferringTable.concat(tables)


def choose_splits(table: "ReferringTable", names: list[str] | None, option: str) -> "ReferringTable":
    """Some splits of a table, by default all but train, or train if there is no other.

    Raises:
        ValueError: If one of them does not exist; names the `option` by which they are chosen.
    """
    splits = table.splits
    names = names or [name for name in splits if name != TRAIN] or splits
    if missing := [name for name in names if name not in splits]:
        raise ValueError(f"The data has no split {', '.join(missing)}, but {', '.join(splits)}; choose with {option}")
    return table.split(names)


def table_sha256(table: ReferringTable) -> str:
    """The hexadecimal SHA-256 of all columns of a table; the folder of its images is left out."""
    digest = hashlib.sha256()
    for name in table.arrow.column_names:
        digest.update(f"{name} {table.column(name)!r}".encode())
    return digest.hexdigest()
