import pytest

from maskris.data.readers.photo_search import PhotoSearch

PATH = "coco/train2014/COCO_train2014_000000000009.jpg"


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("data/refcoco/train2014/COCO_train2014_000000000009.jpg", "data/refcoco/train2014"),
        ("data/train2014/COCO_train2014_000000000009.jpg", "data/train2014"),
        ("data/refcoco/train2017/000000000009.jpg", "data/refcoco/train2017"),
        ("data/refcoco/COCO_train2014_000000000009.jpg", "data/refcoco"),
        (f"data/refcoco/{PATH}", "data/refcoco"),
    ],
)
def test_photos_beside_the_annotations(tmp_path, place, folder):
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    (tmp_path / "data" / "refcoco").mkdir(exist_ok=True)
    search = PhotoSearch(tmp_path / "data" / "refcoco", None, coco=True)
    found = search.find([PATH], 9)
    assert (search.folder, search.folder / found) == (tmp_path / folder, tmp_path / place)


@pytest.mark.parametrize("images", [".", "coco", "coco/train2014"])
def test_the_folder_that_is_named_may_be_one_above(tmp_path, images):
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).touch()
    search = PhotoSearch(tmp_path / "elsewhere", tmp_path / images, coco=True)
    assert search.find(["nothing.jpg"], None) == "nothing.jpg"
    found = search.find([PATH], 9)
    assert search.folder / found == tmp_path / PATH
    assert search.find(["COCO_train2014_000000000010.jpg"], 10) == "COCO_train2014_000000000010.jpg"


def test_a_path_goes_before_its_last_part(tmp_path):
    for name in ("a.jpg", "train/a.jpg", "val/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    search = PhotoSearch(tmp_path, tmp_path, coco=False)
    assert [search.find([name], None) for name in ("train/a.jpg", "val\\a.jpg", "a.jpg")] == [
        *("train/a.jpg", "val/a.jpg", "a.jpg"),
    ]


def test_what_is_not_there_keeps_the_name_that_it_should_have(tmp_path):
    assert PhotoSearch(tmp_path, None, coco=True).find([PATH], 9) == "COCO_train2014_000000000009.jpg"
    assert PhotoSearch(tmp_path, None, coco=True).folder == tmp_path / "train2014"
    assert PhotoSearch(tmp_path, None, coco=False).find(["photos/b.jpg"], None) == "photos/b.jpg"
    assert PhotoSearch(tmp_path, tmp_path / "photos", coco=False).find(["x/b.jpg"], None) == "b.jpg"
