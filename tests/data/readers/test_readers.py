import json
import pickle
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from maskris.data import masks
from maskris.data.readers.coco import read_coco
from maskris.data.readers.jsonl import read_jsonl
from maskris.data.readers.refer import read_grefcoco, read_refer
from maskris.data.readers.validation import InvalidData

SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]
TRIANGLE = [[20.5, 3, 38, 9.9, 22.1, 28]]
BOTH = coco.decode(coco.merge(coco.frPyObjects(SQUARE + TRIANGLE, 30, 40))) != 0


def instances(**changes):
    return {
        "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "height": 30, "width": 40}],
        "annotations": [
            {"id": 50, "image_id": 9, "category_id": 1, "segmentation": SQUARE},
            {"id": 51, "image_id": 9, "category_id": 2, "segmentation": TRIANGLE},
        ],
        "categories": [{"id": 1, "name": "box"}, {"id": 2, "name": "sail"}],
    } | changes


def ref(**changes):
    sentences = [{"sent": "the box", "raw": "The BOX!", "kind": "short"}, {"sent": "left thing", "raw": "left thing"}]
    return {"ref_id": 3, "ann_id": 50, "image_id": 9, "split": "train", "sentences": sentences} | changes


def write(root, refs, name="refcoco/refs(unc).p", content=None):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(refs, 2) if file.suffix == ".p" else json.dumps(refs).encode())
    (file.parent / "instances.json").write_text(json.dumps(content or instances()))
    return root


def test_refer_layout(tmp_path):
    table = read_refer(write(tmp_path, [ref(), ref(ref_id=4, ann_id=51, split="testA")]), "refcoco", "unc").table()
    first, second = table
    assert (first.dataset, first.split_by, first.split, first.category) == ("refcoco", "unc", "train", "box")
    assert (first.image_id, first.ref_id, first.ann_id, first.ann_ids) == (9, 3, 50, (50,))
    assert (first.expressions, first.kinds) == (("the box", "left thing"), ("short", ""))
    assert (first.source, len(first.source_sha256)) == ("refcoco/refs(unc).p", 64)
    assert table.image_path(0) == tmp_path / "train2014" / "COCO_train2014_000000000009.jpg"
    assert np.array_equal(table.mask(1), coco.decode(coco.frPyObjects(TRIANGLE, 30, 40))[:, :, 0] != 0)
    raw = read_refer(tmp_path, "refcoco", "unc", text="raw").table()
    assert raw.row(0).expressions == ("The BOX!", "left thing")
    assert second.box == masks.box_of(table.mask(1))


def test_refclef_has_splits_of_its_own(tmp_path):
    """Where REFER's testA is testA, testAB and testAC; a referent has one split all the same."""
    names = ["train", "val", "testA", "testB", "testC", "testAB", "testAC", "testBC"]
    refs = [ref(ref_id=i, ann_id=50 + i % 2, split=name) for i, name in enumerate(names)]
    table = read_refer(write(tmp_path, refs, "refclef/refs(unc).p"), "refclef").table()
    assert table.splits == names
    assert table.split(["testA", "testAB", "testAC"]).column("split") == ["testA", "testAB", "testAC"]
    with pytest.raises(InvalidData, match="the split is 'testBA', but it must be one of train, val, test"):
        read_refer(write(tmp_path, [ref(split="testBA")], "refclef/refs(unc).p"), "refclef").table()


@pytest.mark.parametrize("folder", ["images/train2014", "images/mscoco/images/train2014", "train2017", "photos"])
def test_images_are_found_in_other_folders_and_under_coco_2017_names(tmp_path, folder):
    write(tmp_path, [ref()])
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "000000000009.jpg").touch()
    table = read_refer(tmp_path, "refcoco", "unc", tmp_path / folder if folder == "photos" else None).table()
    assert table.image_path(0) == tmp_path / folder / "000000000009.jpg"


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_and_polygons_give_the_same_mask(tmp_path, compressed):
    flat = BOTH.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    rle = {"size": [30, 40], "counts": np.diff(np.concatenate([[0], edges])).tolist()}
    if compressed:
        rle["counts"] = coco.encode(np.asfortranarray(BOTH, dtype=np.uint8))["counts"].decode()
    content = instances()
    content["annotations"][0]["segmentation"] = rle
    table = read_refer(write(tmp_path, [ref()], content=content), "refcoco", "unc").table()
    assert np.array_equal(table.mask(0), BOTH)


