"""Several data sets as one, without training on any image that one of them evaluates on.

RefCOCO, RefCOCO+ and RefCOCOg describe the same photos of COCO, and each shares them out in its own way: photos in the
train split of one are in val or test of another. `combine_tables` drops those from the training rows and leaves the
splits for evaluation as they are. Training rows of different members about one object stay apart, as in what was
published, or are joined, which makes an epoch shorter.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from maskris.data.prepare import checked_tables, write_rejects
from maskris.data.published_counts import Counts
from maskris.data.readers import read_annotations
from maskris.data.readers.pickles import load_plain
from maskris.data.readers.refer import Wording
from maskris.data.readers.validation import Problem
from maskris.data.table import SCHEMA, TRAIN, ReferringTable
from maskris.utils.files import read_json

Entry = int | str | tuple[int | str, tuple[int, ...]]
"""An image (COCO's id, or the name of a file that is not named as in COCO), or it and sorted ids of its annotations."""

_COCO = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{12})(?:_\d+)?\.(?:jpe?g|png)", re.IGNORECASE)


def coco_id(file: str) -> int | None:
    """COCO's number of an image by the name of its file, in COCO 2014, COCO 2017 or REFER; ``None`` for other names.

    Example:
        >>> coco_id("train2014/COCO_train2014_000000581857_16.jpg"), coco_id("000000581857.jpg"), coco_id("cat.jpg")
        (581857, 581857, None)
    """
    match = _COCO.fullmatch(PurePosixPath(file).name)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class PublishedList:
    """The images, or the annotations of them, that a publication trained on; either all or no entries are images."""

    file: Path
    entries: frozenset[Entry]


