from pathlib import Path

import pytest

from maskris.data.readers.hub_files import (
    family_of,
    generations,
    label_of,
    metadata_files,
    missing_shards,
    parquet_files,
    split_of,
)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/validation-00000-of-00001-db1f654b.parquet", "val"),
        ("data/testB-00000-of-00001.parquet", "testB"),
        ("data/refcoco_unc_testA-00003-of-00004.parquet", "testA"),
        ("root/default/train/0000.parquet", "train"),
        ("root/dev/a.jpg", "val"),
        ("root/latest/contest.parquet", None),
    ],
)
def test_splits_are_words_of_names(name, split):
    assert split_of(Path(name)) == split
    assert split_of(Path("val", name), Path("val")) == split  # the folder that was named says nothing


@pytest.mark.parametrize(
    ("path", "label", "family"),
    [
        ("hub/datasets--jxu124--refcocoplus/snapshots/991dfe9/data", "refcocoplus", ("refcoco+", "unc")),
        ("RefCOCO/data/val-00000-of-00004.parquet", "RefCOCO", ("refcoco", "unc")),
        ("refcoco_testA/test-00000-of-00001.parquet", "refcoco_testA", ("refcoco", "unc")),
        ("refcoco-m/data", "refcoco-m", ("refcoco-m", "")),
        ("x/refcocog", "refcocog", ("refcocog", "umd")),
        ("x/refcoco+/", "refcoco+", ("refcoco+", "unc")),
        ("photos/kitchen.parquet", "kitchen", None),
        ("refcocom/train.parquet", "refcocom", None),
        ("notes.v2/", "notes.v2", None),
    ],
)
def test_a_data_set_is_known_by_the_nearest_telling_name(path, label, family):
    assert label_of(Path(path)) == label
    assert family_of(label) == family


def test_shards_and_generations(tmp_path):
    one = tmp_path / "val-00000-of-00003.parquet"
    two = tmp_path / "val-00002-of-00003.parquet"
    assert missing_shards([one, two]) == [f"{tmp_path}/val-00001-of-00003*.parquet"]
    old, new = (tmp_path / f"test-00000-of-00001-{end}.parquet" for end in ("0026a9046a1edcf9", "82af0c1b600890ac"))
    assert generations([one, old, two, new]) == [[old, new]]
    assert missing_shards([old, new, tmp_path / "mine.parquet"]) == []


def test_layouts_of_folders(tmp_path):
    files = ["a.parquet", "data/b.parquet", "default/train/0000.parquet", "photos/c.parquet", "train/metadata.csv"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert [file.relative_to(tmp_path).as_posix() for file in parquet_files(tmp_path)] == files[:3]
    assert metadata_files(tmp_path) == [tmp_path / "train" / "metadata.csv"]
    assert parquet_files(tmp_path / "a.parquet") == []
