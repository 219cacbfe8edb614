"""The embedded data set is written in the REFER layout, and comes back through the real readers as it was meant."""

import hashlib
import json
import pickle
import re

import numpy as np
import pytest
from data.shapes_english import read
from data.shapes_scenes import scene_of
from PIL import Image

from maskris.data.prepare import prepare_dataset
from maskris.data.published_counts import Counts
from maskris.data.readers.refer import read_grefcoco, read_refer
from maskris.data.shapes.language import KINDS, LONGEST, VARIANTS, vocabulary
from maskris.data.shapes.scene import SHAPES, is_held_out, masks_of, render
from maskris.data.shapes.writer import OBJECTS, write_shapes
from maskris.data.table import ReferringTable

IMAGES = {"train": 6, "val": 3, "testA": 3, "testB": 3, "combinations": 3, "longer": 6}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    return root, write_shapes(root, images=IMAGES, seed=3, datasets=VARIANTS)


def refs(root, variant="shapes"):
    if variant == "gshapes":
        return json.loads((root / variant / "grefs(unc).json").read_text())
    return pickle.loads((root / variant / "refs(unc).p").read_bytes())


def read_variant(root, variant):
    return (read_grefcoco if variant == "gshapes" else read_refer)(root, variant, "unc").table()


def splits_of(variant):
    return [split for split in OBJECTS if (variant, split) != ("shapes+", "longer")]


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def origin(row, variant):
    """The scene of a row, and which of its objects the row means."""
    place, number = divmod(int(re.search(r"_(\d{12})\.png", row.image)[1]), 1_000_000)
    assert list(OBJECTS)[place % 10 - 1] == row.split
    return scene_of(variant, row.split, number, seed=3), [ann_id % 10 for ann_id in row.ann_ids]


def test_the_layout(written):
    root, _ = written
    assert sorted(path.name for path in root.iterdir()) == sorted([*VARIANTS, "train2014"])
    assert len(list((root / "train2014").iterdir())) == 2 * sum(IMAGES.values())
    contents = [json.loads((root / variant / "instances.json").read_text()) for variant in VARIANTS]
    for family in (contents[:3], contents[3:]):  # each over one set of pictures
        assert all(one["images"] == family[0]["images"] for one in family)
        assert all(one["annotations"] == family[0]["annotations"] for one in family)
    assert not {i["id"] for i in contents[0]["images"]} & {i["id"] for i in contents[3]["images"]}
    assert [category["name"] for category in contents[0]["categories"]] == list(SHAPES)
    sentences = [sentence for ref in refs(root) for sentence in ref["sentences"]]
    assert [sentence["sent_id"] for sentence in sentences] == list(range(len(sentences)))
    assert all(sentence["tokens"] == sentence["sent"].split() for sentence in sentences)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_readers_give_back_what_was_meant(written, variant):
    root, counts = written
    table = read_variant(root, variant)
    assert list(counts[variant]) == table.splits == splits_of(variant)
    for split, expected in counts[variant].items():
        part = table.split(split)
        assert Counts(part.num_images, len(part), part.num_expressions) == expected
    for i, row in enumerate(table):
        scene, numbers = origin(row, variant)
        assert row.category == ", ".join(dict.fromkeys(scene.things[number].shape for number in numbers))
        assert (row.height, row.width, row.mask_source) == (64, 64, "annotated")
        mask = np.any([np.zeros((64, 64), bool), *(masks_of(scene, 64)[number] for number in numbers)], axis=0)
        assert np.array_equal(table.mask(i), mask)
        assert row.area == mask.sum()
        x, y, width, height = map(int, row.box)
        assert mask[y : y + height, x : x + width].sum() == row.area
        assert np.array_equal(np.asarray(Image.open(table.image_path(i))), render(scene, 64))
        assert len(row.expressions) == len(row.kinds) >= 1
        assert row.split != "combinations" or (numbers and all(is_held_out(scene.things[i]) for i in numbers))
        for text, kind in zip(row.expressions, row.kinds, strict=True):
            reading = read(scene, text)
            assert reading.means(*numbers)
            assert (len(text.split()) > LONGEST[variant]) == (row.split == "longer")
            assert reading.kind == kind in KINDS
            assert set(text.split()) <= set(vocabulary())


def test_several_objects_and_none_are_laid_out_as_in_grefcoco(written):
    table = read_variant(written[0], "gshapes")
    sizes = {len(row.ann_ids) for row in table}
    assert {0, 1, 2, 3} <= sizes
    for ref in refs(written[0], "gshapes"):
        assert ref["no_target"] == (ref["ann_id"] == [-1]) == (ref["sentences"][0]["kind"] == "no-target")
        assert len(ref["ann_id"]) == len(ref["category_id"])
    for i, row in enumerate(table):
        assert (not row.ann_ids) == (row.area == 0) == (set(row.kinds) == {"no-target"})
        assert table.mask(i).any() == bool(row.ann_ids)
    # Whose objects are the same is one referent.
    assert len({(row.image, row.ann_ids) for row in table}) == len(table)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_prepared_without_a_problem(written, tmp_path, variant):
    root, counts = written
    report = prepare_dataset(root, tmp_path / "t.parquet", dataset=variant, progress=False)
    assert (report.problems, report.rejects, report.dataset, report.split_by) == ([], None, variant, "unc")
    assert {s: Counts(c.images, c.referents, c.expressions) for s, c in report.counts.items()} == counts[variant]
    assert ReferringTable.open(report.out).to_pylist() == read_variant(root, variant).to_pylist()


