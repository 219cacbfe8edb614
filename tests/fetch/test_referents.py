import json
import pickle

import pytest
from fetch_world import annotations, photo_name

from maskris.data.published_counts import Counts
from maskris.fetch.referents import differences, photos_of_annotations, read_splits


@pytest.fixture
def folder(tmp_path):
    for name, content in annotations().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_counts_are_those_of_the_file(folder):
    assert read_splits(folder / "refs(unc).p")["train"] == (Counts(2, 2, 4), {0, 1})
    refs = pickle.loads((folder / "refs(unc).p").read_bytes())
    refs.append(refs[0] | {"ref_id": 99})  # of the same photo
    (folder / "grefs(unc).json").write_text(json.dumps(refs))
    assert read_splits(folder / "grefs(unc).json")["train"].counts == Counts(2, 3, 6)


def test_differences_name_split_and_both_numbers():
    published = {"train": Counts(9, 2, 4), "val": Counts(1, 1, None), "test": Counts(1, 7, 8)}
    assert differences({"train": Counts(2, 2, 5), "val": Counts(1, 1, 3)}, published) == [
        "train has 5 expressions instead of 4",
        "test has 0 referents instead of 7",
        "test has 0 expressions instead of 8",
    ]


def test_photos_have_names_and_sizes(folder):
    assert photos_of_annotations(folder / "instances.json", [2, 2]) == {(photo_name(2), 24, 32)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file_name": "../x.jpg"}, r"instances\.json: the photo '\.\./x\.jpg' would lie outside"),
        ({"file_name": "/x.jpg"}, "would lie outside"),
        ({"file_name": None}, "a photo lacks its name or size"),
        ({"height": "24"}, "a photo lacks its name or size"),
        ({"id": 77}, "a photo lacks its name or size"),
    ],
)
def test_a_photo_without_a_place_is_named(folder, change, reason):
    coco = json.loads((folder / "instances.json").read_text())
    coco["images"][0] |= change
    (folder / "instances.json").write_text(json.dumps(coco))
    with pytest.raises(ValueError, match=reason):
        photos_of_annotations(folder / "instances.json", [0])