def read_published_list(file: str | Path) -> PublishedList:
    """Read which images or annotations a publication trained on.

    Text holds one image per line, JSON and pickles (of plain values) a list of images, or of referents with
    ``image_id`` (or ``file_name``) and perhaps ``ann_id``. Of referents with a ``split``, those of ``"train"`` count.

    Args:
        file: ``.p`` or ``.pkl`` for a pickle, ``.json`` for JSON, anything else for text.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else, or names nothing.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"The published list {file} does not exist")
    kind = file.suffix.lower()
    if kind in (".p", ".pkl", ".pickle", ".json"):
        content = read_json(file, object) if kind == ".json" else load_plain(file)
        if not isinstance(content, list):
            raise ValueError(f"{file} must hold a list of images or of referents, not a {type(content).__name__}")
        listed = [(f"{file}: entry {number}", entry) for number, entry in enumerate(content)]
    else:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is no text of one image per line: {error}") from error
        listed = [(f"{file}: line {n}", line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    images = [one for one in listed if not isinstance(one[1], dict)]
    if referents := len(images) < len(listed):
        if images:
            where, entry = images[0]
            raise ValueError(f"{where} is {str(entry)[:60]!r}, but others are referents (dicts)")
        listed = [(where, entry) for where, entry in listed if entry.get("split", TRAIN) == TRAIN]
    entries = [_entry(where, entry if referents else {"image_id": entry}) for where, entry in listed]
    if not entries:
        raise ValueError(f"{file} names no images" + (": no entry has the split 'train'" if referents else ""))
    lacking = sum(not isinstance(entry, tuple) for entry in entries)
    if 0 < lacking < len(entries):
        raise ValueError(f"{file}: {lacking} of {len(entries)} referents lack ann_id, so it is unclear what is meant")
    return PublishedList(file, frozenset(entries))


def _entry(where: str, referent: dict[str, Any]) -> Entry:
    name = referent.get("image_id", referent.get("file_name"))
    if isinstance(name, str) and name:
        number = int(name) if name.isdecimal() else coco_id(name)
        name = PurePosixPath(name).as_posix() if number is None else number
    elif not isinstance(name, int) or isinstance(name, bool):
        raise ValueError(f"{where} names no image: {str(name)[:60]!r} is neither a number nor a file name")
    if not {"ann_id", "ann_ids"} & referent.keys():
        return name
    value = referent.get("ann_ids", referent.get("ann_id"))
    ids = [one for one in (value if isinstance(value, list) else [value]) if one not in (None, -1)]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
        raise ValueError(f"{where} has the annotations {value!r}; whole numbers are expected")
    return name, tuple(sorted(ids))


@dataclass(frozen=True)
class Leak:
    """Training data of a `member` on images of an evaluation `split`, such as ``"refcoco+ unc testA"``.

    An image may be in several such splits and counts in each.
    """

    member: str
    split: str
    counts: Counts


@dataclass(frozen=True)
class Comparison:
    """Difference between a published list and our rule.

    Attributes:
        file: The list.
        both: What both keep.
        only_rule: What the rule keeps and the list does not; it is left out.
        only_list: What the list keeps although an evaluation split has the image; it stays in.
        unknown: Entries that name nothing in the members' train splits.
    """

    file: Path
    both: Counts
    only_rule: Counts
    only_list: Counts
    unknown: tuple[Entry, ...]


@dataclass(frozen=True)
class Combination:
    """Result of `combine_tables`.

    Attributes:
        table: The combined table: the members' rows one after the other, without what was dropped or merged.
        members: Images, referents and expressions that each member's train split had, by its name.
        kept: The rest of them after what is dropped, before any are merged.
        leaks: Training data on images of evaluation splits, by member and split.
        alike: Training referents about the same annotation, with the same mask, as an earlier one.
        merge: Whether these were joined to that one; otherwise they stay apart.
        repeated: Expressions that a joined referent had already, which occur once now.
        contradictions: Annotations of which members have different masks, whose referents are never joined.
        comparison: With the published list, if there was one.
    """

    table: ReferringTable
    members: dict[str, Counts]
    kept: dict[str, Counts]
    leaks: list[Leak]
    alike: int
    merge: bool
    repeated: int
    contradictions: int
    comparison: Comparison | None = None


def combine_tables(
    tables: Sequence[ReferringTable], published: PublishedList | None = None, *, merge: bool = False
) -> Combination:
    """Combine data sets for training.

    - A training row whose image occurs in any evaluation split of any member (its own included) is dropped. Images are
      the same if their files have the same COCO number, wherever they lie, and otherwise if they are the same file.
    - ``origins`` of a training row names the member of each expression, and its number there.
    - With `merge`, training rows of the same image, annotations and mask become one: at the place of the first, with
      all expressions in the order of their first appearance and each once. ``dataset``, ``split_by`` and ``source``
      list all members. One epoch, which visits each referent once, then has fewer updates than the published one.
    - Evaluation rows stay as they are, each under its member's name.

    The order of `tables` decides the order of rows and expressions, but not which there are.

    Args:
        tables: The members; each of one data set and partition.
        published: Train on the entries of this list instead of the rows that the rule keeps.
        merge: Join training rows of several members about one object.

    Raises:
        ValueError: If a member is no single data set, two are the same, their texts are of different kinds, or no
            training row is left.
    """
    rows = _rows_of(tables)
    members = list(dict.fromkeys(row["member"] for row in rows))
    train = [row for row in rows if row["split"] == TRAIN]
    evaluation = [row for row in rows if row["split"] != TRAIN]
    occurrences = {(row["photo"], row["place"]) for row in evaluation}
    evaluated = {photo for photo, _ in occurrences}
    kept, comparison = [row for row in train if row["photo"] not in evaluated], None
    if published is not None:
        kept, comparison = _compare(published, train, kept)
    if not kept:
        raise ValueError("No training row is left: every image of the train splits occurs in an evaluation split")
    leaks = [
        Leak(member, place, _count(leaking))
        for member in members
        for place in dict.fromkeys(row["place"] for row in evaluation)
        if (leaking := [row for row in train if row["member"] == member and (row["photo"], place) in occurrences])
    ]
    alike: dict[Hashable, list[Row]] = defaultdict(list)
    for row in kept:  # without an annotation (no target) it is unknown whether two rows mean the same
        alike[(*_annotation(row), *map(row.get, _MASK)) if row["ann_ids"] else row["number"]].append(row)
    annotations = Counter(_annotation(rows[0]) for rows in alike.values() if rows[0]["ann_ids"])
    training = [_join(rows) for rows in alike.values()] if merge else [_with_origins(row) for row in kept]
    # Files of one photo under several names become one image, whose encoding its referents can share.
    names: dict[Hashable, str] = {}
    training = [row | {"image": names.setdefault(row["photo"], row["image"])} for row in training]
    ordered = sorted([*training, *evaluation], key=lambda row: int(row["number"]))
    return Combination(
        ReferringTable(pa.Table.from_pylist(ordered, SCHEMA), ReferringTable.concat(tables).images_root),
        {member: _count([row for row in train if row["member"] == member]) for member in members},
        {member: _count([row for row in kept if row["member"] == member]) for member in members},
        leaks,
        len(kept) - len(alike),
        merge,
        sum(len(row["expressions"]) for row in kept) - sum(len(row["expressions"]) for row in training),
        sum(count > 1 for count in annotations.values()),
        comparison,
    )


Row = dict[str, Any]
"""A row of a member with its ``number`` among all, its ``member``, its ``photo`` (see `identities`) and its ``place``,
such as ``"refcoco unc val"``."""

_MASK = ("mask", "mask_source", "mask_origin", "height", "width")


def _rows_of(tables: Sequence[ReferringTable]) -> list[Row]:
    names = [_name_of(number, table) for number, table in enumerate(tables)]
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"Two members are {twice[0]}; `maskris prepare --dataset NAME` names data of one's own")
    whole = ReferringTable.concat(tables)
    if len(texts := sorted(set(whole.column("text")) - {""})) > 1:
        raise ValueError(f"The members' texts are of several kinds ({', '.join(texts)}); use the same --text for all")
    members = [name for name, table in zip(names, tables, strict=True) for _ in range(len(table))]
    return [
        {**row, "number": number, "member": member, "photo": photo, "place": f"{member} {row['split']}"}
        for number, (row, member, photo) in enumerate(zip(whole.to_pylist(), members, identities(whole), strict=True))
    ]


def _compare(published: PublishedList, train: list[Row], clean: list[Row]) -> tuple[list[Row], Comparison]:
    """The training rows that a list keeps, and how they differ from those that the rule keeps."""
    found = {row["number"]: entry for row in train if (entry := _find(row, published.entries)) is not None}
    if not found:
        raise ValueError(f"{published.file} names no image of the members' train splits; does it belong to other data?")
    kept = [row for row in train if row["number"] in found]
    unknown = tuple(sorted(published.entries - set(found.values()), key=str))
    by_rule = {row["number"] for row in clean}
    both = [row for row in kept if row["number"] in by_rule]
    only_rule = [row for row in clean if row["number"] not in found]
    only_list = [row for row in kept if row["number"] not in by_rule]
    return kept, Comparison(published.file, _count(both), _count(only_rule), _count(only_list), unknown)


def _find(row: Row, entries: frozenset[Entry]) -> Entry | None:
    """The entry of a published list that names a row's image or its annotations."""
    number = coco_id(row["image"])
    own = [row["image_id"], row["image"], PurePosixPath(row["image"]).name]
    names = own if number is None else [number]
    candidates = (entry for name in names for entry in (name, (name, _annotation(row)[1])))
    return next((entry for entry in candidates if entry in entries), None)


