import base64
import io
import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_world import MASK, PICTURE, as_jxu124, photo_bytes, picture_bytes, rle, write, write_jxu124
from PIL import Image, ImageOps

from maskris import ReferringTable, prepare_dataset
from maskris.data import InvalidData, published_counts, read_annotations, read_refer
from maskris.data.published_counts import Counts
from maskris.data.readers.hub_parquet import _records, read_hub_parquet
from maskris.data.readers.photos import PhotoFolder

PHOTO = {"bytes": photo_bytes(), "path": "a.jpg"}
SOURCE_COLUMNS = ("source", "source_sha256")
SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]
TRIANGLE = [[20.5, 3, 38, 9.9, 22.1, 28]]


def rows_by_id(table):
    rows = [{key: value for key, value in row.items() if key not in SOURCE_COLUMNS} for row in table.to_pylist()]
    return sorted(rows, key=lambda row: row["ref_id"])


def refer_folder(root, name, splits):
    """A data set in REFER's layout with polygons, several parts, and run lengths of both kinds."""
    counted = [400, 30, 770]
    segmentations = [SQUARE, SQUARE + TRIANGLE, {"size": [30, 40], "counts": counted}, rle(MASK[:30, :40])]
    images = [
        {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": 30, "width": 40} for i in range(len(splits))
    ]
    annotations = [
        {"id": 50 + i, "image_id": i, "category_id": (1, 18, 90)[i % 3], "segmentation": segmentations[i % 4]}
        for i in range(len(splits))
    ]
    sentences = [{"sent": "the box", "raw": "The BOX!"}, {"sent": "left thing", "raw": "left thing."}]
    refs = [
        {"ref_id": 7 + i, "ann_id": 50 + i, "image_id": i, "split": split, "sentences": sentences[: 1 + i % 2]}
        for i, split in enumerate(splits)
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]
    folder = root / name
    folder.mkdir(parents=True)
    by = "umd" if name == "refcocog" else "unc"
    (folder / f"refs({by}).p").write_bytes(pickle.dumps(refs, 2))
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / f"refs({by}).p"


@pytest.mark.parametrize(
    ("name", "copy", "splits"),
    [
        ("refcoco", "refcoco", ["train", "train", "val", "testA", "testB"]),
        ("refcoco+", "refcocoplus", ["train", "testA", "val", "train", "testB"]),
        ("refcocog", "refcocog", ["train", "val", "test", "test"]),
    ],
)
@pytest.mark.parametrize("text", ["sent", "raw"])
def test_the_published_copies_equal_the_pickles(tmp_path, name, copy, splits, text):
    pickle_file = refer_folder(tmp_path / "original", name, splits)
    expected = read_refer(tmp_path / "original", text=text).table()
    hub = tmp_path / f"datasets--jxu124--{copy}" / "snapshots" / "991dfe9"
    write_jxu124(hub, as_jxu124(pickle_file.parent, pickle_file.name))
    result = read_annotations(hub, text=text, incomplete=True)
    assert rows_by_id(result.table()) == rows_by_id(expected)
    assert {row["source"] for row in result.rows} == {f"data/{file.name}" for file in hub.joinpath("data").iterdir()}
    assert result.images_root == hub / "train2014"


def test_real_annotations_equal_the_pickles(shared, tmp_path):
    mini = shared / "data" / "refcoco_mini"
    expected = read_refer(mini, "refcoco", "unc").table()
    hub = write_jxu124(tmp_path / "refcoco", as_jxu124(mini / "refcoco", "refs(unc).p"))
    result = read_annotations(hub, images=mini, incomplete=True)
    assert result.images_root == mini / "train2014"
    assert rows_by_id(result.table()) == rows_by_id(expected)


def test_fewer_referents_or_expressions_than_published_are_refused(tmp_path, monkeypatch):
    pickle_file = refer_folder(tmp_path / "original", "refcoco", ["val", "testA", "testA"])
    rows = as_jxu124(pickle_file.parent, pickle_file.name)
    hub = write_jxu124(tmp_path / "refcoco", rows)
    message = r"testA has 2 referents with 3 expressions; refcoco unc has 1,975 with 5,657"
    with pytest.raises(InvalidData, match=message):
        read_annotations(hub).table()
    known = {"val": Counts(1, 1, 1), "testA": Counts(2, 2, 3), "train": Counts(9, 9, 9)}
    monkeypatch.setitem(published_counts.PUBLISHED, ("refcoco", "unc"), known)
    assert read_annotations(hub).table().column("split") == ["testA", "testA", "val"]
    rows = [row | ({"split": "test"} if row["split"] == "testA" else {}) for row in rows]
    result = read_annotations(write_jxu124(tmp_path / "refcoco", rows))
    assert result.table().column("split") == ["testA", "testA", "val"]
    assert result.notes[-1] == 'What the file calls "test" is testA.'
    rows[1]["sentences"] = rows[1]["sentences"][:1]
    write_jxu124(tmp_path / "refcoco", rows)
    with pytest.raises(InvalidData, match="unlike the published data"):
        read_annotations(hub).table(skip_invalid=True)
    assert "Incomplete: testA has 2 referents with 2 expressions" in str(read_annotations(hub, incomplete=True).notes)
    assert read_annotations(tmp_path / "refcoco", dataset="mine").table().row(0).dataset == "mine"


def test_photos_and_masks_of_refcoco_m(tmp_path):
    data = photo_bytes()
    sample = {"id": 1, "image_id": 9, "category": "cup", "supercategory": "kitchen", "label": "cup"}
    sample |= {"bbox": [20.0, 10.0, 30.0, 20.0], "mask": rle(MASK)}
    samples = [sample | {"sentences": ["the red mug", "mug"]}, sample | {"id": 2, "sentences": ["cup"]}]
    row = {"image": {"bytes": data, "path": "a.jpg"}, "image_id": 9, "file_name": "COCO_train2014_000000000009.jpg"}
    file = write(tmp_path / "refcoco-m" / "data" / "validation-00000-of-00001.parquet", [row | {"samples": samples}])
    report = prepare_dataset(file.parents[1], tmp_path / "m.parquet", progress=False)
    assert report.counts == {"val": Counts(1, 2, 3)}
    assert report.notes[-1] == f"Photos out of the file: {tmp_path / 'm-images'} (1 new)."
    table = ReferringTable.open(tmp_path / "m.parquet")
    first, second = table
    assert (first.dataset, first.split_by, first.category, first.ann_ids, first.ref_id) == (
        "refcoco-m",
        "",
        "cup",
        (1,),
        0,
    )
    assert (first.expressions, second.expressions, second.ann_id) == (("the red mug", "mug"), ("cup",), 2)
    assert table.image_path(0) == tmp_path / "m-images" / "COCO_train2014_000000000009.jpg"
    assert table.image_path(0).read_bytes() == data
    assert np.array_equal(table.mask(0), MASK)
    once = table.image_path(0).stat().st_mtime_ns
    again = prepare_dataset(file.parents[1], tmp_path / "m.parquet", progress=False)
    assert again.notes[-1].endswith("(0 new).")
    assert table.image_path(0).stat().st_mtime_ns == once
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m-images", "m.parquet", "refcoco-m"]


def lmms_row(**changes):
    picture = {"bytes": photo_bytes(), "path": "COCO_train2014_000000000011.jpg"}
    row = {"question_id": "17", "image": picture, "question": "Describe it.", "answer": ["blue square", "square"]}
    row |= {"segmentation": [20.0, 10.0, 50.0, 10.0, 50.0, 30.0, 20.0, 30.0], "bbox": [20.0, 10.0, 30.0, 20.0]}
    return row | {"iscrowd": 0, "file_name": "COCO_train2014_000000000011_17.jpg"} | changes


def test_one_polygon_per_mask_is_refused_unless_asked_for(tmp_path):
    folder = tmp_path / "RefCOCO" / "data"
    for split in ("val", "test", "testA"):
        write(folder / f"{split}-00000-of-00001.parquet", [lmms_row()])
    with pytest.raises(InvalidData) as caught:
        prepare_dataset(tmp_path / "RefCOCO", tmp_path / "t.parquet", progress=False)
    found = {problem.kind: problem for problem in caught.value.problems}
    assert found.keys() == {"one polygon only", "unlike the published data"}
    assert "each of 3 masks is a single polygon" in str(found["one polygon only"])
    assert "test has 1 referents with 2 expressions; refcoco unc has no such split" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["RefCOCO"]  # no photo is left
    report = prepare_dataset(tmp_path / "RefCOCO", tmp_path / "t.parquet", incomplete=True, progress=False)
    assert report.notes[0] == "Columns without a meaning here: iscrowd, question."
    assert "Incomplete: each of 3 masks is a single polygon" in "".join(report.notes)
    table = ReferringTable.open(report.out)
    row = table.row(0)
    assert (row.dataset, row.split_by, row.ann_ids, row.expressions) == (
        "RefCOCO",
        "",
        (17,),
        ("blue square", "square"),
    )
    assert row.image == "COCO_train2014_000000000011.jpg"
    assert (row.box, row.area) == ((20, 10, 30, 20), 600)
    assert set(table.splits) == {"val", "test", "testA"}


def test_one_expression_per_referent_of_a_published_split_is_refused(tmp_path):
    rows = [
        {
            "image": {"bytes": photo_bytes(), "path": None},
            "text": f"the cup {n}",
            "mask": MASK.tolist(),
            "image_id": "9",
            "ann_id": str(n),
            "img_height": 48,
            "img_width": 64,
            "bbox": [1, 2, 3, 4],
        }
        for n in range(2)
    ]
    file = write(tmp_path / "refcoco_testA" / "data" / "test-00000-of-00001.parquet", rows)
    message = r"testA has 2 referents with 2 expressions; refcoco unc has 1,975 with 5,657"
    with pytest.raises(InvalidData, match=message):
        read_annotations(file, photos=tmp_path / "photos").table()
    table = read_annotations(file, photos=tmp_path / "photos", incomplete=True).table()
    assert [(row.split, row.image_id, row.ann_id) for row in table] == [("testA", 9, 0), ("testA", 9, 1)]
    assert all(np.array_equal(table.mask(i), MASK) for i in range(2))
    assert len(list((tmp_path / "photos").iterdir())) == 1


def test_boxes_are_no_masks(tmp_path):
    row = lmms_row()
    del row["segmentation"]
    file = write(tmp_path / "mine.parquet", [row])
    with pytest.raises(InvalidData, match=r"1 row\(s\) have no mask \(a box is no mask\).*--incomplete takes the data"):
        read_annotations(file, photos=tmp_path / "photos").table()
    table = read_annotations(file, photos=tmp_path / "photos", incomplete=True).table()
    assert (table.row(0).mask_source, table.row(0).area, table.size(0)) == ("none", 0, (48, 64))


def test_columns_that_say_nothing_are_named(tmp_path):
    file = write(tmp_path / "mine.parquet", [{"picture": b"", "problem": "x", "solution": "y"}])
    message = r"mine\.parquet: there is no column for expressions\. The columns are picture, problem, solution; known"
    with pytest.raises(ValueError, match=message):
        read_annotations(file)


def one(tmp_path, mask=None, kind=None, **changes):
    """A file with one row and the table that it gives."""
    row = {"image": {"bytes": photo_bytes(), "path": "a.jpg"}, "mask": rle(MASK) if mask is None else mask, "text": "x"}
    schema = None
    if kind is not None:
        schema = pa.schema([("image", PICTURE), ("mask", kind), ("text", pa.string())])
    file = write(tmp_path / "kitchen" / "data" / "train-00000-of-00001.parquet", [row | changes], schema)
    return read_hub_parquet(file, photos=tmp_path / "photos").table()


def turned(mask, orientation):
    """A mask as PIL turns a photo with this orientation."""
    picture = Image.fromarray(mask)
    picture.getexif()[0x112] = orientation
    return np.asarray(ImageOps.exif_transpose(picture))


COLUMN_TYPES = {
    "picture": (PICTURE, {"bytes": picture_bytes(MASK.astype(np.int32) * 300, "TIFF"), "path": None}),
    "bytes": (pa.binary(), picture_bytes(MASK)),
    "rows of bool": (pa.list_(pa.list_(pa.bool_())), MASK.tolist()),
    "rows of uint8": (pa.list_(pa.list_(pa.uint8())), MASK.astype(int).tolist()),
    "fixed rows": (pa.list_(pa.list_(pa.int64(), 64), 48), MASK.astype(int).tolist()),
    "large rows": (pa.large_list(pa.large_list(pa.int32())), (MASK * 255).tolist()),
    "text": (pa.string(), json.dumps({"segmentation": rle(MASK)})),
    "polygons": (
        pa.list_(pa.list_(pa.float64())),
        [[20.0, 10, 50, 10, 50, 30, 20, 30], [3.0, 40, 9, 40, 9, 44, 3, 44]],
    ),
    "run lengths": (pa.struct([("size", pa.list_(pa.int64())), ("counts", pa.binary())]), None),
}


@pytest.mark.parametrize("form", COLUMN_TYPES)
def test_columns_of_every_type_hold_the_same_mask(tmp_path, form):
    kind, value = COLUMN_TYPES[form]
    value = {"size": [48, 64], "counts": rle(MASK)["counts"].encode()} if value is None else value
    table = one(tmp_path, value, kind)
    assert np.array_equal(table.mask(0), MASK)
    assert (table.row(0).dataset, table.row(0).split, table.row(0).image_id) == ("kitchen", "train", 0)


@pytest.mark.parametrize("orientation", [3, 6, 7])
@pytest.mark.parametrize("make", [rle, picture_bytes, lambda mask: mask.tolist()], ids=["rle", "picture", "rows"])
def test_masks_of_turned_photos_are_those_of_the_upright_photo(tmp_path, orientation, make):
    photo = {"bytes": photo_bytes(orientation=orientation), "path": "a.jpg"}
    upright = turned(MASK, orientation)
    seen = one(tmp_path, make(upright), image=photo)
    with Image.open(seen.image_path(0)) as written, Image.open(io.BytesIO(photo["bytes"])) as stored:
        assert np.array_equal(np.asarray(written), np.asarray(ImageOps.exif_transpose(stored)))
    assert np.array_equal(seen.mask(0), upright)
    if orientation >= 5:  # made by somebody who saw the photo lying
        lying = one(tmp_path, make(MASK), image=photo)
        assert np.array_equal(lying.mask(0), upright)


def test_polygons_of_a_turned_photo_follow_the_size_that_is_stated(tmp_path):
    photo = {"bytes": photo_bytes(orientation=6), "path": "a.jpg"}
    polygons = COLUMN_TYPES["polygons"][1]
    lying = one(tmp_path, polygons, image=photo, height=48, width=64)
    assert np.array_equal(lying.mask(0), turned(MASK, 6))
    corner = [[0.0, 50, 9, 50, 9, 64, 0, 64]]  # outside of the photo as it is stored
    for size in ({}, {"height": 64, "width": 48}):
        assert one(tmp_path, corner, image=photo, **size).row(0).box == (0, 50, 9, 14)


def test_photos_and_masks_that_are_only_paths_elsewhere(tmp_path):
    photo, mask = {"bytes": None, "path": "/home/x/a.jpg"}, {"bytes": None, "path": "/home/x/mask.png"}
    with pytest.raises(InvalidData) as caught:
        one(tmp_path, mask, PICTURE, image=photo)
    assert {problem.kind for problem in caught.value.problems} == {"missing image", "damaged mask"}
    message = str(caught.value)
    assert "holds no photo, only the path /home/x/a.jpg; name its folder with --images, or embed it" in message
    assert "only the path /home/x/mask.png where no file is; embed it: `dataset.push_to_hub" in message
    folder = tmp_path / "kitchen" / "data"
    (folder / "mask.png").write_bytes(picture_bytes(MASK))
    (folder / "a.jpg").write_bytes(photo_bytes())
    relative = one(tmp_path, {"bytes": None, "path": "mask.png"}, PICTURE, image={"bytes": None, "path": "a.jpg"})
    assert relative.image_path(0) == folder / "a.jpg"
    assert np.array_equal(relative.mask(0), MASK)
    absolute = one(tmp_path, {"bytes": None, "path": str(folder / "mask.png")}, PICTURE, image=photo)
    assert (absolute.image_path(0), absolute.size(0)) == (folder / "a.jpg", (48, 64))


def test_photos_of_the_file_stay_there_if_a_folder_is_named(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "COCO_train2014_000000000011.jpg")
    file = write(tmp_path / "x.parquet", [lmms_row()])
    result = read_annotations(file, images=tmp_path, photos=tmp_path / "photos", incomplete=True)
    assert (result.images_root, result.rows[0]["image"]) == (tmp_path, "COCO_train2014_000000000011.jpg")
    assert not (tmp_path / "photos").exists()
    with pytest.raises(ValueError, match="holds photos; say where they are to be written"):
        read_hub_parquet(file)


def test_splits_come_from_a_column_or_the_name(tmp_path):
    base = {"image": {"bytes": photo_bytes(), "path": "a.jpg"}, "mask": rle(MASK), "text": "x"}
    rows = [base | {"split": name} for name in ("validation", "testA", "train")]
    file = write(tmp_path / "kitchen" / "test.parquet", rows)
    table = read_annotations(file, photos=tmp_path / "photos").table()
    assert table.column("split") == ["val", "testA", "train"]
    names = {"names": ["training", "dev"], "_type": "ClassLabel"}
    write(file, [base | {"split": n} for n in (1, 0, None)], metadata={"info": {"features": {"split": names}}})
    assert read_annotations(file, photos=tmp_path / "photos").table().column("split") == ["val", "train", "test"]
    write(file, [base | {"split": "trian"}])
    with pytest.raises(InvalidData, match="the split is 'trian'"):
        read_annotations(file, photos=tmp_path / "photos").table()


def test_sentences_in_every_form(tmp_path):
    twice = [{"sent": "a b", "raw": "A, b"}, {"sent": "c", "raw": "C!"}]
    for key, value, expected in (
        ("sentences", ["a", "b"], ("a", "b")),
        ("caption", "a", ("a",)),
        ("expressions", '["a", "b"]', ("a", "b")),
        ("text", "[a photo] of b", ("[a photo] of b",)),
        ("sentences", twice, ("a b", "c")),
        ("sentences", {"sent": ["a b", "c"], "raw": ["A, b", "C!"]}, ("a b", "c")),
    ):
        row = {"image": {"bytes": photo_bytes(), "path": "a.jpg"}, "mask": rle(MASK), key: value}
        file = write(tmp_path / "x.parquet", [row])
        table = read_annotations(file, photos=tmp_path / "photos").table()
        assert table.expressions(0) == expected
        assert table.row(0).text == ("sent" if "c" in expected else "")
    raw = read_annotations(file, photos=tmp_path / "photos", text="raw").table()
    assert (raw.expressions(0), raw.row(0).text) == (("A, b", "C!"), "raw")


def test_generations_of_a_file_are_not_taken_twice(tmp_path):
    pickle_file = refer_folder(tmp_path / "original", "refcoco", ["testA", "testA", "val"])
    hub = write_jxu124(tmp_path / "refcoco", as_jxu124(pickle_file.parent, pickle_file.name))
    new = hub / "data" / "test-00000-of-00001-94431d5f4bd5b93f.parquet"
    old = hub / "data" / "test-00000-of-00001-0026a9046a1edcf9.parquet"
    pq.write_table(pq.read_table(new).drop_columns("captions"), old, compression="none")
    result = read_annotations(hub, incomplete=True)
    assert len(result.rows) == 3
    assert any(
        note == f"Not read, because another generation of the file has the same rows: {new}." for note in result.notes
    )
    pq.write_table(pq.read_table(new).slice(1), old)
    message = r"different generations of one file: .*0026a9046a1edcf9\.parquet \(1 rows\), .*b93f\.parquet \(2 rows\)"
    with pytest.raises(ValueError, match=message):
        read_annotations(hub, incomplete=True)
    files = [new, hub / "data" / "validation-00000-of-00001-94431d5f4bd5b93f.parquet"]
    several = read_annotations(files, incomplete=True)
    assert [row["split"] for row in several.rows] == ["testA", "testA", "val"]
    assert several.rows[0]["dataset"] == "refcoco"
    with pytest.raises(ValueError, match=r"can't be read together with"):
        read_annotations([new, tmp_path / "original"])


def test_a_file_that_its_name_promises_is_missed(tmp_path):
    file = write(tmp_path / "mine" / "train-00000-of-00002.parquet", [lmms_row(segmentation=[[1.0, 1, 9, 1, 9, 9]])])
    with pytest.raises(InvalidData, match=r"promise more: .*train-00001-of-00002\*\.parquet"):
        read_annotations(file, photos=tmp_path / "photos").table()
    assert len(read_annotations(file, photos=tmp_path / "photos", incomplete=True).table()) == 1


def test_what_cannot_be_read(tmp_path):
    file = tmp_path / "a.parquet"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    with pytest.raises(ValueError, match="is a pointer of Git LFS"):
        read_annotations(file)
    file.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ValueError, match=r"a\.parquet is damaged or no Parquet file"):
        read_annotations(file)
    one(tmp_path).save(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet is a prepared table already"):
        read_annotations(tmp_path / "b.parquet")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="holds no Parquet files to be prepared"):
        read_annotations(tmp_path, format="hub")


