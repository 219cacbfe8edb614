"""No image to evaluate on is trained on, nothing else is lost, and what is said about one object comes together."""

import json
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskris.data import masks
from maskris.data.combine import coco_id, combine_tables, identities, joined_referents, read_published_list
from maskris.data.table import ReferringTable

TINY = [masks.encode(np.array(plane, dtype=bool)) for plane in ([[1, 0]], [[0, 1]])]


def row(image, ann_id, expressions, split="train", **others):
    name = f"COCO_train2014_{image:012d}.jpg" if isinstance(image, int) else image
    basics = {"height": 1, "width": 2, "mask": TINY[0], "dataset": "refcoco", "split_by": "unc"}
    return {
        "image": name, "image_id": image if isinstance(image, int) else 0, "ann_ids": [ann_id] if ann_id else [],
        "expressions": list(expressions), "split": split, **basics, **others,
    }  # fmt: skip


def table_of(rows, dataset="refcoco", split_by="unc", root="/photos"):
    return ReferringTable.from_rows([one | {"dataset": dataset, "split_by": split_by} for one in rows], root)


def content(table):
    """Rows of a combined table, regardless of their order and of the order of what was merged."""

    def parts(text):
        return tuple(sorted(text.split(", ")))

    return sorted(
        (
            image if isinstance(image, int) else str(image), tuple(one["ann_ids"]), one["split"], one["mask"],
            parts(one["dataset"]), tuple(sorted(one["expressions"])), tuple(sorted(map(parts, one["origins"]))),
        )
        for image, one in zip(map(str, identities(table)), table.to_pylist(), strict=True)
    )  # fmt: skip


@st.composite
def members(draw):
    """Up to three data sets about few images and objects, so that everything that can meet does."""
    tables = []
    for name in draw(st.lists(st.sampled_from(["refcoco", "refcoco+", "refcocog"]), min_size=1, unique=True)):
        referents = draw(
            st.lists(
                st.tuples(
                    st.integers(1, 6),
                    st.integers(0, 3),
                    st.lists(st.sampled_from("abcd"), min_size=1, max_size=3),
                    st.sampled_from(["train", "train", "train", "val", "testA"]),
                    st.sampled_from([0, 0, 0, 1]),
                ),
                min_size=1,
                max_size=10,
            )
        )
        rows = [
            row(image, ann and 10 * image + ann, texts, split, ref_id=number, mask=TINY[plane])
            for number, (image, ann, texts, split, plane) in enumerate(referents)
        ]
        tables.append(table_of(rows, name))
    return tables


def literal(tables, merge):
    """The rule, written down once more in the plainest way."""
    evaluated = {one["image"] for table in tables for one in table.to_pylist() if one["split"] != "train"}
    found = {}
    for table in tables:
        for one in table.to_pylist():
            if one["split"] == "train" and one["image"] not in evaluated:
                join = merge and one["ann_ids"]
                key = (one["image"], tuple(one["ann_ids"]), one["mask"]) if join else object()
                found.setdefault(key, []).append(one)
    return found, evaluated


@given(members(), st.booleans())
def test_nothing_leaks_and_nothing_else_is_lost(tables, merge):
    groups, evaluated = literal(tables, merge)
    if not groups:
        with pytest.raises(ValueError, match="No training row is left"):
            combine_tables(tables, merge=merge)
        return
    made = combine_tables(tables, merge=merge)
    train = made.table.split("train").to_pylist()
    assert not {one["image"] for one in train} & evaluated
    texts = [[text for one in ones for text in one["expressions"]] for ones in groups.values()]
    expected = [
        (
            ones[0]["image"], ones[0]["ann_ids"], ones[0]["mask"], list(dict.fromkeys(own)) if merge else own,
            ", ".join(dict.fromkeys(one["dataset"] for one in ones)),
        )
        for ones, own in zip(groups.values(), texts, strict=True)
    ]  # fmt: skip
    columns = ("image", "ann_ids", "mask", "expressions", "dataset")
    assert [tuple(one[name] for name in columns) for one in train] == expected
    others = [one for table in tables for one in table.to_pylist() if one["split"] != "train"]
    assert [one for one in made.table.to_pylist() if one["split"] != "train"] == others
    assert made.alike == sum(map(len, groups.values())) - len(literal(tables, True)[0])
    assert joined_referents(made.table) == (made.alike if merge else 0)
    before = sum(len(one["expressions"]) for ones in groups.values() for one in ones)
    assert made.repeated == before - sum(len(one["expressions"]) for one in train)


