"""Many predictions: each photo encoded once, nothing lost, nothing done twice, the same bytes however it went."""

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from maskris.inference.batch import predict_batch
from maskris.inference.batch_inputs import read_rows
from maskris.inference.predictor import Predictor

PHRASES = ["the red one", "the blue thing", "green", "the red thing left of the blue one"]


@pytest.fixture
def photos(tmp_path, painted):
    """Three photos of different sizes; one has a name that ASCII doesn't know."""
    names = ["a.png", "b.jpg", "деревня 左.png"]
    for shift, name in enumerate(names):
        pixels = painted(20 + 10 * shift, 40, red=(2, 4 + shift, 16, 18), blue=(5, 22, 18, 38))
        Image.fromarray(pixels).save(tmp_path / name)
    return names


@pytest.fixture
def rows(photos, tmp_path):
    """Phrases about the photos, which take turns; rows that can't be predicted are among them."""
    listed = [{"image": name, "expression": phrase, "id": f"{name}?"} for phrase in PHRASES for name in photos]
    listed[3:3] = [
        {"image": "missing.jpg", "expression": "red"},
        {"image": "a.png", "expression": " "},
        {"expression": "red"},
        {"image": "text.png", "expression": "red"},
        listed[0],
    ]
    (tmp_path / "text.png").write_text("no photo")
    return listed


def predict(model, rows, out, batch_size=3, name=None, **options):
    options = {"progress": False, "images": out.parent} | options
    return predict_batch(Predictor(model, batch_size=batch_size, name=name), rows, out, **options)


def read(folder):
    """The results in the order of the rows; they stand in the order in which they were done."""
    return sorted(lines(folder), key=lambda record: record["row"])


