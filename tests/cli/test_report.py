"""`maskris report` from runs to a page, and the page in a browser."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from html_check import check, rows

from maskris.data.table import open_tables
from maskris.evaluation.result import Evaluation
from maskris.models.loading import load_model
from maskris.reporting.html.selection import KEPT, disagreements, extremes


@pytest.fixture
def twins(run, tmp_path):
    """Two runs whose models find different things."""
    folders = tmp_path / "first", tmp_path / "second"
    for seed, folder in enumerate(folders):
        shutil.copytree(run, folder)
        disturb(folder / "best", seed)
    return folders


def disturb(folder, seed):
    """Give a model other weights, with which it finds something; training for six steps doesn't get that far."""
    model = load_model(folder)
    generator = torch.Generator().manual_seed(10 + seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * parameter.std().nan_to_num() * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)


def figures(root):
    """Captions with the expressions that are shown under them."""
    return {
        next(figure.all("figcaption")).text: [asked.text[1:-1] for asked in figure.of_class("asked")]
        for figure in root.all("figure") if figure.of_class("asked")
    }  # fmt: skip


def test_a_report_on_two_runs(maskris, twins, table, tmp_path):
    out = tmp_path / "pages" / "report.html"
    words = ["report", *twins, "--data", table, "--splits", "val", "testA", "--out", out, "--gallery", 1]
    words += ["--resamples", 100, "--device", "cpu", "--workers", 0]
    code, text, err = maskris(*words)
    assert code == 0, err
    assert f"first: 8 expressions; {twins[0] / KEPT}" in text
    assert re.search(rf"Written: {out} \(\d+ kB\)", text)
    page = out.read_text(encoding="utf-8")
    root = check(page)
    assert next(root.all("title")).text == "first and second"
    first, second = (Evaluation.load(run / KEPT) for run in twins)
    assert first.metrics["mIoU"] > 0
    assert first.metrics != second.metrics
    metrics = {row[0]: row[1:] for row in rows(next(root.all("table")))}  # those of the last split stay
    test_a = [list(one.parts("split").values())[-1] for one in (first, second)]
    assert [metrics["mIoU"][0], metrics["mIoU"][2]] == [f"{100 * one.metrics['mIoU']:.2f}" for one in test_a]

    asked = first.rows["expression"].to_pylist()
    best, median, worst = extremes([first, second], 1)
    ahead, behind = disagreements(first, second, 1)
    wanted = {"Best": best, "Median": median, "Worst": worst, "where first is": ahead, "where second is": behind}
    shown = figures(root)
    for (caption, expressions), (words_of_it, chosen) in zip(
        shown.items(), [item for item in wanted.items() if item[1]], strict=True
    ):
        assert words_of_it in caption
        assert expressions == [asked[row] for row in chosen]
    iou = [float(tile.text.split("IoU ")[1]) for tile in root.of_class("tile") if "IoU" in tile.text]
    assert iou[:2] == [round(one.rows["iou"][best[0]].as_py(), 2) for one in (first, second)]
    labels = [tile.text.split(" IoU")[0].strip() for tile in root.of_class("tile")]
    assert labels[:4] == ["photo", "truth", "first", "second"]

    # Given again, nothing is evaluated again and the page is the same.
    code, text, _ = maskris(*words)
    assert code == 0
    assert "second: 8 expressions, evaluated before" in text
    assert out.read_text(encoding="utf-8") == page

    # Without the data, the rows are taken that lie there, and no picture can be drawn.
    code, _, _ = maskris("report", *twins, "--out", out, "--resamples", 100, "--names", "A & B", "<C>")
    assert code == 0
    root = check(out.read_text(encoding="utf-8"))
    assert next(root.all("h1")).text == "A & B and <C>"
    assert not list(root.all("img"))
    again = {row[0]: row[1:] for row in rows(next(root.all("table")))}
    assert again == metrics

    # Rows of other weights are no rows of this run.
    disturb(twins[0] / "best", 2)
    code, _, err = maskris("report", *twins, "--out", out)
    assert code == 1
    assert "was measured with other weights" in err


def test_python_does_what_the_command_does(maskris, twins, table, tmp_path, capsys):
    from maskris import write_report

    options = {"gallery": 1, "resamples": 20, "device": "cpu", "workers": 0}
    data = open_tables([table]).split(["val"])
    written = write_report(twins, tmp_path / "deep" / "a.html", table=data, **options)
    assert capsys.readouterr().out == ""
    assert written.path == tmp_path / "deep" / "a.html"
    assert written.notes == [f"{run.name}: 4 expressions; {run / KEPT}" for run in twins]
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    code, text, _ = maskris("report", *twins, "--data", table, "--splits", "val", "--out", tmp_path / "b.html", *words)
    assert code == 0
    assert f"{written.notes[0].split(';')[0]}, evaluated before" in text
    assert (tmp_path / "b.html").read_bytes() == written.path.read_bytes()
    check(written.path.read_text(encoding="utf-8"))


