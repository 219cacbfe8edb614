"""The page of a report says what the evaluations say, in a form that browsers and people can trust."""

import json
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from evaluation.made_up import made_up
from html_check import check, rows
from PIL import Image

from maskris.evaluation.bootstrap import bootstrap_intervals, paired_intervals
from maskris.evaluation.metrics import labels
from maskris.reporting.html.contents import Example, Gallery, Picture, Report, Subject
from maskris.reporting.html.sections import compose
from maskris.reporting.plots import SERIES
from maskris.robustness.results import Robustness, RobustnessComparison
from maskris.robustness.suite import CLEAN, Condition
from maskris.training.run_record import RunRecord

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def record(name="run", log=(), **settings):
    recipe = yaml.safe_dump(settings) if settings else ""
    return RunRecord(Path("runs") / name, "last", recipe, settings, log, {"step": 1200, "versions": {"torch": "2.9"}})


def subject(name="A", evaluation=None, **options):
    return Subject(name, record(name), evaluation, "rows.parquet", **options)


def page(*subjects, **options):
    return check(compose(Report(subjects, resamples=50, **options)))


def table(root, words):
    """The rows of the table whose caption has these words."""
    (found,) = [figure for figure in root.all("figure") if words in next(figure.all("figcaption")).text]
    return rows(next(found.all("table")))


def by_name(lines):
    return {line[0]: line[1:] for line in lines}


def per_cent(value, digits=2):
    return f"{100 * value:.{digits}f}"


def signed(value, digits=2):
    return f"{100 * value:+.{digits}f}".replace("-", "\u2212")


def test_the_metrics_are_those_of_the_evaluation():
    evaluation = made_up()
    lines = table(page(subject("A", evaluation)), "Metrics by split")
    parts = evaluation.parts("split")
    assert [line[0] for line in lines if len(line) == 1] == [
        f"{name} {len(one)} expressions" for name, one in parts.items()
    ]
    metrics = [name for name in evaluation.metrics if name != "N"]
    for (name, one), start in zip(parts.items(), range(0, len(lines), len(metrics) + 1), strict=True):
        assert lines[start][0].startswith(name)
        sure = bootstrap_intervals(one, unit="image", resamples=50)
        for metric, line in zip(metrics, lines[start + 1 : start + 1 + len(metrics)], strict=True):
            ends = f"[{per_cent(sure[metric].low)}, {per_cent(sure[metric].high)}]"
            assert line == [labels(one.protocol)[metric], per_cent(one.metrics[metric]), ends]


def test_several_models_are_compared_with_the_first():
    first, second, third = made_up(seed=0), made_up(seed=1), made_up(seed=2)
    root = page(subject("A", first), subject("B", second), subject("C", third), unit="expression")
    line = by_name(table(root, "Metrics by split"))["mIoU"]  # the last split's
    assert len(line) == 2 * 5
    all_of_them = by_name(table(root, "by group"))["All"]
    apart = paired_intervals(second, first, ["mIoU"], unit="expression", resamples=50)["mIoU"]
    assert all_of_them[:7] == [
        "40",
        *(per_cent(each.metrics["oIoU"], 1) for each in (first, second, third)),
        *(per_cent(each.metrics["mIoU"], 1) for each in (first, second, third)),
    ]
    assert all_of_them[7:9] == [signed(apart.value, 1), f"[{signed(apart.low, 1)}, {signed(apart.high, 1)}]"]


def test_differences_are_bold_where_their_interval_has_no_zero():
    first, second = made_up(seed=0, n=30), made_up(seed=1, n=30)
    none = second.rows.set_column(13, "intersection", pa.array(np.zeros(30, dtype=np.int64)))
    second = replace(second, rows=pa.concat_tables([second.rows.slice(0, 15), none.slice(15)]))
    root = page(subject("A", first), subject("B", second))
    apart = {}
    for name, one in first.parts("split").items():
        for metric, found in paired_intervals(second.parts("split")[name], one, unit="image", resamples=50).items():
            apart[labels(one.protocol)[metric], signed(found.value), signed(found.low)] = not found.contains(0)
    assert set(apart.values()) == {True, False}
    shown = {}
    for row in next(root.all("table")).all("tr"):
        if len(row.children) == 7 and row.children[0].name == "th" and row.children[0].text != "Metric":
            value, ends = row.children[5], row.children[6].text
            shown[row.children[0].text, value.text, ends[1:].split(",")[0]] = any(True for _ in value.all("strong"))
    assert shown == apart


