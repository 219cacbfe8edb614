"""The forms of masks and of the files that hold them."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from evaluation.made_up import made_up
from PIL import Image

from maskris.data.masks import SizeMismatchError, decode, encode
from maskris.evaluation.predictions import GivenRow, SoftMaskError, harden, mask_of, read_predictions

MASK = np.zeros((6, 8), dtype=bool)
MASK[1:4, 2:7] = True
RLE = {"size": [6, 8], "counts": encode(MASK).decode()}
SQUARE = [2, 1, 7, 1, 7, 4, 2, 4]  # the edges of its pixels, as COCO draws polygons


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def palette(indices):
    picture = Image.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return picture


GRAY = MASK.astype(np.uint8)
COLOR = np.stack([GRAY * 200, GRAY * 20, GRAY * 0], 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("given", "form"),
    [
        (RLE, "RLE"),
        (RLE | {"counts": RLE["counts"].encode()}, "RLE"),
        ({"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 3, 3, 3, 3, 8]}, "RLE"),
        ([RLE, {"size": [6, 8], "counts": [48]}], "RLE"),
        (json.dumps(RLE), "RLE"),
        ([SQUARE], "polygons"),
        (SQUARE, "polygons"),
        (json.dumps([SQUARE]), "polygons"),
        ({"segmentation": [SQUARE], "bbox": [2, 1, 5, 3]}, "polygons"),
        ([[[2, 1], [7, 1], [7, 4], [2, 4]]], "polygons"),
        (MASK, "pixels of 0 and 1"),
        (torch.from_numpy(MASK), "pixels of 0 and 1"),
        (GRAY, "pixels of 0 and 1"),
        (GRAY * 255, "pixels of 0 and 255"),
        (GRAY * 255.0, "pixels of 0 and 255"),
        ((GRAY * 255).tolist(), "pixels of 0 and 255"),
        (MASK.tolist(), "pixels of 0 and 1"),
        (GRAY.astype(np.uint16) * 65535, "pixels of 0 and 65535"),
        (png(Image.fromarray(MASK)), "pixels of 0 and 1"),
        (png(Image.fromarray(GRAY * 255)), "pixels of 0 and 255"),
        ({"bytes": png(Image.fromarray(GRAY)), "path": None}, "pixels of 0 and 1"),
        (png(palette(GRAY * 2)), "pixels of 0 and 1"),
        (png(Image.fromarray(COLOR)), "pixels of 0 and 1"),
        (png(Image.fromarray(np.dstack([GRAY * 255] * 3 + [np.full_like(GRAY, 9)]))), "pixels of 0 and 255"),
    ],
)
def test_forms_of_a_mask(given, form):
    found = mask_of(GivenRow("", {"segmentation": given}), (6, 8))
    assert (found.counts, found.form) == (encode(MASK), form)
    assert mask_of(GivenRow("", {"mask": given, "score": 1}), (6, 8)) == found
    assert mask_of(GivenRow("", {"segmentation": None, "mask_file": given}), (6, 8)) == found


@pytest.mark.parametrize("nothing", [None, []])
def test_nothing_found(nothing):
    found = mask_of(GivenRow("", {"segmentation": nothing}), (6, 8))
    assert (decode(found.counts, 6, 8).sum(), found.form) == (0, "empty")


@pytest.mark.parametrize("orientation", [6, 6.0])
def test_an_orientation_may_be_stored_as_a_float(orientation):
    lying = mask_of(GivenRow("", {"segmentation": np.rot90(MASK, -1), "orientation": orientation}), (6, 8))
    assert lying.counts == encode(MASK)
    assert mask_of(GivenRow("", {"segmentation": MASK, "orientation": float("nan")}), (6, 8)).counts == encode(MASK)


def test_soft_masks_need_a_threshold_and_hard_ones_ignore_it():
    soft = np.linspace(0, 1, 48).reshape(6, 8)
    for plane in (soft, np.round(soft * 255).astype(np.uint8), np.round(soft * 65535).astype(np.uint16)):
        with pytest.raises(SoftMaskError, match="the mask is soft: its values lie between 0 and"):
            mask_of(GivenRow("", {"mask": plane}), (6, 8))
        assert np.array_equal(harden(plane, 0.5)[0], soft > 0.5)
        assert harden(plane, 0.5)[1] == "probabilities"
    at = np.array([[0, 128, 127]], dtype=np.uint8)
    assert harden(at, 128 / 255)[0].sum() == 0, "above the threshold, not at it"
    assert harden(at, 127 / 255)[0].tolist() == [[False, True, False]]
    for hard in (MASK, GRAY, GRAY * 255, GRAY * 255.0, GRAY * 0):
        assert np.array_equal(harden(hard, 0.9)[0], hard > 0)
    with pytest.raises(SoftMaskError):
        harden(GRAY * 128)
    for wrong in (soft - 0.5, soft * 3, soft * np.nan, np.arange(48).reshape(6, 8)):
        with pytest.raises(ValueError, match="are no probabilities; are they logits or indices"):
            harden(wrong, 0.5)
    for wrong in (np.zeros(3), np.zeros((0, 4)), np.array([["a"]])):
        with pytest.raises(ValueError, match="a mask is a plane of numbers"):
            harden(wrong)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"expression": "x"}, "the row lacks segmentation; it has expression"),
        ({"segmentation": RLE | {"size": [8, 6]}}, r"8 x 6 pixels \(height x width\), not 6 x 8; if it is that of the"),
        ({"segmentation": {"size": [5, 8], "counts": [40]}}, r"5 x 8 pixels \(height x width\), not 6 x 8$"),
        ({"segmentation": {"counts": [48]}}, "an RLE has the keys size and counts, not counts"),
        ({"segmentation": {}}, "holds neither run lengths nor a picture"),
        ({"segmentation": MASK[:4, :4].astype(int).tolist()}, "the mask has 4 x 4 pixels"),
        ({"segmentation": [[value / 8 for value in SQUARE]]}, "pixels, no shares of the sides"),
        ({"segmentation": [[value * 2 for value in SQUARE]]}, "a polygon reaches 6.0 px beyond the 8 x 6 image"),
        ({"segmentation": "[" * 100_000}, "the mask is damaged JSON"),
        ({"segmentation": RLE, "orientation": [6]}, "the orientation is a number of EXIF from 1 to 8"),
        ({"mask": png(Image.fromarray(np.dstack([GRAY * 0] * 3 + [GRAY * 255])))}, "another in its transparency"),
        ({"segmentation": {"size": [6, 8], "counts": [40]}}, "the run lengths cover 40 pixels, but 6 x 8 has 48"),
        ({"segmentation": [SQUARE], "height": 12, "width": 16}, "the mask has 12 x 16 pixels"),
        ({"segmentation": [SQUARE], "size": [12, 16]}, "the mask has 12 x 16 pixels"),
        ({"segmentation": [[1, 2, 3, 4]]}, "a polygon needs at least 3 points"),
        ({"segmentation": 7}, "a mask is a picture, run lengths, polygons or rows, not 7"),
        ({"segmentation": RLE, "orientation": 9}, "the orientation is a number of EXIF from 1 to 8, not 9"),
        ({"mask": png(palette(np.arange(48).reshape(6, 8) % 3))}, "the picture has several colors"),
        ({"mask": png(Image.fromarray(np.arange(144, dtype=np.uint8).reshape(6, 8, 3)))}, "the picture has several"),
    ],
)
def test_what_is_no_mask(values, message):
    with pytest.raises(ValueError, match=message):
        mask_of(GivenRow("", values), (6, 8))
    assert issubclass(SizeMismatchError, ValueError)


def test_a_mask_that_is_missing_or_no_picture(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    for name in ("none.png", "text.png"):
        with pytest.raises((OSError, ValueError), match=name):
            mask_of(GivenRow("", {"mask": name}, tmp_path), (6, 8))


def test_files(tmp_path):
    rows = [{"ref_id": 1, "segmentation": RLE}, {"ref_id": 2, "segmentation": RLE}]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n\n".join(map(json.dumps, rows)).encode())
    (tmp_path / "a.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name, places in (("a.jsonl", "line 1, line 3"), ("a.json", "entry 0, entry 1"), ("a.parquet", "row 0, row 1")):
        found = list(read_predictions(tmp_path / name))
        assert [one.values for one in found] == rows
        assert ", ".join(one.where for one in found) == places
        assert {one.folder for one in found} == {tmp_path}
    photo = {
        "image": "x.jpg",
        "orientation": 6,
        "model": "m",
        "predictions": [{"expression": "a"}, {"expression": "b"}],
    }
    (tmp_path / "prediction.json").write_text(json.dumps(photo))
    both = [{"image": "x.jpg", "orientation": 6, "expression": text} for text in "ab"]
    assert [one.values for one in read_predictions(tmp_path)] == both
    (tmp_path / "results.jsonl").write_text(json.dumps(rows[0]))
    assert [one.values for one in read_predictions(tmp_path)] == rows[:1]


def test_a_folder_of_masks(tmp_path):
    for name in ("12_0.png", "-3_10.PNG", "overlay.png"):
        Image.fromarray(MASK).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    negative, twelve, other = read_predictions(tmp_path)
    assert (negative.values["ref_id"], negative.values["number"]) == (-3, 10)
    assert mask_of(twelve, (6, 8)).counts == encode(MASK)
    assert other.problem.startswith("the name of a mask is REFID_NUMBER.png, such as 17_0.png")


def test_what_holds_no_predictions(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There are no predictions .*none.jsonl"):
        read_predictions(tmp_path / "none.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no predictions: JSON Lines"):
        list(read_predictions(tmp_path / "empty"))
    for name, text, message in (
        ("a.csv", "", "a.csv is no form of predictions"),
        ("a.json", "{", "a.json is no valid JSON"),
        ("b.json", '{"a": 1}', "b.json holds no list of predictions, but {'a': 1}"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            list(read_predictions(tmp_path / name))
    made_up().save(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="holds what was measured, and no masks; compare with it by --against"):
        list(read_predictions(tmp_path / "rows.parquet"))