def _count(rows: Sequence[Row]) -> Counts:
    return Counts(len({row["photo"] for row in rows}), len(rows), sum(len(row["expressions"]) for row in rows))


def _annotation(row: Row) -> tuple[Hashable, tuple[int, ...]]:
    return row["photo"], tuple(sorted(row["ann_ids"]))


def _with_origins(row: Row) -> Row:
    return {**row, "origins": [f"{row['member']} {row['ref_id']}"] * len(row["expressions"])}


def joined_referents(table: ReferringTable) -> int:
    """How many referents `combine_tables` joined to others of a table: an epoch is shorter by that."""
    origins = ({one for names in row for one in names.split(", ")} for row in table.column("origins"))
    return sum(len(names) - 1 for names in origins if names)


def _join(rows: Sequence[Row]) -> Row:
    """Rows about the same referent as one: the first, with the expressions of all."""
    whose = dict.fromkeys((row["dataset"], row["split_by"]) for row in rows)
    files = dict.fromkeys((row["source"], row["source_sha256"]) for row in rows)
    kinds: dict[str, str] = {}
    origins: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        for text, kind in zip(row["expressions"], row["kinds"], strict=True):
            kinds[text] = kinds.get(text) or kind
            origins[text][f"{row['member']} {row['ref_id']}"] = None
    return {
        **rows[0],
        "dataset": ", ".join(dataset for dataset, _ in whose),
        "split_by": ", ".join(split_by for _, split_by in whose),
        "category": next((name for row in rows if (name := row["category"])), ""),
        "expressions": list(kinds),
        "kinds": list(kinds.values()),
        "origins": [", ".join(names) for names in origins.values()],
        "source": ", ".join(file for file, _ in files),
        "source_sha256": ", ".join(digest for _, digest in files),
    }


