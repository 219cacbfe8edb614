"""The page of pseudo masks: every group that it promises, pictures that are upright, and text that stays text."""

import base64
import io

import numpy as np
import pytest
from color_model import toy_table  # noqa: F401 (fixture)
from html_check import check
from labeling.fake_teacher import ColorTeacher
from PIL import Image

from maskris.data.table import ReferringTable
from maskris.labeling.label import label_table
from maskris.reporting.html.label_gallery import write_label_gallery


def page_of(table, folder, count=4, **options):
    report = label_table(table, ColorTeacher(), folder / "out.parquet", progress=False, **options)
    path = write_label_gallery(report, table, folder / "out.html", count=count)
    return report, check(path.read_text(encoding="utf-8"))


def groups(root):
    return {next(section.all("h2")).text[1:]: section for section in root.all("section")}


def test_a_sample_and_the_extremes(toy_table, tmp_path):  # noqa: F811
    table = toy_table(tmp_path, images=9, splits=("train",))
    rows = table.to_pylist()
    rows[0]["expressions"] = ["something & <b>nothing</b>"] * len(rows[0]["expressions"])
    table = ReferringTable.from_rows(rows, table.images_root)
    first = label_table(table, ColorTeacher(), tmp_path / "first.parquet", progress=False)
    least = float(np.quantile([label.score for label in first.labels], 0.3))
    report, root = page_of(table, tmp_path, min_score=least)
    shown = groups(root)
    assert list(shown) == ["Sample", "Smallest", "Largest", "Least sure", "Nothing found", "Too unsure"]
    assert [len(section.of_class("example")) for section in shown.values()] == [4, 2, 2, 2, 1, 2]
    (nothing,) = shown["Nothing found"].of_class("example")
    assert nothing.of_class("asked")[0].text == "“" + "” · “".join(rows[0]["expressions"]) + "”"
    assert len(list(nothing.all("img"))) == 1
    assert all(len(list(one.all("img"))) == 2 for one in shown["Largest"].of_class("example"))
    notes = [one.text for section in shown.values() for one in section.of_class("note")]
    assert len({note.split(",")[0] for note in notes}) == len(notes)  # nothing is shown twice
    made = [label for label in report.labels if label.outcome == "labeled"]
    assert f"{len(made)} of {len(table)} referents have a mask" in root.text
    assert report.origin in root.text
    assert "Nobody has annotated these masks" in root.text
    assert len(made) == next(int(row.children[1].text) for row in root.all("tr") if "with a mask" in row.text)


def test_the_sample_is_always_the_same(toy_table, tmp_path):  # noqa: F811
    table = toy_table(tmp_path, images=9, splits=("train",))
    pages = []
    for _ in range(2):
        page_of(table, tmp_path)
        pages.append((tmp_path / "out.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_pictures_are_upright(tmp_path, orientation):
    stored = np.zeros((40, 60, 3), dtype=np.uint8)
    stored[0:20, 30:60, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    row = {"image": "photo.png", "height": 40, "width": 60, "mask_source": "none", "expressions": ["red"]}
    _, root = page_of(ReferringTable.from_rows([row], tmp_path), tmp_path)
    photo, mask = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(image.attributes["src"].split(",")[1]))), dtype=np.int64)
        for image in root.all("img")
    )
    assert photo.shape[:2] == ((200, 300) if orientation < 5 else (300, 200))
    red = photo[:, :, 0] > 127
    inside = np.asarray(Image.fromarray(red).resize((red.shape[1], red.shape[0])))
    kept = np.abs(photo - mask).sum(2) < 60  # a spotlight leaves the referent its colors
    assert kept[inside].mean() > 0.8
    assert kept[~inside].mean() < 0.05
