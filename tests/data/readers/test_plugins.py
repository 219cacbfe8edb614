"""Readers of one's own: by a dotted path, by a registered name, by the option of the command, and by detection."""

import json
import sys

import pytest
from PIL import Image

from maskris.cli.main import main
from maskris.data.prepare import prepare_dataset
from maskris.data.readers import _REGISTERED as REGISTERED
from maskris.data.readers import Reader, find_reader, known_readers, read_annotations, register_reader
from maskris.data.readers.validation import InvalidData, RowValidator
from maskris.data.table import ReferringTable

MODULE = """
from maskris.data import RowValidator

def read(source, images=None):
    rows = RowValidator(source, images or source.parent)
    for number, line in enumerate(source.read_text().splitlines(), start=1):
        image, x, y, w, h, phrase = line.split(",")
        x, y, w, h = map(float, (x, y, w, h))
        box = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        rows.add(f"line {number}", {"image": image, "split": "train", "expressions": [phrase]}, [box])
    return rows.result

nothing = 3
"""


@pytest.fixture
def boxes(tmp_path, monkeypatch):
    """A file of boxes and a module in the working folder that reads such files."""
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    (tmp_path / "boxes_reader.py").write_text(MODULE)
    (tmp_path / "mine.boxes").write_text("a.png,2,3,10,8,the box\na.png,0,0,4,4,the corner")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "mine.boxes"
    sys.modules.pop("boxes_reader", None)
    REGISTERED.clear()


def check(out, file):
    first, second = ReferringTable.open(out)
    assert (first.dataset, first.image, first.expressions, first.box) == ("mine", "a.png", ("the box",), (2, 3, 10, 8))
    assert (second.height, second.width, second.source) == (24, 32, file.name)


def test_a_dotted_path_names_a_reader(boxes):
    report = prepare_dataset(boxes, "mine.parquet", format="boxes_reader.read", progress=False)
    assert (report.dataset, report.counts["train"].referents) == ("mine", 2)
    check("mine.parquet", boxes)


def test_the_command_takes_a_dotted_path(boxes):
    assert main(["prepare", str(boxes), "--format", "boxes_reader.read", "--out", "mine.parquet"]) == 0
    check("mine.parquet", boxes)


def test_a_registered_reader_has_a_name_and_may_detect_its_files(boxes):
    read = find_reader("boxes_reader.read").read
    register_reader("boxes", read)
    prepare_dataset(boxes, "mine.parquet", format="boxes", progress=False)
    check("mine.parquet", boxes)
    with pytest.raises(ValueError, match=r"mine\.boxes fits no format .*jsonl: a \.jsonl file"):
        read_annotations(boxes)
    register_reader("boxes", read, "a .boxes file", lambda source, *_: source.suffix == ".boxes")
    assert len(read_annotations(boxes).rows) == 2
    register_reader("others", read, detect=lambda source, *_: source.is_file())
    with pytest.raises(
        ValueError, match=r"fits several formats \(boxes: a \.boxes file; others: .*choose with --format"
    ):
        read_annotations(boxes)


def test_problems_of_ones_own_rows_are_collected(boxes):
    boxes.write_text("a.png,2,3,10,8, \nnone.png,0,0,4,4,x\na.png,0,0,90,4,x\na.png,1,1,4,4,x")
    with pytest.raises(InvalidData) as caught:
        prepare_dataset(boxes, "mine.parquet", format="boxes_reader.read", progress=False)
    assert [(problem.where, problem.kind) for problem in caught.value.problems] == [
        ("line 1", "empty expressions"),
        ("line 2", "missing image"),
        ("line 3", "misplaced polygon"),
    ]
    prepare_dataset(boxes, "mine.parquet", format="boxes_reader.read", skip_invalid=True, progress=False)
    assert len(ReferringTable.open("mine.parquet")) == 1
    assert len((boxes.parent / "mine.parquet.rejects.jsonl").read_text().splitlines()) == 3


def test_unknown_names_and_options_say_what_there_is(boxes):
    with pytest.raises(ValueError, match=r"no format 'refr'; did you mean refer\?"):
        read_annotations(boxes, format="refr")
    with pytest.raises(ValueError, match=r"no format 'xyz'; there are coco, .*jsonl, refer\..*my_module\.read"):
        read_annotations(boxes, format="xyz")
    with pytest.raises(ValueError, match="there is no module no_module"):
        read_annotations(boxes, format="no_module.read")
    for name in ("nothing", "missing"):
        with pytest.raises(ValueError, match=rf"boxes_reader\.{name} is no reader"):
            read_annotations(boxes, format=f"boxes_reader.{name}")
    with pytest.raises(
        ValueError, match=r"split_by can't be chosen for .*\.read, only for grefcoco, hub, imagefolder, refer; leave it"
    ):
        read_annotations(boxes, format="boxes_reader.read", split_by="unc")
    with pytest.raises(ValueError, match="needs a folder"):
        read_annotations(boxes, format="refer")
    for name in ("coco", "auto", "my.reader"):
        with pytest.raises(ValueError, match="can't have the name"):
            register_reader(name, RowValidator)


def test_every_reader_of_the_package_is_found():
    readers = known_readers()
    assert set(readers) == {"coco", "grefcoco", "hub", "imagefolder", "jsonl", "refer"}
    assert all(isinstance(one, Reader) and one.name == name and one.expects for name, one in readers.items())
    assert all({"images", "dataset"} <= one.options for one in readers.values())


def test_a_coco_file_without_sizes_takes_those_of_the_photos(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png")
    annotation = {"id": 1, "image_id": 5, "segmentation": [[2, 2, 9, 2, 9, 9, 2, 9]], "caption": "x"}
    content = {"images": [{"id": 5, "file_name": "a.png"}], "annotations": [annotation]}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    assert read_annotations(tmp_path / "mine.json").table().size(0) == (24, 32)
