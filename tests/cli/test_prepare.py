"""`maskris prepare` on files of the Hub, end to end."""

import shutil

import pytest
from hub_world import MASK, photo_bytes, rle, write

from maskris import ReferringTable


@pytest.fixture
def files(tmp_path):
    row = {"mask": rle(MASK), "text": "the thing", "notes": "n"}
    return [
        write(tmp_path / "kitchen" / f"{split}.parquet", [row | {"image": {"bytes": photo_bytes(n), "path": "a.jpg"}}])
        for n, split in enumerate(("train", "validation"))
    ]


def test_several_files_or_their_folder(maskris, files, tmp_path):
    code, out, _ = maskris("prepare", *files, "--out", tmp_path / "t.parquet")
    assert code == 0
    said = " ".join(out.split())
    assert "kitchen" in said
    assert "Columns without a meaning here: notes." in said
    assert f"Photos out of the file: {tmp_path / 't-images'} (2 new)." in said
    table = ReferringTable.open(tmp_path / "t.parquet")
    assert table.column("split") == ["train", "val"]
    assert maskris("prepare", files[0].parent, "--out", tmp_path / "u.parquet")[0] == 0
    assert ReferringTable.open(tmp_path / "u.parquet").to_pylist() == table.to_pylist()
    for name in ("t.parquet", "t-images"):
        shutil.move(tmp_path / name, tmp_path / "kitchen" / name)
    moved = ReferringTable.open(tmp_path / "kitchen" / "t.parquet")
    assert moved.image_path(1).read_bytes() == photo_bytes(1)


def test_what_carries_less_is_refused_and_can_be_taken(maskris, tmp_path):
    row = {"image": {"bytes": photo_bytes(), "path": "a.jpg"}, "answer": ["a"], "bbox": [1.0, 2, 3, 4]}
    file = write(tmp_path / "boxes.parquet", [row])
    code, _, err = maskris("prepare", file, "--out", tmp_path / "t.parquet")
    assert code == 1
    assert "[no mask]" in err
    assert "--incomplete takes the data as they are" in err
    code, out, _ = maskris("prepare", file, "--out", tmp_path / "t.parquet", "--incomplete")
    assert code == 0
    assert "Incomplete: 1 row(s) have no mask (a box is no mask)" in " ".join(out.split())


def test_options_that_do_not_fit(maskris, files, tmp_path):
    code, _, err = maskris("prepare", *files, "--combine", "a", "--out", tmp_path / "t.parquet")
    assert code == 1
    assert "several sources are for a single data set" in err
    code, _, err = maskris("prepare", *files, "--out", files[1])
    assert code == 1
    assert "is read and would be replaced" in err
    (tmp_path / "a.jsonl").touch()
    code, _, err = maskris("prepare", tmp_path / "a.jsonl", "--incomplete", "--out", tmp_path / "t.parquet")
    assert code == 1
    assert "incomplete can't be chosen for the format jsonl" in err
