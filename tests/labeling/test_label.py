"""`label_table`: what it reads, what it writes, and that a killed call goes on."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from labeling.fake_teacher import ColorTeacher
from models.clip.test_towers import TEXT, VIT
from PIL import Image

from maskris.data import masks
from maskris.data.orientation import turn_mask
from maskris.data.table import SCHEMA, ReferringTable
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.labeling.label import label_table
from maskris.labeling.select import ResponseMapScorer
from maskris.models.clip.scorer import CLIPScorer
from maskris.models.encoders.tokenizers import build_clip_tokenizer
from maskris.utils.runstore import OtherRunError


@pytest.fixture
def table(toy_table, tmp_path):
    (tmp_path / "photos").mkdir()
    return toy_table(tmp_path / "photos", images=7, splits=("train", "val", "train"))


def label(table, tmp_path, teacher=None, **options):
    teacher = teacher or ColorTeacher()
    report = label_table(table, teacher, tmp_path / "out.parquet", progress=False, **options)
    return report, ReferringTable.open(tmp_path / "out.parquet", table.images_root)


def replaced(table, **columns):
    arrow = table.arrow
    for name, values in columns.items():
        field = SCHEMA.field(name)
        arrow = arrow.set_column(SCHEMA.get_field_index(name), field, pa.array(values, field.type))
    return ReferringTable(arrow, table.images_root)


def drawn(table, row):
    """What the teacher can see of the first color that a row's first expression names."""
    channel = next(i for i, color in enumerate(("red", "green", "blue")) if color in table.expressions(row)[0])
    return np.asarray(Image.open(table.image_path(row)))[:, :, channel] > 127


def test_masks_are_those_of_the_teacher(table, tmp_path):
    report, result = label(table, tmp_path)
    assert len(result) == len(table)
    assert report.splits[0].coverage == 1
    for row, (before, after) in enumerate(zip(table, result, strict=True)):
        if before.split != "train":
            assert after == before
            continue
        assert np.array_equal(result.mask(row), drawn(table, row))
        assert after.area == result.mask(row).sum()
        assert after.box == masks.box_of(result.mask(row))
        assert (after.mask_source, after.mask_origin) == ("pseudo", "colors 0123456789ab; mean; threshold:0.5")
        same = ("dataset", "split", "ref_id", "image", "expressions", "kinds", "category", "source")
        assert all(getattr(before, name) == getattr(after, name) for name in same)
    assert report.others == table.column("split").count("val")
    assert not (tmp_path / "out.parquet.work").exists()


def test_masks_are_never_read(table, tmp_path, monkeypatch):
    expected = label(table, tmp_path)[1]
    train = [split == "train" for split in table.column("split")]
    poisoned = replaced(
        table,
        mask=[
            b"\xff no mask" if chosen else before for chosen, before in zip(train, table.column("mask"), strict=True)
        ],
        area=[-7 if chosen else area for chosen, area in zip(train, table.column("area"), strict=True)],
        mask_source=["none" if chosen else "annotated" for chosen in train],
    )
    monkeypatch.setattr(ReferringTable, "mask", lambda *_: pytest.fail("a mask was read"))
    assert label(poisoned, tmp_path)[1].arrow.equals(expected.arrow)


