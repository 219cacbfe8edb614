"""Several data sets as one, without training on any image that one of them evaluates on.

RefCOCO, RefCOCO+ and RefCOCOg describe the same photos of COCO, and each shares them out in its own way: photos in the
train split of one are in val or test of another. `combine` drops those from the training rows, joins what different
members say about the same object, and leaves the splits for evaluation as they are.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from maskris.data.published import Counts
from maskris.data.published_list import PublishedList, coco_id
from maskris.data.table import SCHEMA, ReferringTable

TRAIN = "train"
"""The split to train on; all others are for evaluation."""


@dataclass(frozen=True)
class Leak:
    """Training data of a member on images of an evaluation split.

    Attributes:
        member: Whose training data.
        split: Where the images occur as well, for example ``"refcoco+ unc testA"``.
        counts: Images, referents and expressions. An image may be in several such splits and counts in each.
    """

    member: str
    split: str
    counts: Counts


@dataclass(frozen=True)
class Comparison:
    """How a published list differs from our rule.

    Attributes:
        file: The list.
        both: What both keep.
        only_rule: What the rule keeps and the list does not; it is left out.
        only_list: What the list keeps although an evaluation split has the image; it stays in.
        unknown: Entries that no member's training data answers to.
    """

    file: Path
    both: Counts
    only_rule: Counts
    only_list: Counts
    unknown: tuple[Any, ...]


@dataclass(frozen=True)
class Combination:
    """What `combine` made.

    Attributes:
        table: The combined table: the members' rows one after the other, without what was dropped or merged.
        members: Images, referents and expressions that each member's train split had, by its name.
        kept: What remains of them, before they are merged.
        leaks: Training data on images of evaluation splits, by member and split.
        merged: Referents that were joined to another one of the same annotation.
        repeated: Expressions that a referent had already, which occur once now.
        contradictions: Annotations of which members have different masks, whose referents were therefore kept apart.
        comparison: With the published list, if there was one.
    """

    table: ReferringTable
    members: dict[str, Counts]
    kept: dict[str, Counts]
    leaks: list[Leak]
    merged: int
    repeated: int
    contradictions: int
    comparison: Comparison | None = None


def combine(tables: Sequence[ReferringTable], published: PublishedList | None = None) -> Combination:
    """Combine data sets for training.

    - A training row whose image occurs in any evaluation split of any member (its own included) is dropped. Images are
      the same if their files have the same COCO number, wherever they lie, and otherwise if they are the same file.
    - Training rows of the same image, annotations and mask become one: at the place of the first, with all expressions
      in the order of their first appearance and each once. ``dataset``, ``split_by`` and ``source`` list all members,
      ``origins`` says whose each expression is.
    - Evaluation rows stay as they are, each under its member's name.

    The order of `tables` decides the order of rows and expressions, but not which there are.

    Args:
        tables: The members; each of one data set and partition.
        published: Train on what this list names instead of what the rule gives.

    Raises:
        ValueError: If a member is no single data set, two are the same, their texts are of different kinds, or no
            training row is left.
    """
    members = _Members(tables)
    train = [row for row, split in enumerate(members.splits) if split == TRAIN]
    places = members.places_of_evaluation()
    clean = {row for row in train if members.images[row] not in places}
    kept = set(clean)
    comparison = None
    if published is not None:
        kept, comparison = _compare(published, members, train, clean)
    if not kept:
        raise ValueError("No training row is left: every image of the train splits occurs in an evaluation split")
    leaks = []
    for name in dict.fromkeys(members.names):
        leaking: dict[str, list[int]] = defaultdict(list)
        for row in train:
            if members.names[row] == name and row not in clean:
                for place in places[members.images[row]]:
                    leaking[place].append(row)
        leaks += [Leak(name, place, members.count(leaking[place])) for place in members.places if place in leaking]
    groups = members.group(row for row in train if row in kept)
    table = members.merge(groups, [row for row, split in enumerate(members.splits) if split != TRAIN])
    by_member = {name: [row for row in train if members.names[row] == name] for name in dict.fromkeys(members.names)}
    return Combination(
        table,
        {name: members.count(rows) for name, rows in by_member.items()},
        {name: members.count([row for row in rows if row in kept]) for name, rows in by_member.items()},
        leaks,
        len(kept) - len(groups),
        sum(len(members.expressions[row]) for row in kept) - table.split(TRAIN).num_expressions,
        members.contradictions(groups),
        comparison,
    )


def _compare(
    published: PublishedList, members: "_Members", train: Sequence[int], clean: set[int]
) -> tuple[set[int], Comparison]:
    """The rows that a list keeps, and how they differ from those that the rule keeps."""
    columns = (members.table.column(name) for name in ("image", "image_id", "ann_ids"))
    facts = list(zip(*columns, strict=True))
    found = {row: entry for row in train if (entry := published.find(*facts[row])) is not None}
    if not found:
        raise ValueError(f"{published.file} names no image of the members' train splits; does it belong to other data?")
    answered = set(found.values())
    unknown = sorted((entry for entry in published.entries if entry not in answered), key=str)
    both, only_rule, only_list = (
        members.count(sorted(rows)) for rows in (clean & found.keys(), clean - found.keys(), found.keys() - clean)
    )
    return set(found), Comparison(published.file, both, only_rule, only_list, tuple(unknown))


class _Members:
    """The rows of all members, one after the other, with what `combine` asks of them as plain lists."""

    def __init__(self, tables: Sequence[ReferringTable]) -> None:
        labels = [_name_of(number, table) for number, table in enumerate(tables)]
        if twice := [name for number, name in enumerate(labels) if name in labels[:number]]:
            raise ValueError(f"Two members are {twice[0]}; `maskris prepare --dataset NAME` names data of one's own")
        self.table = ReferringTable.concat(tables)
        self.names = [label for label, table in zip(labels, tables, strict=True) for _ in range(len(table))]
        self.splits = self.table.column("split")
        self.images = identities(self.table)
        self.expressions = self.table.column("expressions")
        self.places = list(dict.fromkeys(self._place(row) for row, split in enumerate(self.splits) if split != TRAIN))
        if len(texts := sorted(set(self.table.column("text")) - {""})) > 1:
            raise ValueError(
                f"The members' texts are of several kinds ({', '.join(texts)}); use the same --text for all"
            )

    def _place(self, row: int) -> str:
        return f"{self.names[row]} {self.splits[row]}"

    def places_of_evaluation(self) -> dict[Hashable, set[str]]:
        """For each image of an evaluation split the splits that have it, such as ``"refcoco unc val"``."""
        places: dict[Hashable, set[str]] = defaultdict(set)
        for row, split in enumerate(self.splits):
            if split != TRAIN:
                places[self.images[row]].add(self._place(row))
        return dict(places)

    def count(self, rows: Sequence[int]) -> Counts:
        """The size of some rows."""
        expressions = sum(len(self.expressions[row]) for row in rows)
        return Counts(len({self.images[row] for row in rows}), len(rows), expressions)

    def group(self, rows: Iterable[int]) -> list[list[int]]:
        """Rows of the same referent together, in the order of their first ones."""
        columns = ("ann_ids", "mask", "mask_source", "height", "width")
        keys = zip(self.images, *(self.table.column(name) for name in columns), strict=True)
        known = [(image, tuple(sorted(ann_ids)), *mask) for image, ann_ids, *mask in keys]
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for row in rows:  # without an annotation (no target) nobody knows that two rows mean the same
            groups[known[row] if known[row][1] else row].append(row)
        return list(groups.values())

    def contradictions(self, groups: Sequence[Sequence[int]]) -> int:
        """Annotations that belong to more than one group, because their masks differ."""
        ann_ids = self.table.column("ann_ids")
        found = Counter((self.images[rows[0]], tuple(sorted(ann_ids[rows[0]]))) for rows in groups if ann_ids[rows[0]])
        return sum(count > 1 for count in found.values())

    def merge(self, groups: Sequence[Sequence[int]], others: Sequence[int]) -> ReferringTable:
        """A row for each group, and the other rows, in the order of the members."""
        arrow = self.table.arrow
        columns: dict[str, list[Any]] = {name: arrow[name].to_pylist() for name in _CHANGED}
        ref_ids = arrow["ref_id"].to_pylist()
        path_of: dict[Hashable, str] = {}
        for rows in groups:
            first = rows[0]
            whose = list(dict.fromkeys((columns["dataset"][row], columns["split_by"][row]) for row in rows))
            files = list(dict.fromkeys((columns["source"][row], columns["source_sha256"][row]) for row in rows))
            said: dict[str, list[str]] = {}  # expression -> its kind, and where it comes from
            for row in rows:
                origin = f"{self.names[row]} {ref_ids[row]}"
                for text, kind in zip(columns["expressions"][row], columns["kinds"][row], strict=True):
                    entry = said.setdefault(text, [""])
                    entry[0] = entry[0] or kind
                    entry += [origin] if origin not in entry[1:] else []
            changed = {
                "dataset": ", ".join(dataset for dataset, _ in whose),
                "split_by": ", ".join(split_by for _, split_by in whose),
                "category": next((name for row in rows if (name := columns["category"][row])), ""),
                # Files of one photo under several names become one image, whose encoding its referents can share.
                "image": path_of.setdefault(self.images[first], columns["image"][first]),
                "expressions": list(said),
                "kinds": [kind for kind, *_ in said.values()],
                "origins": [", ".join(origins) for _, *origins in said.values()],
                "source": ", ".join(file for file, _ in files),
                "source_sha256": ", ".join(digest for _, digest in files),
            }
            for name, value in changed.items():
                columns[name][first] = value
        for name, values in columns.items():
            place = SCHEMA.get_field_index(name)
            arrow = arrow.set_column(place, name, pa.array(values, SCHEMA.field(name).type))
        firsts = sorted([*(rows[0] for rows in groups), *others])
        return ReferringTable(arrow, self.table.images_root).take(firsts)


_CHANGED = (
    "dataset",
    "split_by",
    "category",
    "image",
    "expressions",
    "kinds",
    "origins",
    "source",
    "source_sha256",
)


def _name_of(number: int, table: ReferringTable) -> str:
    """Such as ``"refcoco unc"``."""
    found = sorted({(row[0], row[1]) for row in zip(table.column("dataset"), table.column("split_by"), strict=True)})
    if not found:
        raise ValueError(f"Member {number} has no rows")
    if len(found) > 1:
        listed = "; ".join(" ".join(part for part in pair if part) for pair in found)
        raise ValueError(f"Member {number} consists of several data sets ({listed}); give each as a table of its own")
    return " ".join(part for part in found[0] if part) or f"member {number}"


def identities(table: ReferringTable) -> list[Hashable]:
    """For each row what tells its image from others: its number in COCO, or else its path."""
    known: dict[str, Hashable] = {}
    images = table.column("image")
    for image in images:
        if image not in known:
            number = coco_id(image)
            known[image] = str((table.images_root / image).resolve()) if number is None else number
    return [known[image] for image in images]