def test_a_report_on_a_run_folder_alone(maskris, run, tmp_path):
    code, _, _ = maskris("report", run, "--out", tmp_path / "report.html")
    assert code == 0
    root = check((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "No rows of an evaluation were found" in root.text
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if line["event"] == "train"]
    (loss,) = [
        svg.attributes["aria-label"] for svg in root.all("svg") if svg.attributes["aria-label"].startswith("Loss.")
    ]
    assert loss == f"Loss. whole: {losses[0]:.4g} at 2, {losses[-1]:.4g} at 6"
    assert (run / "recipe.yaml").read_text().strip() in [pre.text for pre in root.all("pre")]


@pytest.mark.parametrize("rule", [{"binarization": "threshold", "threshold": 0.4}, {"binarization": "peak"}])
def test_the_pictures_show_what_the_predictor_finds(twins, table, rule):
    from maskris.evaluation.evaluator import evaluate
    from maskris.evaluation.protocol import Protocol
    from maskris.reporting.html.contents import Report, Subject
    from maskris.reporting.html.examples import draw_galleries
    from maskris.training.run_record import read_run

    data = open_tables([table]).split("val")
    # At the photo's size, so that masks and rows must agree; and with a rule of its own.
    protocol = Protocol("own", resolution="original", **rule)
    subjects = [
        Subject(run.name, read_run(run), evaluate(load_model(run), data, protocol, progress=False)) for run in twins
    ]
    report = Report(subjects)
    galleries = draw_galleries(report, data, 2, device="cpu")
    assert len(galleries) == 5
    examples = [example for gallery in galleries for example in gallery.examples]
    assert len(examples) >= 3
    for example in examples:
        photo, truth, *found = example.pictures
        assert {picture.size for picture in example.pictures} == {(320, 256)}  # 40 x 32, eight times as large
        assert [picture.model for picture in found] == [0, 1]
        assert all(picture.jpeg.startswith(b"\xff\xd8") for picture in example.pictures)
        assert photo.jpeg != truth.jpeg
        for number, picture in enumerate(found):
            evaluation = subjects[number].evaluation
            row = evaluation.rows["expression"].to_pylist().index(example.expression)
            assert picture.iou == evaluation.rows["iou"][row].as_py()
            nothing = evaluation.rows["prediction_pixels"][row].as_py() == 0
            assert picture.alt.endswith("nothing found") == nothing


def test_robustness_is_told_of_the_runs_whose_weights_were_measured(maskris, twins, table, tmp_path):
    from maskris.robustness.benchmark import run_robustness
    from maskris.robustness.occlusion import PatchOcclusion
    from maskris.robustness.suite import Condition

    data = open_tables([table]).split("val")
    suite = {Condition("occlusion", "patches", share): PatchOcclusion(share, 8) for share in (0.25, 0.5)}
    found = run_robustness(
        load_model(twins[1]), data, suite, out=tmp_path / "worse" / "x", name="other", progress=False
    )
    out = tmp_path / "report.html"
    code, _, err = maskris("report", *twins, "--robustness", tmp_path / "worse", "--out", out, "--resamples", 50)
    assert code == 0, err
    root = check(out.read_text(encoding="utf-8"))
    lines, _ = [rows(one) for one in root.all("table") if one.text.startswith("second")]
    value = found.evaluation().metrics["mIoU"]
    assert lines[0][:2] == ["clean", f"{100 * value:.1f}"]
    assert (
        "second: "
        in next(svg for svg in root.all("svg") if "patches" in svg.attributes.get("aria-label", "")).attributes[
            "aria-label"
        ]
    )
    code, _, err = maskris("report", twins[0], "--robustness", tmp_path / "worse", "--out", out)
    assert code == 1
    assert "has no result about the weights of first" in err
    code, _, err = maskris("report", twins[0], "--robustness", tmp_path / "nothing", "--out", out)
    assert code == 1
    assert "nothing holds no result of `maskris robustness`" in err


def test_mistakes_are_explained_before_anything_is_evaluated(maskris, run, table, tmp_path):
    def fails(*words):
        code, _, err = maskris("report", *words, "--out", tmp_path / "x.html")
        assert code == 1
        assert not (tmp_path / "x.html").exists()
        return err

    assert "There is no run folder" in fails(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "is no run folder" in fails(tmp_path / "empty")
    assert "given twice" in fails(run, run)
    assert "--names needs one name for each of the 1 runs, not 2" in fails(run, "--names", "a", "b")
    assert "--splits is for --data" in fails(run, "--splits", "val")
    assert "--gallery is a number of expressions, not -1" in fails(run, "--gallery=-1")
    assert "The data has no split test" in fails(run, "--data", table, "--splits", "test")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    recipe = (other / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(recipe.replace("protocol: maskris", "protocol: cris"))
    err = fails(run, other, "--data", table)
    assert re.search(
        r"under different protocols \(\S+whole: maskris, \S+other: cris\); choose one with --protocol", err
    )


@pytest.fixture
def browser_page(page):
    """The page of a browser that notes what it says and what it asks for."""
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    return page, said, asked


def test_the_page_in_a_browser(browser_page, maskris, twins, table, tmp_path):
    page, said, asked = browser_page
    out = tmp_path / "report.html"
    words = ["--data", table, "--splits", "val", "--gallery", 1, "--resamples", 50, "--device", "cpu", "--workers", 0]
    assert maskris("report", *twins, "--out", out, *words)[0] == 0
    colors = {}
    for scheme in ("light", "dark"):
        for width in (1200, 400):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(out.as_uri())
            wide = page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
            assert wide <= width, f"the page scrolls sideways at {width} px"
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            # A table that is too wide scrolls in its own box, which the keyboard reaches.
            boxes = page.evaluate(
                "[...document.querySelectorAll('.scroll')].map(e => [e.scrollWidth > e.clientWidth, e.tabIndex])"
            )
            assert all(index == 0 for _, index in boxes)
            assert any(wide for wide, _ in boxes) == (width == 400)
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.documentElement).backgroundColor]"
        )
        colors[scheme] = [np.mean(list(map(int, re.findall(r"\d+", color)))) for color in (ink, paper)]
    assert colors["light"][0] < 60 < 200 < colors["light"][1]
    assert colors["dark"][1] < 60 < 200 < colors["dark"][0]
    assert not said
    assert {url for url in asked if not url.startswith("data:")} == {out.as_uri()}