@pytest.mark.parametrize("name", ["grefs(unc).json", "grefs(unc).p", "refs(unc).p"])
def test_grefcoco_has_several_targets_or_none(tmp_path, name):
    refs = [
        ref(ann_id=[50, 51]),
        ref(ref_id=4, ann_id=[-1], category_id=[-1]),
        ref(ref_id=5, ann_id=[50], no_target=True),
    ]
    table = read_grefcoco(write(tmp_path, refs, f"grefcoco/{name}")).table()
    assert np.array_equal(table.mask(0), BOTH)
    assert (table.row(0).ann_ids, table.row(0).ann_id, table.row(0).category) == ((50, 51), 50, "box, sail")
    for i in (1, 2):
        assert (table.row(i).ann_ids, table.row(i).ann_id, table.row(i).area) == ((), -1, 0)
        assert table.mask(i).shape == (30, 40)
    with pytest.raises(InvalidData, match="only gRefCOCO has expressions without target"):
        read_refer(write(tmp_path, refs), "refcoco", "unc").table()


def test_missing_files_say_what_there_is(tmp_path):
    write(tmp_path, [ref()])
    with pytest.raises(ValueError, match=r"Nothing fits in .*; choose one of: --dataset refcoco --split-by unc"):
        read_refer(tmp_path, "refcoco", "umd")
    with pytest.raises(FileNotFoundError, match=r"has no folder 'refcoco\+'; data sets in it: refcoco"):
        read_refer(tmp_path, "refcoco+", "unc")
    (tmp_path / "refcoco" / "instances.json").write_text("{")
    with pytest.raises(ValueError, match=r"instances\.json is damaged or no JSON file"):
        read_refer(tmp_path, "refcoco", "unc")
    (tmp_path / "refcoco" / "instances.json").write_text("[]")
    with pytest.raises(ValueError, match=r"instances\.json is no COCO file"):
        read_refer(tmp_path, "refcoco", "unc")


BAD_REFS = {
    "duplicate ref_id": ref(),
    "unknown split": ref(ref_id=10, split="trian"),
    "empty expressions": ref(ref_id=11, sentences=[]),
    "missing annotation": ref(ref_id=12, ann_id=99),
    "missing key": {"ref_id": 13},
    "misplaced polygon": ref(ref_id=14, ann_id=52),
    "empty mask": ref(ref_id=15, ann_id=53),
    "damaged mask": ref(ref_id=16, ann_id=54),
    "size mismatch": ref(ref_id=17, ann_id=55),
    "bad value": ref(ref_id="18"),
}


def test_all_problems_come_at_once_with_file_and_row(tmp_path):
    content = instances()
    for number, segmentation in enumerate(
        ([[1, 1, 45, 1, 45, 9]], [[5, 5, 5, 5, 5, 5]], [[1, 2]], {"size": [40, 30], "counts": [1200]}), start=52
    ):
        content["annotations"].append({"id": number, "image_id": 9, "category_id": 1, "segmentation": segmentation})
    write(tmp_path, [ref(), *BAD_REFS.values(), "nothing"], content=content)
    with pytest.raises(InvalidData) as caught:
        read_refer(tmp_path, "refcoco", "unc").table()
    found = {(problem.kind, problem.row) for problem in caught.value.problems}
    for number, kind in enumerate(BAD_REFS, start=1):
        assert (kind, number) in found
    assert {problem.file for problem in caught.value.problems} == {str(tmp_path / "refcoco" / "refs(unc).p")}
    text = str(caught.value)
    assert "refs(unc).p: ref_id 14 (row 6): a polygon reaches 5.0 px beyond the 40 x 30 image" in text
    assert "ref_id 3 (row 1): ref_id 3 is that of ref_id 3 (row 0) too" in text
    assert "row 11: a referent is a dict, not a str" in text
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_a_polygon_may_overstep_the_border_by_rounding(tmp_path):
    content = instances()
    content["annotations"][0]["segmentation"] = [[0, 0, 41.9, 0, 41.9, 31, -1, 31]]
    table = read_refer(write(tmp_path, [ref()], content=content), "refcoco", "unc").table()
    assert table.row(0).box == (0, 0, 40, 30)