def lines(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_every_row_has_its_line(model, rows, tmp_path):
    result = predict(model, rows, tmp_path / "out")
    assert (result.rows, result.before, result.now, result.failed, result.complete) == (17, 0, 17, 4, True)
    records = read(tmp_path / "out")
    assert [record["row"] for record in records] == list(range(17))
    done = [record["row"] for record in lines(tmp_path / "out")]
    assert done == [5, 4, 0, 7, 8, 11, 14, 1, 9, 12, 15, 2, 10, 13, 16, 3, 6], "photo after photo"
    single = Predictor(model)
    for record, row in zip(records, rows, strict=True):
        assert record["id"] == row.get("id")
        assert (record["image"], record["expression"]) == (row.get("image"), row.get("expression"))
        if "error" in record:
            assert set(record) == {"row", "id", "image", "expression", "error"}
            continue
        alone = single.predict(row["expression"], image=tmp_path / row["image"])
        assert np.array_equal(coco.decode(record["segmentation"]) != 0, alone.mask)
        assert record["size"] == record["segmentation"]["size"] == list(alone.mask.shape)
        assert record["score"] == pytest.approx(alone.score, abs=1e-6)
        assert record["box"] == (None if alone.box is None else list(alone.box))
        assert record["area"] == alone.mask.sum()
        assert record["truncated"] is alone.truncated
    errors = {record["row"]: record["error"] for record in records if "error" in record}
    assert errors.keys() == {3, 4, 5, 6}
    assert errors[3] == f"There is no photo {tmp_path / 'missing.jpg'}"
    assert errors[4].startswith("expression is empty")
    assert errors[5].startswith("image is empty")
    assert "is not an image" in errors[6]
    assert result.errors[0] == f"row 3 (missing.jpg, 'red'): {errors[3]}"
    assert records[7]["segmentation"] == records[0]["segmentation"], "a row that is there twice has two results"


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_a_photo_is_encoded_once_wherever_its_rows_stand(model, rows, tmp_path, at_once):
    predict(model, rows, tmp_path / "out", images_at_once=at_once)
    assert model.encoded == 3
    assert max(model.portions) <= 3
    predict(model, rows, tmp_path / "out", images_at_once=at_once)
    assert model.encoded == 3, "all is done"


@settings(max_examples=30)
@given(order=st.permutations(range(17)), batch=st.integers(1, 20), at_once=st.integers(1, 5), workers=st.integers(1, 3))
def test_results_do_not_depend_on_the_grouping(tmp_path_factory, color_model, painted, order, batch, at_once, workers):
    folder = tmp_path_factory.mktemp("grouping")
    for number in range(4):
        pixels = painted(8, 8, red=(0, 0, 8, 2 * number), green=(number, 0, 8, 8))
        Image.fromarray(pixels).save(folder / f"{number}.png")
    rows = [{"image": f"{i % 5}.png", "expression": PHRASES[i % 4], "key": i} for i in range(17)]  # there is no 4.png
    model = color_model((8, 8), 1)
    model.eval()
    predict(model, rows, folder / "plain", batch_size=1, workers=1, images_at_once=1)
    predict(model, [rows[i] for i in order], folder / "mixed", batch, images_at_once=at_once, workers=workers)
    plain = {record["key"]: record for record in read(folder / "plain")}
    for record, number in zip(read(folder / "mixed"), order, strict=True):
        assert record | {"row": number} == plain[number]


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("masks", [False, True])
def test_a_run_that_ends_anywhere_goes_on_to_the_same_bytes(model, rows, tmp_path, masks, at_once):
    options = {"masks": masks, "images_at_once": at_once}
    whole = predict(model, rows, tmp_path / "whole", **options)
    expected = whole.file.read_bytes()
    calls = []
    predict(model, rows, tmp_path / "slow", stop=lambda: calls.append(1) or False, **options)
    for portions in range(1, len(calls) + 1):
        out = tmp_path / f"stopped_{portions}"
        asked = iter(range(1, 100))
        first = predict(model, rows, out, stop=lambda asked=asked, n=portions: next(asked) == n, **options)
        written = (out / "results.jsonl").read_bytes()
        assert written.count(b"\n") == first.now
        for torn in {0, 1, len(written) // 2, len(written) - 1, len(written)}:
            (out / "results.jsonl").write_bytes(written[:torn])
            result = predict(model, rows, out, **options)
            assert result.before == written[:torn].count(b"\n")
            assert result.before + result.now == 17
            assert (out / "results.jsonl").read_bytes() == expected
        if masks:
            names = sorted(path.name for path in (out / "masks").iterdir())
            assert names == sorted(path.name for path in (tmp_path / "whole" / "masks").iterdir())


def test_batches_are_the_same_after_a_restart(model, rows, tmp_path):
    """So that a network whose rounding depends on the batch gives the same bits."""
    predict(model, rows, tmp_path / "out", images_at_once=2)
    whole, model.portions = model.portions, []
    written = (tmp_path / "out" / "results.jsonl").read_bytes().splitlines(keepends=True)
    del written[-3]
    (tmp_path / "out" / "results.jsonl").write_bytes(b"".join(written))
    predict(model, rows, tmp_path / "out", images_at_once=2)
    assert len(model.portions) == 1
    assert model.portions[0] in whole
    assert model.portions[0] > 1


def test_damage_in_the_middle_is_named(model, rows, tmp_path):
    predict(model, rows, tmp_path / "out")
    written = (tmp_path / "out" / "results.jsonl").read_bytes().splitlines(keepends=True)
    for wrong, what in ((b"\0\0\0\n", "Decode"), (written[3], "row 7 has a line already")):  # put together by hand
        (tmp_path / "out" / "results.jsonl").write_bytes(b"".join([*written[:4], wrong, *written[5:]]))
        with pytest.raises(RuntimeError, match=rf"results\.jsonl, line 5 is damaged .*{what}"):
            predict(model, rows, tmp_path / "out")
    (tmp_path / "out" / "results.jsonl").write_bytes(b"".join([*written, written[3]]))
    predict(model, rows, tmp_path / "out")
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == b"".join(written)


def test_errors_are_done_again_when_asked(model, rows, tmp_path, painted):
    predict(model, rows, tmp_path / "out")
    Image.fromarray(painted(10, 12, red=(0, 0, 9, 9))).save(tmp_path / "missing.jpg")
    assert predict(model, rows, tmp_path / "out").now == 0
    assert model.encoded == 3
    result = predict(model, rows, tmp_path / "out", retry_errors=True)
    assert (result.before, result.now, result.failed) == (13, 4, 3)
    assert model.encoded == 4
    predict(model, rows, tmp_path / "fresh")
    assert read(tmp_path / "out") == read(tmp_path / "fresh")
    assert [record["row"] for record in lines(tmp_path / "out")][13:] == [5, 4, 3, 6], "what is done again is appended"


def test_other_predictions_are_refused_and_named(model, color_model, rows, tmp_path):
    out = tmp_path / "out"
    predict(model, rows, out, name="first")
    before = (out / "results.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"the threshold: 0\.5 there, 0\.4 now") as caught:
        predict(model, rows, out, threshold=0.4)
    assert "the model" not in str(caught.value)
    with pytest.raises(ValueError, match=r"the rows: the rows \(\w{8}\) there, the rows \(\w{8}\) now"):
        predict(model, rows[1:], out)
    other = color_model()
    with torch.no_grad():
        other.scale.fill_(7.9)
    with pytest.raises(ValueError, match=r"the model: first \(\w{8}\) there, second \(\w{8}\) now"):
        predict(other, rows, out, name="second")
    with pytest.raises(ValueError, match="the precision: 'fp32' there, 'bf16' now"):
        predict_batch(Predictor(model, precision="bf16"), rows, out, images=tmp_path, progress=False)
    assert (out / "results.jsonl").read_bytes() == before
    manifest = (out / "batch.json").read_text()
    (out / "batch.json").write_text(manifest[:-9])
    with pytest.raises(ValueError, match=r"batch\.json is damaged"):
        predict(model, rows, out)
    (out / "batch.json").write_text("{}")
    with pytest.raises(ValueError, match=r"the model: nothing there, ColorModel \(\w{8}\) now"):
        predict(model, rows, out)
    (out / "batch.json").unlink()
    with pytest.raises(FileExistsError, match=r"without the batch\.json of its run"):
        predict(model, rows, out)
    assert (out / "results.jsonl").read_bytes() == before


def test_masks_and_overlays_are_files_of_their_rows(model, rows, tmp_path):
    out = tmp_path / "out"
    assert predict(model, rows, out).now == 17
    result = predict(model, rows, out, masks=True, overlays=True)
    assert (result.before, result.now) == (4, 13), "rows without their files are done again"
    records = [record for record in read(out) if "error" not in record]
    assert len(lines(out)) == 17
    assert len({record["mask_file"] for record in records}) == len(records) == 13
    for record in records:
        pixels = np.asarray(Image.open(out / record["mask_file"]))
        assert np.array_equal(pixels, coco.decode(record["segmentation"]) * np.uint8(255))
        assert Image.open(out / record["overlay_file"]).width >= 480
    assert (out / "masks" / "0002-деревня_左-the_red_one.png").is_file()
    assert predict(model, rows, out).now == 0
    lost = [out / records[0]["mask_file"], out / records[3]["overlay_file"]]
    for file in lost:
        file.unlink()
    assert predict(model, rows, out).now == 0, "nobody asks for them"
    assert predict(model, rows, out, masks=True, overlays=True).now == 2
    assert all(file.is_file() for file in lost)


def test_an_address_is_no_photo(model, tmp_path):
    listed = [{"image": "https://example.org/a.jpg", "expression": "red"}]
    result = predict(model, listed, tmp_path / "out")
    assert result.errors[0].endswith(
        ": https://example.org/a.jpg is an address; download the photo first, and name its file"
    )


def test_two_processes_do_not_share_a_folder(model, rows, tmp_path):
    def intrude():
        with pytest.raises(RuntimeError, match="Another process is at work in"):
            predict(model, rows, tmp_path / "out")
        return True

    assert not predict(model, rows, tmp_path / "out", stop=intrude).complete
    assert predict(model, rows, tmp_path / "out").complete


def test_a_csv_file_with_photos_beside_it(model, photos, tmp_path):
    text = "\n".join(["image,expression,note", *(f'{name},"the red one",n{i}' for i, name in enumerate(photos))])
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    predict_batch(Predictor(model), tmp_path / "rows.csv", tmp_path / "out", progress=False)
    assert [(record["image"], record["note"]) for record in read(tmp_path / "out")] == [
        (name, f"n{i}") for i, name in enumerate(photos)
    ]
    rows = read_rows(tmp_path, ["red"], leave_out=tmp_path / "out")
    result = predict_batch(Predictor(model), rows, tmp_path / "folder", progress=False)
    assert (result.rows, result.failed) == (3, 0)


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_a_file_name_that_is_no_text(model, photos, tmp_path):
    os.rename(os.fsencode(tmp_path / photos[0]), os.fsencode(tmp_path) + b"/\xff.png")  # noqa: PTH104
    rows = read_rows(tmp_path, ["red"])
    predict_batch(Predictor(model), rows, tmp_path / "out", masks=True, progress=False)
    assert [os.fsencode(record["image"]) for record in read(tmp_path / "out")].count(b"\xff.png") == 1


def test_what_is_no_text_or_no_number_is_an_error_of_its_row(model, photos, tmp_path):
    line = json.dumps({"image": "a.png", "expression": "red", "note": 1})
    texts = [line, line.replace("red", r"red \ud83d"), line.replace("1", "1e999"), line.replace('"red"', "1e999"), line]
    (tmp_path / "rows.jsonl").write_text("\n".join(texts))
    result = predict_batch(Predictor(model), tmp_path / "rows.jsonl", tmp_path / "out", progress=False)
    assert (result.complete, result.failed) == (True, 3)
    records = read(tmp_path / "out")
    assert [("error" in record, record["expression"]) for record in records] == [
        (False, "red"), (True, "red \ud83d"), (True, None), (True, None), (False, "red"),
    ]  # fmt: skip
    assert records[1]["error"].endswith("write the whole character, in UTF-8")


def test_settings_are_checked(model, rows, tmp_path):
    for options, message in (
        ({"threshold": 1.0}, "threshold"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"images_at_once": 0}, "images_at_once must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(model, rows, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_several_photos_at_once_equal_one_at_a_time(model, photos, tmp_path):
    predictor = Predictor(model, batch_size=2)
    prepared = [predictor.prepare(tmp_path / name, keep=False) for name in photos]
    predictor.set_image(tmp_path / photos[1])
    index = [2, 0, 0, 1, 2]
    found = list(predictor.stream_photos(prepared, ["red", "blue", "green", "red", "blue"], index))
    single = Predictor(model)
    for prediction, place in zip(found, index, strict=True):
        alone = single.predict(prediction.expression, image=tmp_path / photos[place])
        assert np.array_equal(prediction.mask, alone.mask)
    assert predictor.predict("red").mask.shape == (30, 40), "the photo that was set is still set"
    with pytest.raises(ValueError, match="image_index needs a number from 0 to 2 for each"):
        predictor.stream_photos(prepared, ["red"], [3])