def test_breakdowns_are_those_of_the_evaluation():
    evaluation = made_up()
    lines = by_name(table(page(subject("A", evaluation)), "by group"))
    for by in ("split", "length", "relative_size", "kind", "category"):
        for label, scores in evaluation.breakdown(by).items():
            numbers = [per_cent(scores["oIoU"], 1), per_cent(scores["mIoU"], 1)]
            assert lines[label][:3] == [f"{scores.n:,}", *numbers], label


def test_of_many_categories_the_largest_are_shown():
    category = [f"c{i % 20 if i < 40 else i % 11}" for i in range(60)]
    root = page(subject("A", made_up(n=60, category=category)))
    shown = [name for name in by_name(table(root, "by group")) if name.startswith("c")]
    assert len(shown) == 12
    assert {f"c{i}" for i in range(9)} <= set(shown)
    assert "Of 20 groups by category, the 12 with most expressions are shown." in root.text


def test_the_summary_says_what_was_found():
    first, second = made_up(seed=0), made_up(seed=1)
    root = page(subject("A", first), subject("B", second))
    (lead,) = root.of_class("lead")
    assert "40 expressions about 40 photos of refcoco unc val, refcoco unc testA and refcoco unc testB" in lead.text
    apart = paired_intervals(second, first, ["mIoU"], unit="image", resamples=50)["mIoU"]
    verdict = "with" if apart.contains(0) else "without"
    assert f"B differs from A by {signed(apart.value, 1)}" in lead.text
    assert f"points of mIoU, an interval {verdict} zero" in lead.text
    assert "model input size 32 x 48" in lead.text
    same = page(subject("A", first), subject("B", first))
    assert "by +0.0\u00a0[+0.0, +0.0] points of mIoU, an interval with zero in it" in same.text


def test_the_curve_of_success_goes_through_the_table():
    evaluation = made_up("cris")  # strictly above the threshold
    root = page(subject("A", evaluation))
    (label,) = [svg.attributes["aria-label"] for svg in root.all("svg") if "aria-label" in svg.attributes]
    counts = evaluation.outcomes.counts
    assert f"A: {100 * counts.reaches(0.02, '>').mean():.4g} at 0.02, 0 at 1" in label


def test_robustness_beside_the_clean_numbers():
    clean, hidden = made_up(seed=0), made_up(seed=1)
    other = made_up(seed=2)
    root = page(subject("A", clean, perturbed={"fog": hidden}), subject("B", other))
    lines = by_name(table(root, "under perturbations"))
    assert lines["clean"][0] == per_cent(clean.metrics["mIoU"], 1)
    assert lines["clean"][2] == "100.0"
    assert lines["fog"][0] == per_cent(hidden.metrics["mIoU"], 1)
    assert lines["fog"][2] == per_cent(hidden.metrics["mIoU"] / clean.metrics["mIoU"], 1)
    assert lines["fog"][3:] == [""] * 5  # the other model was not measured so
    few = made_up(n=7)  # of other expressions, and nothing clean to be held against
    pair = page(subject("A", clean, perturbed={"fog": hidden}), subject("B", perturbed={"fog": few}))
    lines = by_name(table(pair, "under perturbations"))
    assert lines["fog"][3] == per_cent(few.metrics["mIoU"], 1)
    assert lines["fog"][-1] == ""
    backwards = replace(hidden, rows=hidden.rows.take(list(range(len(hidden)))[::-1]))
    pair = page(subject("A", clean, perturbed={"fog": hidden}), subject("B", clean, perturbed={"fog": backwards}))
    assert by_name(table(pair, "under perturbations"))["fog"][-2:] == ["+0.0", "[+0.0, +0.0]"]