def test_coco_style_json(tmp_path):
    content = instances()
    content["images"][0]["split"] = "val"
    content["annotations"][0]["expressions"] = ["the box", "left"]
    content["annotations"][1] |= {"caption": "a sail", "split": "test"}
    content["annotations"].append({"id": 52, "image_id": 9, "category_id": 1, "segmentation": SQUARE})
    (tmp_path / "my.json").write_text(json.dumps(content))
    first, second = read_coco(tmp_path / "my.json").table()
    assert (first.dataset, first.split, first.ref_id, first.expressions) == ("my", "val", 50, ("the box", "left"))
    assert (second.split, second.category, second.expressions) == ("test", "sail", ("a sail",))
    content["refs"] = [{"id": 1, "ann_id": [50, 51], "expressions": ["both"], "split": "train"}]
    content["refs"][0] |= {"mask_source": "pseudo", "mask_origin": "a 01; threshold:0.5"}
    (tmp_path / "my.json").write_text(json.dumps(content))
    table = read_coco(tmp_path / "my.json", tmp_path, dataset="mine").table()
    assert (table.row(0).dataset, table.row(0).ref_id, table.row(0).ann_ids) == ("mine", 1, (50, 51))
    assert np.array_equal(table.mask(0), BOTH)
    assert (table.row(0).mask_source, table.row(0).mask_origin) == ("pseudo", "a 01; threshold:0.5")


@pytest.fixture
def lines(tmp_path):
    """Writes lines into a folder that has a photo and masks of several kinds."""
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    gray = BOTH.astype(np.uint8) * 255
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([gray * 0, gray, gray * 0, gray * 0 + 255], axis=2)).save(tmp_path / "rgba.png")
    palette = Image.fromarray(BOTH.astype(np.uint8) * 3).convert("P")
    palette.save(tmp_path / "palette.png")
    Image.fromarray(BOTH).save(tmp_path / "bits.png")

    def write_lines(*records):
        file = tmp_path / "mine.jsonl"
        file.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in records))
        return file

    return write_lines


RLE = {"size": [30, 40], "counts": coco.encode(np.asfortranarray(BOTH, dtype=np.uint8))["counts"].decode()}


@pytest.mark.parametrize(
    "mask", ["gray.png", "rgba.png", "palette.png", "bits.png", RLE, SQUARE + TRIANGLE], ids=lambda m: str(m)[:12]
)
def test_json_lines_take_every_kind_of_mask(lines, mask):
    line = {"image": "photo.png", "mask": mask, "expressions": ["both"], "split": "val", "category": "things"}
    file = lines(line, "", line | {"expression": "again", "image_id": 77})
    table = read_jsonl(file).table()
    assert np.array_equal(table.mask(0), BOTH)
    assert (table.row(0).split, table.row(0).category, table.row(0).ann_ids) == ("val", "things", (0,))
    assert (table.row(1).image_id, table.row(1).ref_id) == (77, 1)
    assert table.image_path(0) == file.parent / "photo.png"


def test_predictions_are_pseudo_masks_in_the_pixels_of_the_file(lines):
    """Lines of `maskris predict`: an RLE of the upright photo, and referents that it may name several times."""
    turned = np.ascontiguousarray(np.rot90(BOTH, -1))  # orientation 6: upright is the file's picture turned clockwise
    upright = {"size": [40, 30], "counts": coco.encode(np.asfortranarray(turned, dtype=np.uint8))["counts"].decode()}
    line = {"row": 0, "image": "photo.png", "split": "train", "expression": "x", "size": [40, 30], "orientation": 6,
            "ref_id": 5, "number": 0, "segmentation": upright, "mask_source": "pseudo",
            "mask_origin": "a 0123456789ab; threshold:0.5"}  # fmt: skip
    plain = {"image": "photo.png", "split": "train", "expression": "y", "segmentation": RLE, "orientation": 1}
    table = read_jsonl(lines(line, line | {"number": 1}, plain)).table()
    assert all(np.array_equal(table.mask(row), BOTH) for row in range(3))
    assert table.column("mask_source") == ["pseudo", "pseudo", "annotated"]
    assert table.column("mask_origin") == ["a 0123456789ab; threshold:0.5"] * 2 + [""]
    assert table.column("ref_id") == [0, 1, 2]
    for wrong in ({"orientation": 0}, {"segmentation": SQUARE}, {"segmentation": {"size": [40, 30], "counts": "?"}}):
        (problem,) = read_jsonl(lines(line | wrong)).problems
        assert problem.kind == "damaged mask"


def test_json_lines_without_masks(lines):
    line = {"image": "photo.png", "expressions": ["x"], "split": "train", "mask_source": "none"}
    table = read_jsonl(lines(line, line | {"mask": None}, line | {"height": 30, "width": 40})).table()
    assert table.column("mask_source") == ["none"] * 3
    assert [(table.size(row), table.row(row).area) for row in range(3)] == [((30, 40), 0)] * 3
    assert table.row(0).ann_ids == (0,)  # there is a referent, only nobody knows where


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"mask_origin": "a model"},
            "'a model' says what made a pseudo mask, but mask_source is 'annotated'",
        ),
        ({"mask_source": "pseudo", "mask_origin": 3}, "mask_origin must be a string, not 3"),
        ({"mask_source": "guessed"}, "mask_source must be one of"),
    ],
)
def test_origins_of_masks_are_checked(lines, values, message):
    line = {"image": "photo.png", "mask": SQUARE, "expressions": ["x"], "split": "train"}
    (problem,) = read_jsonl(lines(line | values)).problems
    assert (problem.kind, message in problem.message) == ("bad value", True)


