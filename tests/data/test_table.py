import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from maskris.data import masks
from maskris.data.table import SCHEMA, Referent, ReferringTable


def mask_of(y, x, h, w, size=(20, 30)):
    mask = np.zeros(size, bool)
    mask[y : y + h, x : x + w] = True
    return mask


@pytest.fixture
def table(tmp_path):
    rows = [
        {
            "image": "a.jpg",
            "mask": mask_of(2, 3, 4, 5),
            "expressions": ["the cat", "left cat"],
            "ann_id": 70,
            "ref_id": 7,
        },
        {
            "image": "b.jpg",
            "mask": mask_of(0, 0, 8, 8, (8, 8)),
            "expressions": ["sky"],
            "split": "val",
            "kinds": ["short"],
        },
        {"image": "a.jpg", "mask": mask_of(0, 29, 20, 1), "expressions": ["edge"], "split": "val", "category": "line"},
        {"image": "c/d.jpg", "height": 5, "width": 6, "mask_source": "none", "expressions": ["?"], "split": "testA"},
    ]
    return ReferringTable.from_rows(rows, tmp_path / "images")


def test_a_row_has_every_column_and_sensible_defaults(table):
    assert [field.name for field in fields(Referent)] == SCHEMA.names
    first = table.row(0)
    assert (first.split, first.image_id, first.ref_id, first.ann_id, first.ann_ids) == ("train", 0, 7, 70, (70,))
    assert (first.height, first.width, first.area, first.box) == (20, 30, 20, (3, 2, 5, 4))
    assert (first.expressions, first.kinds) == (("the cat", "left cat"), ("", ""))
    assert (table.row(2).image_id, table.row(2).ref_id, table.row(2).ann_id) == (0, 2, -1)
    assert (table.row(3).area, table.row(3).box) == (0, (0, 0, 0, 0))
    assert [referent.image for referent in table] == ["a.jpg", "b.jpg", "a.jpg", "c/d.jpg"]


def test_reading_single_values(table, tmp_path):
    assert (len(table), table.num_expressions, table.num_images) == (4, 5, 3)
    assert np.array_equal(table.mask(0), mask_of(2, 3, 4, 5))
    assert table.mask(0).dtype == bool
    assert table.mask(-1).shape == table.size(3) == (5, 6)
    assert table.expressions(0) == ("the cat", "left cat")
    assert table.expressions_per_row.tolist() == [2, 1, 1, 1]
    assert table.image_path(3) == tmp_path / "images" / "c" / "d.jpg"
    with pytest.raises(IndexError, match="Row 4 does not exist: the table has 4"):
        table.row(4)


def test_splits_and_groups(table):
    assert table.splits == ["train", "val", "testA"]
    assert [row["ref_id"] for row in table.split("val").to_pylist()] == [1, 2]
    assert [row.ref_id for row in table.split(["testA", "train"])] == [7, 3]
    assert [rows.tolist() for rows in table.by_image()] == [[0, 2], [1], [3]]
    assert table.take([]).by_image() == []
    with pytest.raises(KeyError, match="no split test; it has train, val, testA"):
        table.split("test")
    with pytest.raises(ValueError, match="Name at least one split; the table has train, val, testA"):
        table.split([])


def test_rows_on_images_of_another_table_can_be_left_out(table, tmp_path):
    assert [row.ref_id for row in table.without_images_of(table.split("val"))] == [3]
    elsewhere = ReferringTable(table.arrow, tmp_path / "photos")  # other files of the same names
    assert len(table.without_images_of(elsewhere)) == len(table)


def test_saved_and_opened_is_the_same_and_the_same_bytes(table, tmp_path):
    first, second = tmp_path / "x" / "one.parquet", tmp_path / "two.parquet"
    table.save(first)
    opened = ReferringTable.open(first)
    assert opened.to_pylist() == table.to_pylist()
    assert opened.images_root == tmp_path / "images"
    opened.save(first)
    table.save(second)
    assert sorted(path.name for path in first.parent.iterdir()) == ["one.parquet"]
    third = tmp_path / "x" / "three.parquet"
    table.save(third)
    assert third.read_bytes() == first.read_bytes()
    assert ReferringTable.open(first, images_root="/elsewhere").image_path(1).as_posix() == "/elsewhere/b.jpg"


def test_a_table_moves_together_with_the_images_beneath_it(table, tmp_path):
    (tmp_path / "data").mkdir()
    inside = ReferringTable(table.arrow, tmp_path / "data" / "train2014")
    inside.save(tmp_path / "data" / "t.parquet")
    (tmp_path / "data").rename(tmp_path / "moved")
    assert ReferringTable.open(tmp_path / "moved" / "t.parquet").images_root == tmp_path / "moved" / "train2014"