def measured(folder, name, seed):
    """A result of `maskris robustness` with made-up numbers."""
    folder.mkdir()
    card = {"name": name, "weights": name, "data": "d", "protocol": "p", "seed": 0}
    (folder / "robustness.json").write_text(json.dumps(card))
    conditions = [CLEAN, *(Condition("noise", "grain", level) for level in (1, 3)), Condition("text", "shuffled", None)]
    for i, condition in enumerate(conditions):
        rows = replace(made_up(seed=10 * seed + i), settings={"condition": asdict(condition)})
        rows.save(folder / f"{condition.key}.parquet")
    return Robustness.load(folder)


def test_a_result_of_maskris_robustness(tmp_path):
    runs = measured(tmp_path / "a", "B", 0), measured(tmp_path / "b", "C", 1)
    found = RobustnessComparison(runs, resamples=50)
    root = page(subject("A"), subject("B"), subject("C"), robustness=found)
    families = by_name(table(root, "by family of perturbations (40 expressions about 40 photos)"))
    assert list(families) == ["clean", "noise", "text", "Mean of the families"]
    conditions = by_name(table(root, "under every condition"))
    assert list(conditions) == ["Noise", "grain 1", "grain 3", "Text", "shuffled"]
    grain = next(one for one in found.conditions if one.severity == 3)
    clean, noisy = ([run.evaluation(one).metrics["mIoU"] for run in runs] for one in (CLEAN, grain))
    line = conditions["grain 3"]
    assert [line[0], line[3]] == [per_cent(value, 1) for value in noisy]
    assert [line[2], line[5]] == [per_cent(a / b, 1) for a, b in zip(noisy, clean, strict=True)]
    assert line[6] == signed(noisy[1] - noisy[0], 1)
    (chart,) = [svg for svg in root.all("svg") if "grain" in svg.attributes.get("aria-label", "")]
    assert f"B: {100 * clean[0]:.4g} at 0, {100 * noisy[0]:.4g} at 3" in chart.attributes["aria-label"]
    drawn = {SERIES.index(color) for mark in chart.all("use") for color in SERIES if color in mark.attributes["style"]}
    assert drawn == {1, 2}
    with pytest.raises(ValueError, match="The robustness of C is no part of a report on A and B"):
        Report([subject("A"), subject("B")], robustness=found)


def test_training_and_configuration_of_runs_without_any_rows():
    losses = [{"loss": 1 / i, "losses": {"clean": 0.6 / i, "masked": 0.4 / i}} for i in (1, 2, 3)]
    log = [{"event": "train", "step": i, "lr": 1e-3, "grad_norm": 2.0, **one} for i, one in enumerate(losses, 1)]
    log.append({"event": "evaluate", "step": 3, "metrics": {"oIoU": 0.5}})
    masked = {"class_path": "maskris.MaskRIS", "init_args": {"single_forward": True}}
    runs = [
        Subject("A", record("a", log, strategy={"class_path": "maskris.Supervised"}, training={"lr": 0.1, "steps": 3})),
        Subject("B", record("b", strategy=masked, training={"lr": 0.2, "steps": 3})),
    ]
    root = page(*runs)
    labels = [svg.attributes["aria-label"] for svg in root.all("svg")]
    assert [label.split(".")[0] for label in labels] == [
        "Loss", "Loss: clean", "Loss: masked", "oIoU, validation (%)", "Learning rate", "Gradient norm before clipping",
    ]  # fmt: skip
    assert labels[0].endswith("A: 1 at 1, 0.3333 at 3")
    assert labels[3].endswith("A: 50 at 3, 50 at 3")
    assert table(root, "Where the recipes differ; in the other 1 keys they are the same.") == [
        ["strategy", "maskris.Supervised", "maskris.MaskRIS"],
        ["strategy.single_forward", "–", "true"],  # noqa: RUF001
        ["training.lr", "0.1", "0.2"],
    ]
    assert [pre.text for pre in root.all("pre")] == [run.record.recipe.strip() for run in runs]
    facts = by_name(table(root, "made and measured"))
    assert facts["steps"] == ["1,200", "1,200"]
    assert facts["torch"] == ["2.9", "2.9"]
    assert "No rows of an evaluation were found" in root.text
    assert [title.text for title in root.all("h2")] == ["1Training", "2Configuration", "3Environment"]