def test_a_table_without_any_masks(table, tmp_path):
    rows = [
        {"image": row.image, "height": row.height, "width": row.width, "mask_source": "none",
         "expressions": list(row.expressions)}
        for row in table
    ]  # fmt: skip
    result = label(ReferringTable.from_rows(rows, table.images_root), tmp_path)[1]
    assert set(result.column("mask_source")) == {"pseudo"}
    assert [np.array_equal(result.mask(row), drawn(table, row)) for row in range(len(table))] == [True] * len(table)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_teacher_sees_upright_photos_and_masks_lie_in_stored_pixels(tmp_path, orientation):
    stored = np.zeros((40, 60, 3), dtype=np.uint8)
    stored[5:20, 30:50, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    row = {"image": "photo.png", "height": 40, "width": 60, "mask_source": "none", "expressions": ["red"]}
    row |= {"box": [30.0, 5.0, 20.0, 15.0]}
    table = ReferringTable.from_rows([row], tmp_path)
    teacher = ColorTeacher()
    _, result = label(table, tmp_path, teacher)
    assert teacher.photos[0].size == ((60, 40) if orientation < 5 else (40, 60))
    assert np.array_equal(result.mask(0), stored[:, :, 0] > 0)
    assert result.row(0).box == (30, 5, 20, 15)
    upright = masks.decode(*turn_mask(result.row(0).mask, 40, 60, orientation))
    assert teacher.queries[0][0].box == masks.box_of(upright)
    assert np.array_equal(np.asarray(teacher.photos[0])[:, :, 0] > 0, upright)


def test_a_killed_call_goes_on_and_ends_with_the_same_bytes(table, tmp_path):
    options = {"photos_at_once": 1, "photos_per_shard": 2}
    label(table, tmp_path, **options)
    whole = (tmp_path / "out.parquet").read_bytes()
    (tmp_path / "out.parquet").unlink()
    first = ColorTeacher(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        label(table, tmp_path, first, **options)
    assert not (tmp_path / "out.parquet").exists()
    second = ColorTeacher()
    label(table, tmp_path, second, **options)
    photos = len(
        {image for image, split in zip(table.column("image"), table.column("split"), strict=True) if split == "train"}
    )
    assert len(second.photos) == photos - 2  # the first shard of two is kept
    assert (tmp_path / "out.parquet").read_bytes() == whole


def test_another_rule_does_not_go_on(table, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        label(table, tmp_path, ColorTeacher(stop_after=3), photos_at_once=1, photos_per_shard=2)
    manifest = json.loads((tmp_path / "out.parquet.work" / "run.json").read_text())
    assert manifest["origin"] == "colors 0123456789ab; mean; threshold:0.5"
    with pytest.raises(
        OtherRunError, match=r"teacher, selection and rule: .*threshold:0\.5.* there, .*peak:0\.3.* now"
    ):
        label(table, tmp_path, rule="peak:0.3", photos_per_shard=2)


def test_nothing_found(table, tmp_path):
    expressions = table.column("expressions")
    expressions[0] = ["something"] * len(expressions[0])
    nameless = replaced(table, expressions=expressions)
    report, result = label(nameless, tmp_path)
    assert (report.splits[0].nothing, report.labels[0].outcome, report.labels[0].place) == (1, "nothing", None)
    assert result.column("ref_id") == table.column("ref_id")[1:]
    report, result = label(nameless, tmp_path, missing="keep")
    assert len(result) == len(table)
    kept = result.row(0)
    assert (kept.mask_source, kept.mask_origin, kept.area, kept.box) == ("none", "", 0, (0, 0, 0, 0))
    assert not result.mask(0).any()
    everything = replaced(table, expressions=[["something"] * len(some) for some in expressions])
    with pytest.raises(
        ValueError, match=r"No referent of \d+ got a mask \(colors 0123456789ab; mean; threshold:0\.5\)"
    ):
        label(everything, tmp_path)


def test_a_least_score(table, tmp_path):
    scores = [one.score for one in label(table, tmp_path)[0].labels]
    least = float(np.median(scores)) + 1e-9
    report, result = label(table, tmp_path, min_score=least)
    assert [one.outcome == "labeled" for one in report.labels] == [score >= least for score in scores]
    assert report.splits[0].unsure == sum(score < least for score in scores) > 0
    assert {one.mask_origin for one in result if one.mask_source == "pseudo"} == {
        f"colors 0123456789ab; mean; threshold:0.5; score at least {least:g}"
    }
    with pytest.raises(ValueError, match="doesn't say how sure it is"):
        label(table, tmp_path, ColorTeacher(scores=False), min_score=0.5)


def test_maps_of_any_size(table, tmp_path):
    result = label(table, tmp_path, ColorTeacher(size=(24, 24)))[1]
    for row in (row for row, split in enumerate(table.column("split")) if split == "train"):
        mask, truth = result.mask(row), drawn(table, row)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.6


def test_what_is_wrong_is_said(table, tmp_path):
    for options, message in (
        ({"splits": ["trian"]}, "no split trian, but train, val"),
        ({"rule": "half"}, "threshold:T or peak:F"),
        ({"superpixels": 1}, "at least 2 superpixels"),
        ({"missing": "forget"}, "drop or keep"),
        ({"min_score": 50}, r"score in \[0, 1\]"),
        ({"photos_per_shard": 0}, "photos_per_shard must be at least 1"),
        ({"selection": "best"}, "one of prms, mean, score, agreement, not"),
    ):
        with pytest.raises(ValueError, match=message):
            label(table, tmp_path, **options)
    wrong = replaced(table, height=[height + 1 for height in table.column("height")])
    with pytest.raises(ValueError, match=r"photo0\.png has \d+ x \d+ pixels .* row 0 of the table says"):
        label(wrong, tmp_path)


def test_a_teacher_that_breaks_its_contract(table, tmp_path):
    class Forgetful(ColorTeacher):
        def find(self, photos, queries):
            return [some[:-1] for some in super().find(photos, queries)]

    class Negative(ColorTeacher):
        def _finding(self, pixels, phrase):
            found = super()._finding(pixels, phrase)
            found.map[0, 0] = -1
            return found

    with pytest.raises(ValueError, match=r"Forgetful\.find returned .* findings for"):
        label(table, tmp_path, Forgetful())
    with pytest.raises(ValueError, match=r"Negative\.find returned no map for .* at least 0, not .* from -1 to"):
        label(table, tmp_path, Negative())


def test_a_clip_selects_and_is_named(table, tmp_path):
    torch.manual_seed(0)
    words = ["red", "green", "blue", "the", "one", "thing", "left", "of", "someone"]
    tokenizer = ExpressionTokenizer(build_clip_tokenizer(words), 10)
    judge = ResponseMapScorer(CLIPScorer({**VIT, **TEXT}, tokenizer), tokenizer)
    report, result = label(table, tmp_path, selection="prms", scorer=judge)
    assert report.origin == f"colors 0123456789ab; prms by {judge.origin}; threshold:0.5"
    assert np.array_equal(result.mask(0), drawn(table, 0))
    with pytest.raises(FileNotFoundError, match=r"There is no CLIP|needs a CLIP with its tokenizer"):
        label(table, tmp_path, selection="prms", scorer=str(tmp_path / "nothing"))
