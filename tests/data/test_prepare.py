import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from maskris.data.prepare import count, prepare_dataset
from maskris.data.published_counts import PUBLISHED
from maskris.data.readers.validation import InvalidData
from maskris.data.table import ReferringTable
from maskris.reporting import tables_of

SPLITS = ["train", "val", "testA", "train", "testB", "train"]


@pytest.fixture
def source(tmp_path):
    """A data set of six photos in the REFER layout; photo i carries referent i."""
    root = tmp_path / "data"
    (root / "train2014").mkdir(parents=True)
    (root / "refcoco").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    images, annotations, refs = [], [], []
    for i, split in enumerate(SPLITS):
        name = f"COCO_train2014_{i:012d}.jpg"
        Image.fromarray(noise).save(root / "train2014" / name)
        images.append({"id": i, "file_name": name, "height": 24, "width": 32})
        annotations.append({"id": 50 + i, "image_id": i, "segmentation": [[2, 2, 9, 2, 9, 9, 2, 9]]})
        sentences = [{"sent": f"thing {k}", "raw": "x"} for k in range(i + 1)]
        refs.append({"ref_id": i, "ann_id": 50 + i, "image_id": i, "split": split, "sentences": sentences})
    (root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    (root / "refcoco" / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


def test_counts_stand_beside_the_published_ones(source, tmp_path):
    report = prepare_dataset(source, tmp_path / "out" / "refcoco.parquet", progress=False)
    assert {name: (c.images, c.referents, c.expressions) for name, c in report.counts.items()} == {
        "train": (3, 3, 11),
        "val": (1, 1, 2),
        "testA": (1, 1, 3),
        "testB": (1, 1, 5),
    }
    assert report.published["train"].expressions == 120_624
    console = Console(file=io.StringIO(), width=120)
    (table,) = tables_of(report)
    console.print(table.to_rich())
    text = console.file.getvalue()
    assert "11 / 120,624" in text
    assert "1 / 1,975" in text
    assert str(report.out) in text.replace("\n", "")
    assert (report.problems, report.rejects) == ([], None)
    assert len(ReferringTable.open(report.out)) == 6


def test_the_same_source_gives_the_same_bytes_and_nothing_else(source, tmp_path):
    out = tmp_path / "out" / "refcoco.parquet"
    prepare_dataset(source, out, progress=False)
    first = out.read_bytes()
    prepare_dataset(source / "refcoco", out, format="refer", dataset="refcoco", split_by="unc", progress=False)
    assert out.read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == ["refcoco.parquet"]


@pytest.fixture
def damaged(source):
    photos = source / "train2014"
    (photos / "COCO_train2014_000000000000.jpg").unlink()
    whole = (photos / "COCO_train2014_000000000001.jpg").read_bytes()
    (photos / "COCO_train2014_000000000001.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "COCO_train2014_000000000002.jpg").write_text("not an image")
    Image.new("RGB", (24, 32)).save(photos / "COCO_train2014_000000000003.jpg")
    refs = pickle.loads((source / "refcoco" / "refs(unc).p").read_bytes())
    refs[0]["sentences"] = []
    refs[4]["split"] = "trian"
    (source / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps([*refs, "nothing"], 2))
    return source


def test_all_problems_are_reported_and_nothing_is_written(damaged, tmp_path):
    out = tmp_path / "out.parquet"
    out.write_text("an earlier table")
    with pytest.raises(InvalidData) as caught:
        prepare_dataset(damaged, out, progress=False)
    assert sorted((problem.where, problem.kind) for problem in caught.value.problems) == [
        ("ref_id 0 (row 0)", "empty expressions"),
        ("ref_id 0 (row 0)", "missing image"),
        ("ref_id 1 (row 1)", "undecodable image"),
        ("ref_id 2 (row 2)", "undecodable image"),
        ("ref_id 3 (row 3)", "size mismatch"),
        ("ref_id 4 (row 4)", "unknown split"),
        ("row 6", "bad value"),
    ]
    assert "has 24 x 32 pixels, but is annotated as 32 x 24" in str(caught.value)
    assert "--skip-invalid" in str(caught.value)
    assert out.read_text() == "an earlier table"


def test_rejects_are_set_aside(damaged, tmp_path):
    out = tmp_path / "out.parquet"
    report = prepare_dataset(damaged, out, skip_invalid=True, progress=False)
    assert [row.ref_id for row in ReferringTable.open(out)] == [5]
    assert report.num_rejected == 6
    assert report.rejects == tmp_path / "out.parquet.rejects.jsonl"
    rejects = [json.loads(line) for line in report.rejects.read_text().splitlines()]
    by_place = {reject["where"]: reject for reject in rejects}
    assert set(by_place) == {f"ref_id {i} (row {i})" for i in range(5)} | {"row 6"}
    zero = by_place["ref_id 0 (row 0)"]
    assert (zero["ref_id"], zero["image"]) == (0, "COCO_train2014_000000000000.jpg")
    assert {problem["kind"] for problem in zero["problems"]} == {"empty expressions", "missing image"}


def test_a_row_with_half_a_character_is_set_aside_whole(source, tmp_path):
    refs = pickle.loads((source / "refcoco" / "refs(unc).p").read_bytes())
    refs[2]["sentences"][0]["sent"] = "the \ud83d"
    (source / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    report = prepare_dataset(source, tmp_path / "out.parquet", skip_invalid=True, progress=False)
    assert len(ReferringTable.open(report.out)) == 5
    (reject,) = [json.loads(line) for line in report.rejects.read_text(encoding="utf-8").splitlines()]
    assert (reject["ref_id"], reject["expressions"][0]) == (2, "the \ud83d")
    assert reject["problems"][0]["message"].startswith(r"expression 0 holds a lone surrogate (\ud83d in 'the \ud83d')")


def test_without_checking_images_they_need_not_be_there(source, tmp_path):
    for photo in (source / "train2014").iterdir():
        photo.unlink()
    (source / "train2014").rmdir()
    report = prepare_dataset(source, tmp_path / "out.parquet", check_images=False, progress=False)
    assert report.counts["train"].referents == 3
    with pytest.raises(InvalidData, match=r"no folder of images at .*train2014; say where it is with --images"):
        prepare_dataset(source, tmp_path / "out.parquet", skip_invalid=True, progress=False)


def test_which_data_set_is_meant_must_be_clear(source, tmp_path):
    out = tmp_path / "out.parquet"
    (source / "refcoco" / "refs(google).p").write_bytes((source / "refcoco" / "refs(unc).p").read_bytes())
    with pytest.raises(
        ValueError, match=r"Several.*--dataset refcoco --split-by google, --dataset refcoco --split-by unc"
    ):
        prepare_dataset(source, out, progress=False)
    with pytest.raises(ValueError, match="Nothing fits"):
        prepare_dataset(source, out, split_by="umd", progress=False)
    assert prepare_dataset(source, out, split_by="google", progress=False).split_by == "google"
    with pytest.raises(FileNotFoundError, match=r"no folder 'refcoco\+'; data sets in it: refcoco"):
        prepare_dataset(source, out, dataset="refcoco+", progress=False)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        prepare_dataset(source / "none", out, progress=False)
    with pytest.raises(ValueError, match="needs a file"):
        prepare_dataset(source, out, format="jsonl", progress=False)
    photos = tmp_path / "data" / "train2014"
    with pytest.raises(ValueError, match=r"train2014 fits no format \(.*refer: a folder with .*refs\(<split by>\)\.p"):
        prepare_dataset(photos, out, progress=False)
    with pytest.raises(FileNotFoundError, match="holds no refs"):
        prepare_dataset(photos, out, format="refer", progress=False)


def test_own_data_in_json_lines_and_coco(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    polygons = [[2, 2, 9, 2, 9, 9, 2, 9]]
    line = {"image": "a.png", "mask": polygons, "expressions": ["x", "y"], "split": "train"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"split": "val"}))
    report = prepare_dataset(tmp_path / "mine.jsonl", tmp_path / "mine.parquet", progress=False)
    assert (report.dataset, list(report.counts), report.published) == ("mine", ["train", "val"], {})
    assert ReferringTable.open(tmp_path / "mine.parquet").image_path(0) == tmp_path / "a.png"
    annotation = {"id": 1, "image_id": 5, "segmentation": polygons, "expressions": ["x"]}
    content = {"images": [{"id": 5, "file_name": "a.png", "height": 24, "width": 31}], "annotations": [annotation]}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(InvalidData, match=r"annotations\[0\] \(id 1\): a\.png has 32 x 24 pixels"):
        prepare_dataset(tmp_path / "mine.json", tmp_path / "coco.parquet", progress=False)


@pytest.mark.parametrize(
    ("dataset", "split_by"), [("refcoco", "unc"), ("refcocog", "umd"), ("refcocog", "google"), ("grefcoco", "mini")]
)
def test_real_photos_have_exactly_the_known_counts(shared, tmp_path, dataset, split_by):
    source = shared / "data" / "refcoco_mini"
    report = prepare_dataset(source, tmp_path / "t.parquet", dataset=dataset, split_by=split_by, progress=False)
    known = json.loads((source / "stats.json").read_text())[dataset]
    expected = {split: tuple(sizes.values()) for split, sizes in known.items() if not split.startswith("_")}
    if split_by == "google":
        del expected["test"]  # the same file without it
    assert {name: (c.images, c.referents, c.expressions) for name, c in report.counts.items()} == expected
    table = ReferringTable.open(report.out)
    assert count(table) == report.counts
    assert all(table.image_path(i).is_file() for i in range(len(table)))


def test_published_counts_add_up():
    def total(dataset, split_by):
        return sum(counts.expressions for counts in PUBLISHED[dataset, split_by].values())

    assert total("refcoco", "unc") == 142_210
    assert total("refcocog", "umd") == total("refcocog", "google") == 95_010