def _report(table):
    return os.getpid(), table.to_pylist(), str(table.images_root)


def test_pickling_sends_the_path_and_the_rows_not_the_contents(table, tmp_path):
    many = ReferringTable.concat([table] * 500)
    many.save(tmp_path / "t.parquet")
    opened = ReferringTable.open(tmp_path / "t.parquet")
    part = opened.split("val").take([3, 0])
    assert len(pickle.dumps(opened)) < 1000
    assert len(pickle.dumps(part)) < 1000
    assert pickle.loads(pickle.dumps(part)).to_pylist() == part.to_pylist() == opened.take([6, 1]).to_pylist()
    assert pickle.loads(pickle.dumps(many)).to_pylist() == many.to_pylist()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_see_the_same_rows(table, tmp_path, start):
    if start == "fork" and sys.platform != "linux":
        pytest.skip("no fork here")
    table.save(tmp_path / "t.parquet")
    opened = ReferringTable.open(tmp_path / "t.parquet").split("val")
    context = get_context(start)
    if start == "spawn":  # this test's module can't be imported there, so the worker runs a function of the package
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(ReferringTable.to_pylist, opened).result() == opened.to_pylist()
        return
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(_report(opened)))
    process.start()
    pid, rows, root = ours.recv()
    process.join()
    assert pid != os.getpid()
    assert rows == opened.to_pylist()
    assert root == str(opened.images_root)


def test_concatenation_keeps_the_way_to_the_images(table, tmp_path):
    same = ReferringTable.concat([table, table])
    assert (len(same), same.num_images, same.row(5).image) == (8, 3, "b.jpg")
    other = ReferringTable(table.arrow, tmp_path / "photos")
    both = ReferringTable.concat([table, other])
    assert both.num_images == 6
    assert both.image_path(0) == table.image_path(0)
    assert both.image_path(5) == other.image_path(1)
    with pytest.raises(ValueError, match="at least one table"):
        ReferringTable.concat([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expressions": []}, "Row 0: expressions must be a list"),
        ({"expressions": "the cat"}, "Row 0: expressions must be a list"),
        ({"kinds": ["a", "b"]}, "Row 0 has 1 expressions but 2 kinds"),
        ({"origins": ["a", "b"]}, "Row 0 has 1 expressions but 2 origins"),
        ({"mask": None}, "Row 0 lacks mask"),
        ({"mask": b"0"}, "Row 0 lacks height, width"),
        ({"sentence": "x"}, "Row 0 has the unknown keys sentence"),
        ({"mask_source": "guess"}, "Row 0: mask_source must be one of annotated, pseudo, none, not 'guess'"),
    ],
)
def test_bad_rows_are_refused(change, message):
    row = {"image": "a.jpg", "mask": mask_of(1, 1, 1, 1), "expressions": ["x"], **change}
    with pytest.raises(ValueError, match=message):
        ReferringTable.from_rows([row], ".")


def test_opening_something_else_says_so(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(FileNotFoundError, match="maskris prepare"):
        ReferringTable.open(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"t\.parquet is not a Parquet file"):
        ReferringTable.open(tmp_path / "t.parquet")
    pq.write_table(pa.table({"image": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet: .*lacks the columns dataset"):
        ReferringTable.open(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["a:b.parquet", "x:y/t.parquet", "file:t.parquet"])
def test_a_name_with_a_colon_is_no_address(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    row = {"image": "a.jpg", "mask": mask_of(1, 1, 1, 1), "expressions": ["x"]}
    for _ in range(2):  # the second time there is one to replace
        ReferringTable.from_rows([row], "p:hotos").save(Path(name))
    table = ReferringTable.open(Path(name))
    assert (len(table), table.image_path(0).name) == (1, "a.jpg")
    assert pickle.loads(pickle.dumps(table)).to_pylist() == table.to_pylist()
    assert [path.name for path in Path(name).parent.iterdir() if path.name != "x:y"] == [Path(name).name]


def test_150000_expressions_open(tmp_path):
    rows = [
        {
            "image": f"{i // 3}.jpg",
            "height": 480,
            "width": 640,
            "mask": masks.empty(480, 640),
            "area": 0,
            "box": [0] * 4,
        }
        | {"expressions": [f"number {i}", "b", "c"], "split": ("train", "val")[i % 10 == 0]}
        for i in range(50_000)
    ]
    ReferringTable.from_rows(rows, tmp_path).save(tmp_path / "t.parquet")
    table = ReferringTable.open(tmp_path / "t.parquet")
    assert (len(table), table.num_expressions, table.num_images) == (50_000, 150_000, 16_667)
    assert len(table.split("val")) == 5_000
    assert table.row(49_999).expressions[0] == "number 49999"


def test_the_table_needs_no_torch():
    code = "import sys, maskris.data.table, maskris.data.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