def test_a_table_that_was_prepared_into_the_folder_is_passed_over(tmp_path):
    file = write(tmp_path / "mine" / "train.parquet", [{"image": PHOTO, "mask": rle(MASK), "text": "x"}])
    for _ in range(2):
        report = prepare_dataset(file.parent, file.parent / "mine.parquet", progress=False)
        assert report.counts == {"train": Counts(1, 1, 1)}


def test_rows_with_problems_are_left_out_with_their_photos(tmp_path):
    good, other = photo_bytes(1), photo_bytes(2)
    rows = [
        {"image": {"bytes": good, "path": "a.jpg"}, "mask": json.dumps(rle(MASK)), "text": "x"},
        {"image": {"bytes": other, "path": "b.jpg"}, "mask": json.dumps(rle(MASK[:9])), "text": "x"},
        {"image": {"bytes": b"no photo", "path": "c.jpg"}, "mask": json.dumps(rle(MASK)), "text": "x"},
        {"image": {"bytes": good, "path": "a.jpg"}, "mask": None, "text": ""},
        {"image": None, "mask": "{", "text": "x"},
    ]
    file = write(tmp_path / "mine.parquet", rows)
    with pytest.raises(InvalidData) as caught:
        prepare_dataset(file, tmp_path / "t.parquet", progress=False)
    assert {(problem.where, problem.kind) for problem in caught.value.problems} == {
        ("row 1", "size mismatch"),
        ("row 2", "undecodable image"),
        ("row 3", "empty mask"),
        ("row 3", "empty expressions"),
        ("row 4", "missing image"),
        ("row 4", "damaged mask"),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["mine.parquet"]
    report = prepare_dataset(file, tmp_path / "t.parquet", skip_invalid=True, progress=False)
    assert report.num_rejected == 4
    (photo,) = (tmp_path / "t-images").iterdir()
    assert photo.read_bytes() == good
    shutil.rmtree(tmp_path / "t-images")
    prepare_dataset(file, tmp_path / "u.parquet", skip_invalid=True, progress=False)
    first, second = (ReferringTable.open(tmp_path / name).to_pylist() for name in ("t.parquet", "u.parquet"))
    assert first == second


def test_a_folder_in_refers_layout_with_prepared_tables_in_it_stays_one(tmp_path):
    pickle_file = refer_folder(tmp_path / "data", "refcoco", ["val"])
    read_refer(tmp_path / "data").table().save(tmp_path / "data" / "refcoco.parquet")
    for source, dataset in ((tmp_path / "data", None), (tmp_path / "data", "refcoco"), (pickle_file.parent, None)):
        assert read_annotations(source, dataset=dataset).rows[0]["source"] == "refcoco/refs(unc).p"
    with pytest.raises(FileNotFoundError, match="data sets in it: refcoco"):
        read_annotations(tmp_path / "data", dataset="refcocox")
    hub = write_jxu124(tmp_path / "copy", as_jxu124(pickle_file.parent, pickle_file.name))
    assert "name with --dataset refcoco" in str(read_annotations(hub).notes)
    named = read_annotations(hub, dataset="refcoco", incomplete=True)
    assert (named.rows[0]["dataset"], named.rows[0]["split_by"]) == ("refcoco", "unc")


def test_files_of_the_real_library(tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "turned.jpg").write_bytes(photo_bytes(orientation=6))
    upright = np.ascontiguousarray(np.rot90(MASK, -1))
    pictures = [
        Image.fromarray(upright.astype(np.uint8) * 255),
        Image.fromarray(upright.astype(np.int32) * 300),
        Image.fromarray(upright),
        Image.fromarray(upright.astype(np.float32)),
    ]
    features = {"image": datasets.Image(), "mask": datasets.Image(), "text": datasets.Value("string")}
    columns = {"image": [str(tmp_path / "turned.jpg")] * 4, "mask": pictures, "text": list("abcd")}
    data = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    data.to_parquet(tmp_path / "paths.parquet")
    table = read_annotations(tmp_path / "paths.parquet", photos=tmp_path / "photos")
    assert table.rows[0]["image"] == str(tmp_path / "turned.jpg")  # not embedded, but here
    embedded = data.with_format("arrow").map(datasets.table.embed_table_storage, batched=True).with_format(None)
    embedded.to_parquet(tmp_path / "mine.parquet")
    table = read_annotations(tmp_path / "mine.parquet", photos=tmp_path / "photos").table()
    seen = np.asarray(data[0]["image"])
    assert all(np.array_equal(np.asarray(Image.open(table.image_path(i))), seen) for i in range(4))
    assert all(np.array_equal(table.mask(i), upright) for i in range(4))

    array = datasets.Features(
        {"image": datasets.Image(), "mask": datasets.Array2D((64, 48), "uint8")} | {"text": features["text"]}
    )
    columns |= {"mask": [upright.astype(np.uint8)] * 4}
    data = datasets.Dataset.from_dict(columns, features=array)
    embedded = data.with_format("arrow").map(datasets.table.embed_table_storage, batched=True).with_format(None)
    embedded.to_parquet(tmp_path / "array.parquet")
    table = read_annotations(tmp_path / "array.parquet", photos=tmp_path / "photos").table()
    assert np.array_equal(table.mask(3), upright)

    lines = [rle(upright), [[2, 3, 20, 3, 20, 30, 2, 30]], {"size": [64, 48], "counts": [64 * 48 - 5, 5]}]
    text = "\n".join(json.dumps({"image": "turned.jpg", "mask": mask, "text": "x"}) for mask in lines)
    (tmp_path / "mixed.jsonl").write_text(text)
    mixed = datasets.load_dataset(
        "json", data_files=str(tmp_path / "mixed.jsonl"), split="train", cache_dir=tmp_path / "c"
    )
    mixed.to_parquet(tmp_path / "mixed.parquet")
    rows = read_annotations(tmp_path / "mixed.parquet", photos=tmp_path / "photos").rows
    assert [row["image"] for row in rows] == ["turned.jpg"] * 3  # a photo of the folder, which stays as it is stored


def test_photos_pass_through_memory_a_few_at_a_time(tmp_path):
    noise = np.random.default_rng(0)
    rows = [
        {"image": {"bytes": photo_bytes() + noise.bytes(200_000), "path": "a.jpg"}, "text": "x", "mask": None}
        for _ in range(160)
    ]
    file = write(tmp_path / "mine.parquet", rows)
    pq.write_table(pq.read_table(file), file, row_group_size=10)  # `datasets` writes small groups of photos, too
    size, before = file.stat().st_size, pa.total_allocated_bytes()
    assert size > 30_000_000
    held = [pa.total_allocated_bytes() - before for _ in _records(file)]
    assert len(held) == 160
    assert max(held) < size / 2


def test_expressions_without_a_target_and_photos_without_objects(tmp_path):
    one = {"text": "the whale", "no_target": True, "mask": None}
    samples = [one, one | {"mask": rle(MASK & False)}, one | {"mask": rle(MASK)}]
    file = write(tmp_path / "mine.parquet", [{"image": PHOTO, "samples": samples}, {"image": PHOTO, "samples": []}])
    result = read_annotations(file, photos=tmp_path / "photos")
    assert "1 photo(s) have an empty list of objects, and give no row." in result.notes
    assert [(problem.where, problem.message) for problem in result.problems] == [
        ("row 0, object 2", "no_target is true, but there is a mask"),
    ]
    table = result.table(skip_invalid=True)
    assert [(row.ann_ids, row.area, row.mask_source) for row in table] == [((), 0, "annotated")] * 2
    row = {"image": PHOTO, "text": "x", "mask": rle(MASK), "objects": [{"bbox": [1, 2, 3, 4]}] * 2}
    boxes = write(tmp_path / "boxes.parquet", [row])
    assert len(read_annotations(boxes, photos=tmp_path / "photos").table()) == 1  # what is listed has no expressions


def test_photos_as_base64(tmp_path):
    text = base64.b64encode(photo_bytes()).decode()
    assert text.startswith("/9j/")
    file = write(tmp_path / "mine.parquet", [{"image": text, "mask": json.dumps(rle(MASK)), "text": "x"}])
    table = read_annotations(file, photos=tmp_path / "photos").table()
    assert table.image_path(0).read_bytes() == photo_bytes()


def test_files_of_several_folders(tmp_path, monkeypatch):
    row = {"mask": rle(MASK), "text": "x"}
    for name, seed in (("a/train.parquet", 1), ("b/val.parquet", 2)):
        write(tmp_path / name, [row | {"image": {"bytes": photo_bytes(seed), "path": "a.jpg"}}])
    monkeypatch.chdir(tmp_path / "a")
    rows = read_annotations(["train.parquet", tmp_path / "b" / "val.parquet"], photos="photos").rows
    assert [(one["source"], one["split"]) for one in rows] == [("a/train.parquet", "train"), ("b/val.parquet", "val")]


def test_what_ends_in_the_middle_leaves_no_photos(tmp_path, monkeypatch):
    rows = [{"image": {"bytes": photo_bytes(n), "path": "a.jpg"}, "mask": rle(MASK), "text": "x"} for n in range(2)]
    file = write(tmp_path / "mine.parquet", rows)
    add = PhotoFolder.add

    def add_until_full(self, data, names):
        if self.written:
            raise OSError(28, "No space left on device")
        return add(self, data, names)

    monkeypatch.setattr(PhotoFolder, "add", add_until_full)
    with pytest.raises(OSError, match="No space left"):
        prepare_dataset(file, tmp_path / "t.parquet", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.parquet"]
