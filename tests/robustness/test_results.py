"""Numbers of made-up rows, by hand; tables, files and pictures of them."""

import csv
import json
import math

import numpy as np
import pytest
from evaluation.made_up import made_up
from rich.console import Console

from maskris.evaluation.bootstrap import bootstrap_intervals, paired_intervals
from maskris.reporting import tables_of, to_markdown, write_csv
from maskris.reporting.robustness import subjects_table
from maskris.robustness.language import language_breakdown
from maskris.robustness.results import Robustness, RobustnessComparison
from maskris.robustness.suite import CLEAN, Condition

FOG = [Condition("weather", "fog", n) for n in (1, 3)]
SNOW = Condition("weather", "snow", 3)
DROPPED = Condition("text", "words-dropped", 0.5)
CONTEXT = Condition("context", "context", 0.5)
CONDITIONS = (CLEAN, *FOG, SNOW, DROPPED, CONTEXT)


def worse(clean, factor, **columns):
    """The same expressions with a part of the intersections."""
    old = {name: clean.rows[name].to_numpy(zero_copy_only=False) for name in clean.rows.column_names}
    intersection = (old["intersection"] * factor).astype(int)
    union = old["prediction_pixels"] + old["target_pixels"] - intersection
    return made_up(intersection=intersection, union=union, iou=intersection / union, seed=0, **columns)


def write(folder, name, factors, seed=0, **card):
    """A folder of results; one factor for each condition."""
    for condition, factor in zip(CONDITIONS, factors, strict=True):
        evaluation = worse(made_up(seed=0), factor)
        if condition == DROPPED:
            words = evaluation.rows["expression"].to_pylist()
            read = [text if i % 4 == 0 else "word" for i, text in enumerate(words)]
            rows = evaluation.rows.append_column("read", [read])
            evaluation = type(evaluation)(rows, evaluation.protocol, settings=dict(evaluation.settings))
        evaluation.save(folder / f"{condition.key}.parquet")
    card = {"name": name, "data": "d", "protocol": {}, "seed": 0, **card}
    return Robustness(card, folder, CONDITIONS)


@pytest.fixture
def runs(tmp_path):
    return [
        write(tmp_path / "a", "plain", (1.0, 0.8, 0.4, 0.5, 0.7, 1.0)),
        write(tmp_path / "b", "masked", (0.9, 0.8, 0.6, 0.6, 0.7, 0.9)),
        write(tmp_path / "c", "masked", (0.7, 0.7, 0.6, 0.5, 0.6, 0.7)),
    ]


def test_metrics_are_those_of_the_evaluations(runs):
    result = runs[0].compare()
    for metric in ("oIoU", "mIoU"):
        for condition in CONDITIONS:
            evaluation = runs[0].evaluation(condition)
            score = result.score("plain", condition, metric)
            assert score.values == (pytest.approx(evaluation.metrics[metric]),)
            expected = bootstrap_intervals(evaluation, [metric], unit="image")[metric]
            assert (score.interval.low, score.interval.high) == pytest.approx((expected.low, expected.high))
            kept = result.retained("plain", condition, metric)
            assert kept.mean == pytest.approx(evaluation.metrics[metric] / runs[0].evaluation().metrics[metric])
    assert result.retained("plain", CLEAN, "oIoU").interval.low == 1.0


def test_families_are_means_over_their_conditions(runs):
    result = runs[0].compare()
    value = {c: runs[0].evaluation(c).metrics["mIoU"] for c in CONDITIONS}
    weather = np.mean([value[c] for c in (*FOG, SNOW)])
    assert result.families == ["weather", "text", "context"]
    assert result.score("plain", "weather", "mIoU").mean == pytest.approx(weather)
    assert result.retained("plain", "weather", "mIoU").mean == pytest.approx(weather / value[CLEAN])
    # To hide the context makes nothing harder, so the mean is that of the two others.
    assert result.score("plain", "mean", "mIoU").mean == pytest.approx((weather + value[DROPPED]) / 2)


def test_names_group_the_seeds_of_a_method(runs):
    result = RobustnessComparison(runs)
    assert result.methods == {"plain": [0], "masked": [1, 2]}
    score = result.score("masked", FOG[0], "oIoU")
    values = [run.evaluation(FOG[0]).metrics["oIoU"] for run in runs[1:]]
    assert score.values == pytest.approx(values)
    assert score.mean == pytest.approx(np.mean(values))
    assert score.deviation == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    kept = [run.evaluation(FOG[0]).metrics["oIoU"] / run.evaluation().metrics["oIoU"] for run in runs[1:]]
    assert result.retained("masked", FOG[0], "oIoU").values == pytest.approx(kept)