def test_json_lines_without_target(lines):
    table = read_jsonl(
        lines({"image": "photo.png", "no_target": True, "expressions": ["a whale"], "split": "val"})
    ).table()
    assert (table.row(0).ann_ids, table.row(0).area, table.size(0)) == ((), 0, (30, 40))


def test_problems_in_json_lines_name_the_line(lines):
    good = {"image": "photo.png", "mask": SQUARE, "expressions": ["x"], "split": "train"}
    file = lines(
        good,
        "{broken",
        "[]",
        good | {"image": "none.png"},
        good | {"mask": "none.png"},
        good | {"mask": None},
        {"image": "photo.png", "mask": SQUARE},
        good | {"ref_id": 0},
        good | {"mask": {"size": [3, 3]}},
        good | {"expressions": ["x", " "], "kinds": ["a"]},
    )
    problems = read_jsonl(file).problems
    assert [(problem.where, problem.kind) for problem in problems] == [
        ("line 2", "bad value"),
        ("line 3", "bad value"),
        ("line 4", "missing image"),
        ("line 5", "damaged mask"),
        ("line 6", "empty mask"),
        ("line 7", "missing key"),
        ("line 7", "unknown split"),
        ("line 7", "empty expressions"),
        ("line 8", "duplicate ref_id"),
        ("line 9", "damaged mask"),
        ("line 10", "empty expressions"),
        ("line 10", "bad value"),
    ]
    with pytest.raises(InvalidData, match=r"mine\.jsonl: line 7: the line lacks split, expressions"):
        read_jsonl(file).table()


@pytest.mark.parametrize("place", [{"expressions": ["the \ud83d"]}, {"kinds": ["\udc41"]}, {"category": "\ud83d"}])
def test_half_a_character_is_a_problem_of_its_row(lines, place):
    """JSON can hold it, and Parquet can't: the table would fail as a whole."""
    good = {"image": "photo.png", "mask": SQUARE, "expressions": ["x"], "split": "train"}
    scanned = read_jsonl(lines(good, good | place))
    (problem,) = scanned.problems
    assert (problem.where, problem.kind) == ("line 2", "bad value")
    assert re.search(r"(expression 0|kinds|category) holds a lone surrogate \(\\ud.*; write the whole", str(problem))
    assert len(scanned.table(skip_invalid=True)) == 1


def test_the_name_of_a_photo_is_text(lines):
    named = {"image": "\ud83d", "mask": SQUARE, "expressions": ["x"], "split": "train"}
    assert "image holds a lone surrogate" in [one.message.split(" (")[0] for one in read_jsonl(lines(named)).problems]


def test_numbers_that_are_too_large_are_problems_of_their_rows(lines):
    good = {"image": "photo.png", "mask": SQUARE, "expressions": ["x"], "split": "train"}
    places = ({"ref_id": 0}, {"image_id": 0}, {"height": 0, "width": 40}, {"mask": [[0, 1, 9, 1, 9, 9]]})
    file = lines(good, *(json.dumps(good | place).replace("0", "1e999", 1) for place in places))
    assert {problem.where for problem in read_jsonl(file).problems} == {f"line {number}" for number in range(2, 6)}


def test_the_golden_minidata_reads_as_the_official_code_does(shared):
    facts = json.loads((shared / "reference/maskris/minidata.json").read_text())
    table = read_refer(shared / "reference/maskris/minidata", "refcoco", "unc").table()
    assert [row.ref_id for row in table.split("train")] == facts["train_ref_ids"]
    for split in ("val", "testA"):
        rows = table.split(split)
        assert [row.ref_id for row in rows for _ in row.expressions] == [item["ref_id"] for item in facts[split]]
        seen = np.repeat(np.arange(len(rows)), rows.expressions_per_row)
        for i, item in zip(seen, facts[split], strict=True):
            resized = Image.fromarray(rows.mask(i).astype(np.uint8)).resize((224, 224), Image.Resampling.NEAREST)
            assert np.count_nonzero(resized) == item["mask_pixels"]