@given(members(), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_the_members_does_not_matter(tables, rng, merge):
    shuffled = rng.sample(tables, len(tables))
    try:
        first, second = combine_tables(tables, merge=merge), combine_tables(shuffled, merge=merge)
    except ValueError:
        with pytest.raises(ValueError, match="No training row"):
            combine_tables(shuffled, merge=merge)
        return
    assert content(first.table) == content(second.table)
    assert (first.members, first.kept, first.alike, first.repeated) == (
        second.members, second.kept, second.alike, second.repeated,
    )  # fmt: skip
    assert sorted(map(str, first.leaks)) == sorted(map(str, second.leaks))


def test_what_was_dropped_and_why():
    coco = table_of([row(1, 11, "ab"), row(2, 21, "a"), row(2, 22, "abc"), row(3, 31, "a", "val"), row(4, 41, "x")])
    plus = table_of([row(1, 11, "c"), row(3, 32, "a"), row(2, 21, "q", "testB"), row(4, 41, "y", "val")], "refcoco+")
    made = combine_tables([coco, plus])
    assert [(leak.member, leak.split, leak.counts.images, leak.counts.referents, leak.counts.expressions)
            for leak in made.leaks] == [
        ("refcoco unc", "refcoco+ unc testB", 1, 2, 4),
        ("refcoco unc", "refcoco+ unc val", 1, 1, 1),
        ("refcoco+ unc", "refcoco unc val", 1, 1, 1),
    ]  # fmt: skip
    assert [(c.images, c.referents, c.expressions) for c in made.members.values()] == [(3, 4, 7), (2, 2, 2)]
    assert [(c.images, c.referents, c.expressions) for c in made.kept.values()] == [(1, 1, 2), (1, 1, 1)]
    assert made.table.splits == ["train", "val", "testB"]


def test_one_object_in_three_data_sets_becomes_one_referent():
    tables = [
        table_of([row(1, 11, ["man", "left man"], ref_id=7, kinds=["", "place"], source="a.p", source_sha256="0")]),
        table_of([row(1, 11, ["man"], ref_id=9, kinds=["short"], category="person")], "refcoco+"),
        table_of([row(1, 11, ["a man", "man"], ref_id=2), row(1, 12, ["dog"], ref_id=3)], "refcocog", "umd"),
    ]
    made = combine_tables(tables, merge=True)
    joined, other = made.table
    assert joined.dataset == "refcoco, refcoco+, refcocog"
    assert joined.split_by == "unc, unc, umd"
    assert (joined.ref_id, joined.category, joined.ann_ids) == (7, "person", (11,))
    assert joined.expressions == ("man", "left man", "a man")
    assert joined.kinds == ("short", "place", "")
    assert joined.origins == ("refcoco unc 7, refcoco+ unc 9, refcocog umd 2", "refcoco unc 7", "refcocog umd 2")
    assert (joined.source, joined.source_sha256) == ("a.p, ", "0, ")
    assert (other.dataset, other.expressions, other.origins) == ("refcocog", ("dog",), ("refcocog umd 3",))
    assert (made.alike, made.repeated, made.contradictions) == (2, 2, 0)


def test_one_object_in_three_data_sets_stays_three_referents():
    """Each as it was, a sentence that stands twice in it twice: training draws it so often."""
    tables = [
        table_of([row(1, 11, ["man", "left man", "man"], ref_id=7)]),
        table_of([row(1, 11, ["man"], ref_id=9)], "refcoco+"),
        table_of([row(1, 11, ["a man"], ref_id=2)], "refcocog", "umd"),
    ]
    made = combine_tables(tables)
    assert [(one.dataset, one.ref_id, one.expressions) for one in made.table] == [
        ("refcoco", 7, ("man", "left man", "man")), ("refcoco+", 9, ("man",)), ("refcocog", 2, ("a man",)),
    ]  # fmt: skip
    assert [one.origins for one in made.table] == [("refcoco unc 7",) * 3, ("refcoco+ unc 9",), ("refcocog umd 2",)]
    assert (made.alike, made.merge, made.repeated, joined_referents(made.table)) == (2, False, 0, 0)


def test_different_masks_of_one_annotation_are_kept_apart():
    tables = [table_of([row(1, 11, "a")]), table_of([row(1, 11, "b", mask=TINY[1])], "refcoco+")]
    made = combine_tables(tables, merge=True)
    assert (len(made.table), made.alike, made.contradictions) == (2, 0, 1)


def test_images_are_known_by_their_number_in_coco_or_by_their_path(tmp_path):
    assert coco_id("a/COCO_val2014_000000000042.JPG") == coco_id("000000000042.jpg") == 42
    assert coco_id("COCO_train2014_42.jpg") is coco_id("42.jpg") is coco_id("x000000000042.jpg") is None
    first = table_of([row(1, 11, "a"), row("1.jpg", 5, "a"), row("sub/2.jpg", 6, "a")], root=tmp_path / "a")
    rows = [row("x/000000000001.jpg", 11, "b"), row("1.jpg", 7, "a", "val"), row("2.jpg", 8, "b", "val")]
    second = table_of(rows, "mine", root=tmp_path / "a" / "sub")
    made = combine_tables([first, second], merge=True)
    # One photo under two names becomes one image; 1.jpg are two photos, 2.jpg is one.
    assert [(one["image"], one["expressions"]) for one in made.table.split("train").to_pylist()] == [
        (str(tmp_path / "a" / "COCO_train2014_000000000001.jpg"), ["a", "b"]),
        (str(tmp_path / "a" / "1.jpg"), ["a"]),
    ]


def test_the_same_members_give_the_same_bytes(tmp_path):
    tables = [table_of([row(1, 11, "ab"), row(2, 21, "a", "val")]), table_of([row(1, 11, "c")], "refcoco+")]
    for name in ("a", "b"):
        combine_tables(tables).table.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_cannot_be_combined():
    table, plus = table_of([row(1, 11, "a")]), table_of([row(1, 11, "a", text="raw")], "refcoco+")
    with pytest.raises(ValueError, match=r"Two members are refcoco unc; `maskris prepare --dataset NAME` names"):
        combine_tables([table, table])
    with pytest.raises(ValueError, match=r"Member 1 consists of several data sets \(refcoco unc; refcoco\+ unc\)"):
        combine_tables([table_of([row(5, 1, "a")], "x"), ReferringTable.concat([table, plus])])
    with pytest.raises(ValueError, match=r"of several kinds \(raw, sent\); use the same --text"):
        combine_tables([plus, table_of([row(1, 11, "a", text="sent")])])
    with pytest.raises(ValueError, match="Member 0 has no rows"):
        combine_tables([table.take([])])


LISTED = {
    "text.txt": "COCO_train2014_000000000001.jpg\n\n 2\n77\n",
    "names.json": json.dumps(["train2014/COCO_train2014_000000000001_3.jpg", 2, "77"]),
    "images.json": json.dumps([{"file_name": "000000000001.jpg"}, {"image_id": 2}, {"image_id": 77}]),
}


@pytest.mark.parametrize("name", LISTED)
def test_a_published_list_of_images_is_used_and_compared(tmp_path, name):
    (tmp_path / name).write_text(LISTED[name])
    published = read_published_list(tmp_path / name)
    assert not any(isinstance(entry, tuple) for entry in published.entries)
    tables = [table_of([row(1, 11, "a"), row(1, 12, "ab"), row(2, 21, "abc"), row(3, 31, "a")])]
    tables.append(table_of([row(2, 21, "d", "val"), row(3, 31, "c")], "refcoco+"))
    made = combine_tables(tables, published)
    assert [one.ann_id for one in made.table.split("train")] == [11, 12, 21]
    found = made.comparison
    assert (found.both.images, found.both.referents, found.both.expressions) == (1, 2, 3)
    assert (found.only_rule.images, found.only_rule.referents, found.only_rule.expressions) == (1, 2, 2)
    assert (found.only_list.images, found.only_list.referents, found.only_list.expressions) == (1, 1, 3)
    assert found.unknown == (77,)
    assert made.kept["refcoco unc"].referents == 3


@pytest.mark.parametrize("name", ["refs(mix).p", "refs.json"])
def test_a_published_list_of_annotations(tmp_path, name):
    refs = [
        {"image_id": 1, "ann_id": 12, "split": "train", "ref_id": 0, "sentences": []},
        {"image_id": 3, "ann_id": [31, 30], "split": "train"},
        {"image_id": 1, "ann_id": 11, "split": "val"},
        {"image_id": 9, "ann_id": 90, "split": "train"},
    ]
    (tmp_path / name).write_bytes(pickle.dumps(refs, 2) if name.endswith(".p") else json.dumps(refs).encode())
    made = combine_tables(
        [table_of([row(1, 11, "a"), row(1, 12, "b"), row(3, None, "c", ann_ids=[30, 31])])],
        read_published_list(tmp_path / name),
    )
    assert [one.expressions for one in made.table] == [("b",), ("c",)]
    assert made.comparison.unknown == ((9, (90,)),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "none.txt does not exist"),
        ("a.txt", b"\n", "names no images"),
        ("a.txt", b"\xff\xfe\x00", "no text of one image per line"),
        ("a.json", b"{}", "must hold a list of images or of referents, not a dict"),
        ("a.json", b"[1.5]", "entry 0 names no image: '1.5' is neither a number nor a file name"),
        ("a.json", b"[{\"image_id\": 1}, 3]", "entry 1 is '3', but others are referents"),
        ("a.json", b"[{\"ann_id\": 1}]", "entry 0 names no image: 'None'"),
        ("a.json", b"[{\"image_id\": 1, \"ann_id\": \"x\"}]", "entry 0 has the annotations 'x'"),
        ("a.json", b"[{\"image_id\": 1, \"ann_id\": 1}, {\"image_id\": 2}]", "1 of 2 referents lack ann_id"),
        ("a.json", b"[{\"image_id\": 1, \"split\": \"val\"}]", "no entry has the split 'train'"),
        ("a.p", pickle.dumps([random.Random(0)]), "refused, because it asks for random"),
    ],
)  # fmt: skip
def test_lists_that_are_none(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_published_list(tmp_path / name)


def test_a_list_of_other_data_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("5")
    with pytest.raises(ValueError, match=r"a\.txt names no image of the members' train splits"):
        combine_tables([table_of([row(1, 11, "a")])], read_published_list(tmp_path / "a.txt"))
    (tmp_path / "a.txt").write_text("b.jpg")  # images of one's own are found by their names
    Image.new("RGB", (2, 1)).save(tmp_path / "b.jpg")
    made = combine_tables(
        [table_of([row("x/b.jpg", 1, "a"), row("c.jpg", 2, "b")])], read_published_list(tmp_path / "a.txt")
    )
    assert [one.image for one in made.table] == ["x/b.jpg"]