def test_the_same_arguments_give_the_same_bytes(written, tmp_path):
    write_shapes(tmp_path, images=IMAGES, seed=3, datasets=VARIANTS)
    assert files(tmp_path) == files(written[0])


# Recorded once: if they change, the data set is another one, and numbers reported on it can't be compared.
BEGINNINGS = {
    "shapes": ["bigger red thing", "plain red circle left of blue thing", "bottom red thing"],
    "shapes+": ["thing with the same color as the cross", "red circle", "largest red thing"],
    "shapesg": [
        "the red thing that lies furthest to the right in the picture",
        "the plain red circle that can be seen in the picture",
        "the largest red thing of all that can be seen in the picture",
    ],
    "shapesc": [
        "the thing with exactly four blue things below it",
        "the star with exactly three stars above it",
        "the thing that is not blue",
    ],
    "gshapes": [
        "star right of striped blue star",
        "striped pink thing below striped blue star",
        "bottom striped blue thing",
    ],
}
DIGESTS = {
    "shapes": "36beb85465bb678f9df25eb75ffb936bb88930eff4090d9f1e0e20c472ca84f0",
    "shapes+": "c89306babf5f715c75a3b4e8c565e71d079a0e23a2e8fecc754623816adac515",
    "shapesg": "73449aa52175145c3c3e37b10da7ed06cf9a804bd8a76fdc6f5e4db904c89c1b",
    "shapesc": "ff356e537d2c7e46b46c2607d2d74a53a0d405e22579d874aa44291ff5018225",
    "gshapes": "56b5a47ec224d180585bdccaf59ed4ac23309f30d49c988826a19c0fb2bcd209",
}


def test_every_machine_writes_these_sentences(tmp_path):
    for variant in VARIANTS:
        write_shapes(tmp_path, images={"val": 6, "testB": 2, "longer": 2}, datasets=[variant], size=32)
    sentences = {v: [s["sent"] for ref in refs(tmp_path, v) for s in ref["sentences"]] for v in VARIANTS}
    assert {variant: texts[:3] for variant, texts in sentences.items()} == BEGINNINGS
    digests = {
        variant: hashlib.sha256("\n".join(texts[:50] + texts[-20:]).encode()).hexdigest()
        for variant, texts in sentences.items()
    }
    assert digests == DIGESTS


def test_a_scene_depends_neither_on_how_many_there_are_nor_on_the_other_data_sets(written, tmp_path):
    few = {"val": 2, "train": 3}
    write_shapes(tmp_path, images=few, seed=3, datasets=["shapesg"])
    more = files(written[0])
    pictures = {name: content for name, content in files(tmp_path).items() if name.endswith(".png")}
    assert len(pictures) == 5
    assert all(more[name] == content for name, content in pictures.items())
    assert not (tmp_path / "shapes").exists()

    def by_object(root):
        return {ref["ann_id"]: [s["sent"] for s in ref["sentences"]] for ref in refs(root, "shapesg")}

    theirs, ours = by_object(written[0]), by_object(tmp_path)
    assert ours
    assert all(theirs[ann_id] == sentences for ann_id, sentences in ours.items())


def test_another_seed_gives_other_pictures_and_sentences(written, tmp_path):
    write_shapes(tmp_path, images=IMAGES, seed=4)
    ours, theirs = files(tmp_path), files(written[0])
    assert not {c for n, c in ours.items() if n.endswith(".png")} & set(theirs.values())
    assert len(set(ours.values())) == len(ours)  # nor are two splits' pictures the same
    assert [ref["sentences"] for ref in refs(tmp_path)] != [ref["sentences"] for ref in refs(written[0])]


def test_at_another_size_the_same_is_said(written, tmp_path):
    write_shapes(tmp_path, images=IMAGES, seed=3, size=100)
    assert refs(tmp_path) == refs(written[0])
    table = read_refer(tmp_path, "shapes", "unc").table()
    assert table.size(0) == Image.open(table.image_path(0)).size == (100, 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": ["shapes", "shapesx"]}, "Unknown: shapesx; data sets are .*shapesg"),
        ({"datasets": "shapes"}, "Unknown: s, h"),
        ({"images": {"test": 3}}, "Unknown: test; .* splits are .*testB.*combinations"),
        ({"size": 31}, "Below 32 pixels .* size = 31"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_shapes(tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_nothing_is_printed_unless_asked_for(tmp_path, capsys):
    silent = write_shapes(tmp_path, images={"testA": 1})
    assert capsys.readouterr() == ("", "")
    assert write_shapes(tmp_path, images={"testA": 1}, progress=True) == silent
