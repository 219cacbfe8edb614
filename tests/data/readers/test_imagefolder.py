import csv
import json

import numpy as np
import pytest
from hub_world import MASK, photo_bytes, picture_bytes, rle
from PIL import Image

from maskris import ReferringTable, prepare_dataset
from maskris.data import InvalidData, read_annotations, read_imagefolder

ROW = {"file_name": "a.jpg", "mask_file_name": "masks/a.png", "text": "the thing"}


@pytest.fixture
def folder(tmp_path):
    """Photos and masks in folders of two splits, without metadata."""
    for number, split in enumerate(("train", "val")):
        (tmp_path / "mine" / split / "masks").mkdir(parents=True)
        (tmp_path / "mine" / split / "a.jpg").write_bytes(photo_bytes(number))
        mask = MASK if split == "train" else ~MASK
        (tmp_path / "mine" / split / "masks" / "a.png").write_bytes(picture_bytes(mask.astype(np.uint16) * 300))
    return tmp_path / "mine"


def lines(file, *rows):
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_each_split_has_its_metadata(folder):
    lines(folder / "train" / "metadata.jsonl", ROW, ROW | {"text": "again"})
    with (folder / "val" / "metadata.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, [*ROW, "category"])
        writer.writeheader()
        writer.writerow(ROW | {"text": '["one", "two"]', "category": "cup"})
    report = prepare_dataset(folder, folder.parent / "t.parquet", progress=False)
    table = ReferringTable.open(report.out)
    assert (report.dataset, report.notes) == ("mine", [])
    assert [(row.split, row.image, row.expressions, row.ref_id, row.category) for row in table] == [
        ("train", "train/a.jpg", ("the thing",), 0, ""),
        ("train", "train/a.jpg", ("again",), 1, ""),
        ("val", "val/a.jpg", ("one", "two"), 2, "cup"),
    ]
    assert [row.source for row in table] == ["train/metadata.jsonl", "train/metadata.jsonl", "val/metadata.csv"]
    assert np.array_equal(table.mask(0), MASK)
    assert np.array_equal(table.mask(2), ~MASK)
    assert table.image_path(2) == folder / "val" / "a.jpg"


def test_one_file_for_all_splits_and_masks_in_the_line(folder):
    row = {"file_name": "val/a.jpg", "mask": rle(MASK), "sentences": ["a", "b"], "image_id": 4}
    row |= {"mask_source": "pseudo", "mask_origin": "a 01; threshold:0.5"}
    file = lines(folder / "metadata.jsonl", row, row | {"split": "testA"}, row | {"file_name": "train/a.jpg"})
    for source in (folder, file):
        table = read_annotations(source).table()
        assert table.column("split") == ["val", "testA", "train"]
        assert table.row(0).expressions == ("a", "b")
        assert (table.row(0).mask_source, table.row(0).mask_origin) == ("pseudo", "a 01; threshold:0.5")
        assert np.array_equal(table.mask(0), MASK)
    assert read_imagefolder(folder, dataset="other").rows[0]["dataset"] == "other"


def test_problems_name_the_line(folder):
    rows = [
        ROW | {"mask_file_name": "masks/b.png"},
        {"file_name": "a.jpg", "label": 3, "mask_file_name": "masks/a.png"},
        {"text": "x"},
        ROW | {"file_name": "c.jpg"},
    ]
    file = lines(folder / "train" / "metadata.jsonl", *rows)
    file.write_text(file.read_text() + '\n[1]\n{"file_name"\n')
    with pytest.raises(InvalidData) as caught:
        read_annotations(folder).table()
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert found["line 1"].startswith("there is no mask, only the path masks/b.png where no file is")
    assert "no expressions (sentences, " in found["line 2"]
    assert found["line 2"].endswith("the keys are file_name, label, mask_file_name")
    assert found["line 3"] == "there is no file_name; the keys are text"
    assert found["line 4"].endswith("c.jpg does not exist")
    assert found["line 5"] == "expected an object {...}, not [1]"
    assert found["line 6"].startswith("no valid JSON")


def test_csv_with_a_long_mask_too_many_fields_or_another_encoding(folder):
    file = folder / "train" / "metadata.csv"
    mask = json.dumps(MASK.astype(int).tolist(), indent=40)  # longer than the fields that csv takes by itself
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([["file_name", "text", "mask"], ["a.jpg", "the mug", mask]])
    assert len(mask) > 131_072
    assert np.array_equal(read_annotations(folder).table().mask(0), MASK)
    file.write_text("file_name,mask_file_name,text\na.jpg,masks/a.png,the mug, left\n")
    with pytest.raises(InvalidData, match=r"line 2: the line has more fields than the first.*:  left"):
        read_annotations(folder).table()
    file.write_bytes(b"file_name,text\na.jpg,m\xfcg\n")
    with pytest.raises(ValueError, match=r"metadata\.csv is not UTF-8 .*; save it as UTF-8"):
        read_annotations(folder)


def test_photos_without_masks_are_for_prediction(folder):
    lines(folder / "val" / "metadata.jsonl", {"file_name": "a.jpg", "text": "x", "bbox": [1, 2, 3, 4]})
    with pytest.raises(InvalidData, match=r"have no mask \(a box is no mask\)"):
        read_annotations(folder).table()
    row = read_annotations(folder, incomplete=True).table().row(0)
    assert (row.mask_source, row.height, row.width) == ("none", 48, 64)


def test_a_folder_without_metadata_is_none(folder):
    with pytest.raises(ValueError, match="fits no format"):
        read_annotations(folder)
    with pytest.raises(FileNotFoundError, match=r"no metadata\.jsonl"):
        read_imagefolder(folder)


def test_the_real_library_sees_the_same(folder):
    datasets = pytest.importorskip("datasets")
    for split in ("train", "val"):
        lines(folder / split / "metadata.jsonl", ROW | {"text": f"in {split}"})
    seen = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(folder.parent / "cache"))
    table = read_annotations(folder).table()
    assert len(table) == 2
    for row, (index, split) in zip(table, enumerate(("train", "validation")), strict=True):
        (example,) = seen[split]
        assert (row.expressions, row.split) == ((example["text"],), {"validation": "val"}.get(split, split))
        assert np.array_equal(table.mask(index), np.asarray(example["mask"]) != 0)
        assert np.array_equal(np.asarray(Image.open(table.image_path(index))), np.asarray(example["image"]))
