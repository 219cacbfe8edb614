"""Models of this package as teachers: their maps are those that `predict` shows."""

import numpy as np
import pytest
import torch
from PIL import Image

from maskris.inference.predictor import Predictor
from maskris.labeling.label import label_table
from maskris.labeling.refine.rules import Rule
from maskris.labeling.select import resize
from maskris.labeling.teachers import names
from maskris.labeling.teachers.base import Query, Teacher
from maskris.labeling.teachers.names import find_teacher
from maskris.labeling.teachers.ris_model import RISModelTeacher
from maskris.models.base import weights_sha256

PHRASES = [["the red one", "blue"], ["green"], ["the red thing", "green", "the blue thing"]]


@pytest.fixture
def photos():
    rng = np.random.default_rng(0)
    sizes = [(40, 60), (61, 33), (24, 32)]
    small = [Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)) for _ in sizes]
    return [one.resize((width, height)) for one, (height, width) in zip(small, sizes, strict=True)]


@pytest.mark.parametrize("resize_to", ["stretch", "letterbox"])
@pytest.mark.parametrize("channels", [1, 2])
def test_masks_are_those_that_predict_finds(color_model, photos, resize_to, channels):
    model = color_model(channels=channels, resize=resize_to).train()
    teacher = RISModelTeacher(model, batch_size=2)
    found = teacher.find(photos, [[Query(phrase) for phrase in some] for some in PHRASES])
    assert model.training
    assert (teacher.rule, teacher.origin) == ("threshold:0.5", f"ColorModel {weights_sha256(model)[:12]}")
    predictor = Predictor(model)
    for photo, some, findings in zip(photos, PHRASES, found, strict=True):
        for expected, finding in zip(predictor.predict(some, photo), findings, strict=True):
            values = resize(finding.map, photo.height, photo.width)
            np.testing.assert_allclose(values, expected.probability, atol=1e-6)
            assert np.array_equal(Rule.parse(teacher.rule).mask(values), expected.mask)
            assert finding.score == pytest.approx(expected.score, abs=0.1 if resize_to == "stretch" else 1e-5)


def test_scores_of_a_localizer(color_model, photos):
    class Localizer(color_model):
        output = "score"

    for resize_to in ("stretch", "letterbox"):
        model = Localizer(channels=1, resize=resize_to)
        with torch.no_grad():
            model.scale.fill_(30.0)
        teacher = RISModelTeacher(model)
        ((finding, *_), *_) = teacher.find(photos, [[Query(phrase) for phrase in some] for some in PHRASES])
        assert (teacher.rule, finding.score) == ("peak:0.5", None)
        assert finding.map.min() == 0
        assert finding.map.max() > 1  # of brightness above a half, times 30
    assert finding.map.shape == (40, 60)  # what a letterbox adds is no part of the photo


def test_maps_of_large_photos_are_small(color_model):
    photo = Image.new("RGB", (3000, 1500), "red")
    photo.paste("black", (0, 0, 1000, 800))
    for resize_to in ("stretch", "letterbox"):
        model = color_model(resize=resize_to)
        ((finding,),) = RISModelTeacher(model).find([photo], [[Query("red")]])
        assert finding.map.size <= 1_001_000
        expected = Predictor(model).predict("red", photo).probability
        assert np.abs(resize(finding.map, 1500, 3000) - expected).max() < 0.02


def test_a_model_is_found_where_load_model_finds_it(color_model, photos, tmp_path, monkeypatch):
    color_model().save_pretrained(tmp_path / "run" / "best")
    monkeypatch.setattr("maskris.labeling.teachers.ris_model.load_model", lambda source: color_model())
    digest = weights_sha256(color_model())[:12]
    assert RISModelTeacher(tmp_path / "run" / "best", device="cpu").origin == f"run {digest}"
    assert find_teacher(str(tmp_path / "run"), device="cpu").origin == f"run {digest}"
    assert RISModelTeacher(color_model(), name="mine").origin == f"mine {digest}"
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        RISModelTeacher(color_model(), batch_size=0)


class Named(Teacher):
    def __init__(self, source="default", *, device=None, batch_size=1):
        self.given = source, device, batch_size

    @property
    def origin(self):
        return f"named {self.given[0]}"

    def find(self, photos, queries):
        raise NotImplementedError


def test_teachers_by_name(monkeypatch, tmp_path):
    monkeypatch.setitem(names.TEACHERS, "named", f"{__name__}.Named")
    monkeypatch.setattr(names, "load_by_path", lambda path: {f"{__name__}.Named": Named}[path])
    assert find_teacher("named", device="cpu", batch_size=3).given == ("default", "cpu", 3)
    assert find_teacher("named:my/folder").given == ("my/folder", None, 32)
    with pytest.raises(FileNotFoundError, match=r"There is no folder nmaed; .*; other teachers are .*named"):
        find_teacher("nmaed")


def test_a_model_labels_a_table(color_model, toy_table, tmp_path):
    table = toy_table(tmp_path, splits=("train",))
    report = label_table(table, RISModelTeacher(color_model()), tmp_path / "out.parquet", progress=False)
    assert report.splits[0].coverage > 0.9
    assert report.splits[0].scores[1] > 0.5