def _name_of(number: int, table: ReferringTable) -> str:
    """Such as ``"refcoco unc"``."""
    pairs = sorted(set(zip(table.column("dataset"), table.column("split_by"), strict=True)))
    names = [" ".join(filter(None, pair)) for pair in pairs]
    if not names:
        raise ValueError(f"Member {number} has no rows")
    if len(names) > 1:
        listed = "; ".join(names)
        raise ValueError(f"Member {number} consists of several data sets ({listed}); give each as a table of its own")
    return names[0] or f"member {number}"


def identities(table: ReferringTable) -> list[Hashable]:
    """The identity of each row's image: its number in COCO, or else its path."""
    images = table.column("image")
    numbers = {image: coco_id(image) for image in images}
    paths = {image: str((table.images_root / image).resolve()) for image, number in numbers.items() if number is None}
    return [paths.get(image, numbers[image]) for image in images]


DEFAULT_PARTITIONS = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
"""Those that share out images; google's share out objects, so that its own train and val have photos in common."""


@dataclass(frozen=True)
class CombinedReport:
    """Result of `prepare_combined`; attributes as in `maskris.data.prepare.PrepareReport`."""

    out: Path
    combination: Combination
    problems: list[Problem] = field(default_factory=list)
    rejects: Path | None = None


def prepare_combined(
    source: str | Path | None,
    members: Sequence[str],
    out: str | Path,
    *,
    split_by: str | None = None,
    images: str | Path | None = None,
    text: Wording = "sent",
    published_list: str | Path | None = None,
    merge: bool = False,
    skip_invalid: bool = False,
    check_images: bool = True,
    progress: bool = True,
) -> CombinedReport:
    """Combine data sets into one table without training images of any evaluation split, see `combine_tables`.

    The same sources give the same bytes.

    Args:
        source: Folder that holds the members in the REFER or gRefCOCO layout; ``None`` if all are Parquet files.
        members: Names of data sets in `source`, or Parquet files that `prepare_dataset` wrote.
        out: The Parquet file to write; it is replaced atomically, and not touched if the data is refused.
        split_by: Partitions, such as ``"refcocog=google,refcoco=unc"``, where they aren't `DEFAULT_PARTITIONS`.
        images: Folder of the images of the members in `source`.
        text: See `prepare_dataset`; Parquet files keep what they have.
        published_list: File that names the training data to use instead; see `read_published_list`.
        merge: Join training referents of several members about one object, see `combine_tables`.
        skip_invalid: See `prepare_dataset`.
        check_images: See `prepare_dataset`; those of Parquet files were checked when they were written.
        progress: Whether to show a progress bar.

    Raises as `prepare_dataset` and, with a `ValueError`, as `combine_tables`.
    """
    partitions = _partitions(split_by, members)
    published = None if published_list is None else read_published_list(published_list)
    folders = [member for member in members if not member.endswith(".parquet")]
    if folders and source is None:
        raise ValueError(
            f"{', '.join(folders)}: no Parquet files, so the folder that holds these data sets is needed first: "
            f"maskris prepare DATA --combine {' '.join(members)} …"
        )
    if source is not None and not folders:
        raise ValueError(f"{source} would not be read: all members are Parquet files. Leave it out")
    if len(folders) < len(members) and text != "sent":
        raise ValueError("--text is for members that are read from annotations; prepare the Parquet files with it")
    if images is not None and not folders:
        raise ValueError("--images is for members that are read from their annotations; Parquet files name theirs")
    tables = {member: ReferringTable.open(member) for member in members if member not in folders}
    results = [
        read_annotations(source or "", dataset=member, split_by=partitions.get(member), images=images, text=text)
        for member in folders
    ]
    read = checked_tables(results, skip_invalid=skip_invalid, check_images=check_images, progress=progress)
    tables |= zip(folders, read, strict=True)
    combination = combine_tables([tables[member] for member in members], published, merge=merge)
    combination.table.save(out)
    problems = [problem for result in results for problem in result.problems]
    return CombinedReport(Path(out), combination, problems, write_rejects(results, Path(out)))


def _partitions(split_by: str | None, members: Sequence[str]) -> dict[str, str]:
    """The partition of each member that has a default or is named."""
    partitions = dict(DEFAULT_PARTITIONS)
    for part in split_by.split(",") if split_by else []:
        name, equals, partition = part.strip().partition("=")
        if not (equals and partition):
            raise ValueError(f"With --combine, --split-by is such as refcocog=google,refcoco=unc, not {split_by}")
        if name not in members:
            raise ValueError(f"--split-by names {name}, which is none of the members {', '.join(members)}")
        partitions[name] = partition
    return partitions
