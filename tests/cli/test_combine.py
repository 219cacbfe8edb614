"""`maskris prepare --combine` and `--text`, end to end."""

import json
import pickle

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image

from maskris.data.combine import identities, joined_referents, prepare_combined
from maskris.data.table import ReferringTable

SPLITS = {
    ("refcoco", "unc"): ["train", "train", "val", "train"],
    ("refcoco+", "unc"): ["train", "testB", "train", "train"],
    ("refcocog", "umd"): ["val", "train", "train", "train"],
    ("refcocog", "google"): ["train", "train", "train", "train"],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four photos with one object each, in three data sets; photo 3 is in train everywhere."""
    root = tmp_path_factory.mktemp("data")
    (root / "train2014").mkdir()
    images, annotations = [], []
    for i in range(4):
        name = f"COCO_train2014_{i:012d}.jpg"
        Image.fromarray(np.full((24, 32, 3), 60 * i, dtype=np.uint8)).save(root / "train2014" / name)
        images.append({"id": i, "file_name": name, "height": 24, "width": 32})
        annotations.append({"id": 50 + i, "image_id": i, "segmentation": [[2, 2, 9, 2, 9, 9, 2, 9]]})
    for (dataset, split_by), splits in SPLITS.items():
        (root / dataset).mkdir(exist_ok=True)
        refs = [
            {
                "ref_id": 10 * i, "ann_id": 50 + i, "image_id": i, "split": split,
                "sentences": [{"sent": f"thing {dataset}", "raw": f"Thing, {dataset}!"}, {"sent": "it", "raw": "It"}],
            }
            for i, split in enumerate(splits)
        ]  # fmt: skip
        (root / dataset / f"refs({split_by}).p").write_bytes(pickle.dumps(refs, 2))
        (root / dataset / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


def rows_of(text):
    """The rows of the tables that are shown."""
    return [line.split() for line in text.splitlines() if line.startswith(" ") and any(map(str.isdigit, line))]


def test_a_folder_of_three(maskris, source, tmp_path):
    command = ["prepare", source, "--combine", "refcoco", "refcoco+", "refcocog", "--merge", "--out"]
    code, out, _ = maskris(*command, tmp_path / "c.parquet")
    assert code == 0
    lines = rows_of(out)
    assert lines == [
        ["refcoco", "unc", "3", "3", "6"],
        ["refcoco+", "unc", "testB", "1", "1", "2"],
        ["refcocog", "umd", "val", "1", "1", "2"],
        ["kept", "1", "1", "2"],
        ["refcoco+", "unc", "3", "3", "6"],
        ["refcoco", "unc", "val", "1", "1", "2"],
        ["refcocog", "umd", "val", "1", "1", "2"],
        ["kept", "1", "1", "2"],
        ["refcocog", "umd", "3", "3", "6"],
        ["refcoco", "unc", "val", "1", "1", "2"],
        ["refcoco+", "unc", "testB", "1", "1", "2"],
        ["kept", "1", "1", "2"],
        ["train,", "combined", "1", "1", "4"],
        ["refcoco", "unc", "val", "1", "/", "1,500", "1", "/", "3,811", "2", "/", "10,834"],
        ["refcoco+", "unc", "testB", "1", "/", "750", "1", "/", "1,798", "2", "/", "4,889", "?"],
        ["refcocog", "umd", "val", "1", "/", "1,300", "1", "/", "2,573", "2", "/", "4,896", "?"],
    ]
    joined = "2 referent(s) joined to others of the same annotation, 2 repeated expression(s) left out: an epoch is"
    assert joined in " ".join(out.split())
    assert "? quoted in the literature, without a second source" in out
    table = ReferringTable.open(tmp_path / "c.parquet")
    (train,) = table.split("train")
    assert train.expressions == ("thing refcoco", "it", "thing refcoco+", "thing refcocog")
    assert train.origins[1] == "refcoco unc 30, refcoco+ unc 30, refcocog umd 30"
    assert [(one.dataset, one.split) for one in table if one.split != "train"] == [
        ("refcoco", "val"), ("refcoco+", "testB"), ("refcocog", "val"),
    ]  # fmt: skip
    assert maskris(*command, tmp_path / "d.parquet")[0] == 0
    assert (tmp_path / "c.parquet").read_bytes() == (tmp_path / "d.parquet").read_bytes()


def test_the_referents_of_each_data_set_stay_apart(maskris, source, tmp_path):
    command = ["prepare", source, "--combine", "refcoco", "refcoco+", "refcocog", "--out", tmp_path / "c.parquet"]
    code, out, _ = maskris(*command)
    assert code == 0
    assert rows_of(out)[12] == ["train,", "combined", "1", "3", "6"]
    assert "2 referent(s) of the same annotation as others stay apart (--merge joins them)." in " ".join(out.split())
    train = ReferringTable.open(tmp_path / "c.parquet").split("train")
    names = ["refcoco", "refcoco+", "refcocog"]
    assert [(one.dataset, one.expressions) for one in train] == [(name, (f"thing {name}", "it")) for name in names]
    assert [one.origins[1] for one in train] == ["refcoco unc 30", "refcoco+ unc 30", "refcocog umd 30"]
    assert len(train.by_image()) == 1


def test_prepared_tables_and_other_partitions(maskris, source, tmp_path):
    for dataset, split_by in (("refcoco", "unc"), ("refcocog", "google")):
        options = ["--dataset", dataset, "--split-by", split_by, "--out", tmp_path / f"{dataset}.parquet"]
        assert maskris("prepare", source, *options)[0] == 0
    tables = [tmp_path / "refcoco.parquet", tmp_path / "refcocog.parquet"]
    code, out, _ = maskris("prepare", "--combine", *tables, "--out", tmp_path / "a.parquet")
    assert code == 0
    assert "refcocog google" in out
    command = ["prepare", source, "--split-by", "refcocog=google", "--combine"]
    assert maskris(*command, "refcoco", "refcocog", "--out", tmp_path / "b.parquet")[0] == 0
    assert maskris(*command, tables[0], "refcocog", "--out", tmp_path / "c.parquet")[0] == 0
    first, *others = (ReferringTable.open(tmp_path / f"{name}.parquet") for name in "abc")
    assert [one.to_pylist() for one in others] == [first.to_pylist()] * 2
    assert [(one.image_id, len(one.expressions)) for one in first.split("train")] == [
        (image, 2) for image in (0, 1, 3, 0, 1, 3)
    ]  # fmt: skip


def test_a_published_list(maskris, source, tmp_path):
    (tmp_path / "list.txt").write_text("2\nCOCO_train2014_000000000009.jpg")
    options = ["--published-list", tmp_path / "list.txt", "--out", tmp_path / "c.parquet"]
    code, out, _ = maskris("prepare", source, "--combine", "refcoco", "refcoco+", *options)
    assert code == 0
    lines = rows_of(out)
    assert ["our", "rule", "only:", "left", "out", "2", "4", "8"] in lines
    assert ["the", "list", "only:", "kept", "1", "1", "2"] in lines
    assert "results on those will be too good" in " ".join(out.split())
    assert "1 of its entries, in no member's train split: 9" in " ".join(out.split())
    assert [one.image_id for one in ReferringTable.open(tmp_path / "c.parquet").split("train")] == [2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{source}", "--combine", "refcoco", "refclef"], r"no folder 'refclef'; data sets in it: refcoco, refcoco\+"),
        (["--combine", "refcoco"], r"refcoco: no Parquet files.*maskris prepare DATA --combine refcoco"),
        (["--combine", "none.parquet", "x.parquet"], r"none\.parquet does not exist"),
        (["{source}", "--combine", "x.parquet"], "would not be read: all members are Parquet files"),
        (["{source}", "--combine", "refcocog", "--split-by", "google"], "is such as refcocog=google,refcoco=unc"),
        (["{source}", "--combine", "refcoco", "--split-by", "refcocog=google"], "which is none of the members refcoco"),
        (["{source}", "--combine", "refcoco", "--split-by", "refcoco=umd"], r"Nothing fits.*split-by unc"),
        (["{source}", "--combine", "refcoco", "--dataset", "refcoco"], "--dataset and --format are for a single"),
        (["{source}", "--combine", "refcoco", "--published-list", "none.p"], r"none\.p does not exist"),
        (["{source}", "--combine", "refcoco", "x.parquet", "--text", "raw"], "prepare the Parquet files with it"),
        (["--combine", "x.parquet", "--images", "."], "Parquet files name theirs"),
        (["{source}", "--dataset", "refcoco", "--published-list", "a.txt"], "--published-list is for --combine"),
        (["{source}", "--dataset", "refcoco", "--merge"], "--merge is for --combine"),
        ([], "Say what to read: maskris prepare SOURCE"),
    ],
)
def test_what_cannot_be_combined(maskris, source, tmp_path, words, message):
    given = [word.format(source=source) for word in words]
    code, _, err = maskris("prepare", *given, "--out", tmp_path / "c.parquet")
    assert code == 1
    assert pc.any(pc.match_substring_regex([err.replace("\n", " ")], message)).as_py(), err
    assert not (tmp_path / "c.parquet").exists()


def test_problems_of_all_members_are_reported_at_once(maskris, source, tmp_path):
    root = tmp_path / "data"
    for dataset in ("refcoco", "refcoco+"):
        (root / dataset).mkdir(parents=True)
        for file in (source / dataset).iterdir():
            (root / dataset / file.name).write_bytes(file.read_bytes())
    (root / "train2014").mkdir()
    for file in sorted((source / "train2014").iterdir())[1:]:
        (root / "train2014" / file.name).write_bytes(file.read_bytes())
    command = ["prepare", root, "--combine", "refcoco", "refcoco+", "--out", tmp_path / "c.parquet"]
    code, _, err = maskris(*command)
    assert code == 1
    assert "2 problem(s): 2 x missing image" in err
    code, out, _ = maskris(*command, "--skip-invalid")
    assert code == 0
    assert "2 row(s) left out" in out
    rejects = (tmp_path / "c.parquet.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"].split("/")[-2] for line in rejects] == ["refcoco", "refcoco+"]


def test_raw_text(maskris, source, tmp_path):
    out = tmp_path / "t.parquet"
    code, shown, _ = maskris("prepare", source, "--dataset", "refcoco", "--text", "raw", "--out", out)
    assert code == 0
    assert "refcoco unc, raw text" in shown
    first = ReferringTable.open(out).row(0)
    assert (first.text, first.expressions) == ("raw", ("Thing, refcoco!", "It"))
    assert maskris("prepare", source, "--dataset", "refcoco", "--out", out)[0] == 0
    first = ReferringTable.open(out).row(0)
    assert (first.text, first.expressions) == ("sent", ("thing refcoco", "it"))
    code, shown, _ = maskris("prepare", source, "--combine", "refcoco", "refcoco+", "--text", "raw", "--out", out)
    assert code == 0
    assert "combined, raw text" in shown
    assert set(ReferringTable.open(out).column("text")) == {"raw"}
    (tmp_path / "mine.jsonl").write_text("")
    code, _, err = maskris("prepare", tmp_path / "mine.jsonl", "--text", "raw", "--out", tmp_path / "x.parquet")
    assert code == 1
    assert "text can't be chosen for the format jsonl, only for grefcoco, hub, refer" in " ".join(err.split())


def test_real_photos(shared, tmp_path):
    """RefCOCO and RefCOCOg share their training photos there, and no photo to evaluate on; so one is given to both."""
    folder = shared / "data" / "refcoco_mini"
    apart = prepare_combined(folder, ["refcoco", "refcocog"], tmp_path / "apart.parquet", progress=False).combination
    report = prepare_combined(folder, ["refcoco", "refcocog"], tmp_path / "all.parquet", merge=True, progress=False)
    made = report.combination
    assert made.leaks == []
    assert (made.alike, made.contradictions) == (653, 0)
    assert (apart.alike, len(apart.table.split("train")), joined_referents(apart.table)) == (653, 2 * 653, 0)
    assert (apart.table.split("train").num_expressions, joined_referents(made.table)) == (2148, 653)
    assert made.table.split("train").num_expressions + made.repeated == 1495 + 653
    sizes = {name: (len(made.table.split(name)), made.table.split(name).num_expressions) for name in made.table.splits}
    assert sizes == {"train": (653, 2148 - made.repeated), "val": (22, 37), "testA": (9, 26), "testB": (5, 15),
                     "test": (26, 26)}  # fmt: skip
    whole = ReferringTable.open(tmp_path / "all.parquet").split("train")
    image = whole.column("image")[0]
    moved = [row for row, name in enumerate(whole.column("image")) if name == image]
    spoilt = whole.take(moved).to_pylist()
    rows = [row | {"dataset": "own", "split_by": "", "split": "val", "origins": []} for row in spoilt]
    ReferringTable.from_rows(rows, whole.images_root).save(tmp_path / "own.parquet")
    members = ["refcoco", "refcocog", str(tmp_path / "own.parquet")]
    options = {"merge": True, "check_images": False, "progress": False}
    again = prepare_combined(folder, members, tmp_path / "again.parquet", **options)
    assert {
        (leak.member, leak.split, leak.counts.images, leak.counts.referents) for leak in again.combination.leaks
    } == {
        ("refcoco unc", "own val", 1, len(moved)),
        ("refcocog umd", "own val", 1, len(moved)),
    }
    train, held = (again.combination.table.split(names) for names in ("train", ["val", "test", "testA", "testB"]))
    assert len(train) == 653 - len(moved)
    assert not set(identities(train)) & set(identities(held))