def test_differences_are_drawn_together(runs):
    result = RobustnessComparison(runs[:2])
    for condition in CONDITIONS:
        pair = [run.evaluation(condition) for run in (runs[1], runs[0])]
        expected = paired_intervals(*pair, ["oIoU"])["oIoU"]
        found = result.difference("masked", condition, "oIoU")
        assert found.value == pytest.approx(expected.value)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    same = RobustnessComparison([runs[0], write(runs[0].folder.parent / "d", "twin", (1.0, 0.8, 0.4, 0.5, 0.7, 1.0))])
    twin = same.difference("twin", "mean", "mIoU")
    assert (twin.value, twin.low, twin.high) == (0, 0, 0)


def test_only_what_belongs_together_is_compared(runs, tmp_path):
    with pytest.raises(ValueError, match="differ in data"):
        RobustnessComparison([runs[0], write(tmp_path / "e", "other", (1.0,) * 6, data="e")])
    with pytest.raises(ValueError, match="nothing to compare"):
        RobustnessComparison([])
    fewer = Robustness(runs[1].card, runs[1].folder, (CLEAN, SNOW))
    assert RobustnessComparison([runs[0], fewer]).conditions == [CLEAN, SNOW]


def test_a_model_that_finds_nothing_has_nothing_to_keep(tmp_path):
    result = write(tmp_path, "blind", (0.0,) * 6).compare()
    assert math.isnan(result.retained("blind", SNOW, "oIoU").mean)
    assert "| snow 3 | 0.0 [0.0, 0.0] | – |" in to_markdown(result)  # noqa: RUF001
    assert json.dumps(result.summary(), allow_nan=False)


def test_tables_say_what_was_measured(runs):
    result = RobustnessComparison(runs)
    shown = subjects_table(result, "condition", "oIoU")
    assert shown.headings == ["", "plain: oIoU", "retained", "masked: oIoU", "retained", "masked - plain", "changed"]
    table = {row[0]: row[1:] for row in shown.rows}
    assert list(table) == ["clean", "fog 1", "fog 3", "snow 3", "words-dropped 50%", "context 50%"]
    assert table["words-dropped 50%"][-1] == "75%"
    assert table["clean"][1] == table["clean"][-1] == ""
    value = 100 * runs[0].evaluation(SNOW).metrics["oIoU"]
    assert table["snow 3"][0].startswith(f"{value:.1f} [")
    assert " ± " in table["snow 3"][2]
    page = to_markdown(result, pictures=["summary.png"])
    assert "40 expressions about 40 images" in page
    assert "![summary](summary.png)" in page
    assert "| mean of families |" in page
    assert "| location words: without |" in page
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    for table in tables_of(result):
        console.print(table.to_rich())
    assert "mean of families" in console.export_text()


def test_files_and_pictures(runs, tmp_path):
    from maskris.reporting.plots import plot_curves, plot_summary

    result = RobustnessComparison(runs)
    lines = list(csv.DictReader(write_csv(result, tmp_path / "results.csv").open()))
    assert len(lines) == 3 * len(CONDITIONS)
    assert float(lines[3]["mIoU"]) == pytest.approx(runs[0].evaluation(SNOW).metrics["mIoU"])
    assert (lines[4]["changed"], lines[3]["changed"]) == ("0.75", "")
    numbers = json.loads(json.dumps(result.summary()))
    fog = numbers["masked"]["conditions"]["fog-1"]["oIoU retained"]
    assert fog["mean"] == pytest.approx(np.mean(fog["values"]))
    assert fog["interval"][0] < fog["mean"] < fog["interval"][1]
    for path in (plot_curves(result, tmp_path / "curves.png"), plot_summary(result, tmp_path / "summary.png", "mIoU")):
        assert path.read_bytes().startswith(b"\x89PNG")
    single = [Robustness(run.card, run.folder, (CLEAN, SNOW)) for run in runs]
    assert plot_curves(RobustnessComparison(single), tmp_path / "none.png") is None


def test_the_language_of_expressions_is_told_apart():
    texts = ["left man", "second dog next to the cat", "red", "bird above the car with a hat", "last top one"] * 8
    evaluation = made_up(expression=texts, words=[len(text.split()) for text in texts])
    groups = language_breakdown(evaluation)
    assert {by: {name: s.n for name, s in own.items()} for by, own in groups.items()} == {
        "length": {"1-2 words": 16, "3 words": 8, "6-7 words": 16},
        "relations": {"none": 24, "one": 8, "two or more": 8},
        "location words": {"with": 16, "without": 24},
        "ordinals": {"with": 16, "without": 24},
        "kind": {"(unknown)": 20, "location": 20},
    }
    places = groups["location words"]["with"]
    chosen = [i % 5 in (0, 4) for i in range(40)]
    assert places["mIoU"] == pytest.approx(np.mean(evaluation.rows["iou"].to_numpy()[chosen]))