def test_equal_recipes_are_called_equal():
    root = page(Subject("A", record("a", steps=3)), Subject("B", record("b", steps=3)))
    assert "The recipes are the same, key by key." in root.text


def picture(label, model=None, iou=None):
    file = BytesIO()
    Image.fromarray(np.zeros((4, 6, 3), dtype=np.uint8)).save(file, "JPEG")
    return Picture(label, f"alt {HOSTILE}", file.getvalue(), (6, 4), model, iou)


def hostile_report():
    n = 30
    evaluation = made_up(
        n=n, expression=[HOSTILE] * n, category=[f"{HOSTILE}{i % 2}" for i in range(n)], split=[HOSTILE] * n,
        kind=[f"k{HOSTILE}{i % 2}" for i in range(n)], dataset=[HOSTILE] * n,
    )  # fmt: skip
    evaluation = replace(
        evaluation, data={"sources": [{"source": HOSTILE, "sha256": HOSTILE}]}, settings={"precision": HOSTILE}
    )
    log = [{"event": "train", "step": 1, "loss": 1.0, "losses": {HOSTILE: 1.0, "b": 0.0}}]
    settings = {HOSTILE: HOSTILE, "strategy": {"class_path": HOSTILE}}
    one = Subject(HOSTILE, record(HOSTILE, log, **settings), evaluation, HOSTILE, {HOSTILE: evaluation})
    two = replace(one, name=f"{HOSTILE}2", record=record(HOSTILE, **{**settings, HOSTILE: "other"}))
    pictures = (picture("photo"), picture(HOSTILE, 0, 0.5), picture(HOSTILE, 1))
    return Report((one, two), (Gallery(HOSTILE, [Example(HOSTILE, HOSTILE, pictures)]),), resamples=20)


def test_every_string_is_escaped():
    html = compose(hostile_report())
    root = check(html)
    assert "<img src=x" not in html
    assert "onerror=alert(1)>" not in html
    assert all(image.attributes["src"].startswith("data:image/jpeg;base64,/9j/") for image in root.all("img"))
    assert root.of_class("asked")[0].text == f"“{HOSTILE}”"
    assert [tile.text.strip() for tile in root.of_class("tile")] == ["photo", f"{HOSTILE} IoU 0.50", HOSTILE]
    assert {f"{HOSTILE}0", f"{HOSTILE}1"} <= set(by_name(table(root, "by group")))
    assert HOSTILE in by_name(table(root, "Where the recipes differ"))


def test_the_same_report_gives_the_same_bytes():
    assert compose(hostile_report()) == compose(hostile_report())


def test_expressions_without_referent():
    areas = np.array([0, 0, 500, 900] * 10)
    root = page(subject("A", made_up("grefcoco", target_area=areas)))
    assert {"gIoU", "N-acc", "T-acc"} <= set(by_name(table(root, "Metrics by split")))
    assert by_name(table(root, "by group"))["All"][0] == "40"


def test_what_can_not_be_reported_on_is_an_error():
    with pytest.raises(ValueError, match="at least one model"):
        Report([])
    with pytest.raises(ValueError, match="can't have the same name: A, A"):
        Report([subject("A"), subject("A")])
    with pytest.raises(ValueError, match="holds no expression"):
        Report([subject("A", made_up(n=0))])
    with pytest.raises(ValueError, match="not of the same expressions"):
        Report([subject("A", made_up(n=9)), subject("B", made_up(n=8))])
