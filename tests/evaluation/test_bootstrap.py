"""Intervals: exact sums, known coverage, the same draws everywhere, and sense in degenerate cases."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from evaluation.made_up import made_up
from hypothesis import given
from hypothesis import strategies as st

import maskris
from maskris.evaluation.bootstrap import (
    Interval,
    bootstrap_intervals,
    paired_intervals,
    percentile_interval,
    ratio,
    resample,
)
from maskris.evaluation.metrics import METRICS, Metric, labels, metrics_of
from maskris.utils.rng import KeyedRandom


def ratio_interval(numerator, denominator, level=0.95, resamples=2000, seed=0):
    """Of the ratio of two sums of any numbers; with ones below, of a mean."""
    drawn = resample(np.stack([numerator, denominator], axis=1).astype(float), resamples, seed)
    return percentile_interval(numerator.sum() / denominator.sum(), ratio(drawn[:, 0], drawn[:, 1]), level)


def with_empty(protocol):
    """Half of the expressions without a referent, half of those with an empty prediction."""
    i = np.arange(40)
    base = made_up(protocol).rows
    target = np.where(i % 2 == 0, 0, base["target_pixels"].to_numpy())
    prediction = np.where(i % 4 == 0, 0, base["prediction_pixels"].to_numpy())
    intersection = np.minimum(np.minimum(target, prediction), base["intersection"].to_numpy())
    box = np.minimum(intersection, base["box_union"].to_numpy())
    columns = {"target_pixels": target, "target_area": target, "prediction_pixels": prediction}
    return made_up(protocol, **columns, intersection=intersection, box_intersection=box)


@pytest.mark.parametrize("protocol", ["maskris", "lavt", "cris", "grefcoco"])
@pytest.mark.parametrize("make", [made_up, with_empty])
def test_every_metric_is_a_ratio_of_sums(protocol, make):
    result = make(protocol)
    metrics = {k: one for k, one in metrics_of(result.protocol).items() if make is with_empty or not one.needs_empty}
    assert list(metrics) == [name for name in result.metrics if name != "N"]
    for name, metric in metrics.items():
        above, below = metric.columns(result.outcomes)
        assert above.sum() / below.sum() == pytest.approx(result.metrics[name], abs=1e-14), name


def test_excluded_expressions_are_left_out_of_the_sums():
    result = with_empty("maskris")
    result = replace(result, protocol=replace(result.protocol, name="mine", empty_target="exclude"))
    for name, metric in metrics_of(result.protocol).items():
        above, below = metric.columns(result.outcomes)
        assert above.sum() / below.sum() == pytest.approx(result.metrics[name], abs=1e-14), name


def test_sums_are_those_of_drawn_rows(monkeypatch):
    values = np.random.default_rng(0).integers(0, 10**9, (7, 3)).astype(float)
    expected = values[KeyedRandom("bootstrap", 5).array(0, 7, (20, 7))].sum(1)
    assert np.array_equal(resample(values, 20, 5), expected)
    monkeypatch.setattr("maskris.evaluation.bootstrap._DRAWS_AT_ONCE", 15)  # the pieces don't matter
    assert np.array_equal(resample(values, 20, 5), expected)
    assert not np.array_equal(resample(values, 20, 6), expected)
    with pytest.raises(ValueError, match="at least one resample, not 0"):
        resample(values, 0, 0)


def test_the_ends_are_pinned():
    """Draws come from counter-based bits, so these numbers are those of every machine."""
    found = ratio_interval(np.arange(50.0) % 7, np.arange(50.0) % 11 + 1, resamples=500, seed=3)
    assert (found.value, found.low, found.high) == pytest.approx(
        (0.5157894736842106, 0.3976884783089196, 0.6406171751831586), abs=1e-12
    )


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_of_normal_means_cover_as_often_as_they_say(level):
    rng, hits = np.random.default_rng(0), 0
    for trial in range(600):
        sample = rng.normal(3.0, 2.0, 60)
        hits += ratio_interval(sample, np.ones(60), level=level, resamples=400, seed=trial).contains(3.0)
    assert hits / 600 == pytest.approx(level, abs=0.035)  # percentile intervals of 60 draws are a trifle short


def test_the_ends_agree_with_the_normal_theory():
    sample = np.random.default_rng(1).normal(0.0, 1.0, 2000)
    found = ratio_interval(sample, np.ones(2000), resamples=4000)
    half = 1.96 * sample.std() / np.sqrt(2000)
    assert found.value == pytest.approx(sample.mean())
    assert (found.low, found.high) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.06 * half)


def test_values_are_those_of_the_evaluation():
    result = with_empty("grefcoco")
    found = bootstrap_intervals(result)
    assert {name: interval.value for name, interval in found.items()} == {
        name: value for name, value in result.metrics.items() if name != "N"
    }
    assert all(interval.low <= interval.value <= interval.high for interval in found.values())
    narrow, wide = (bootstrap_intervals(result, ["mIoU"], level=level)["mIoU"] for level in (0.5, 0.99))
    assert wide.low < narrow.low <= narrow.high < wide.high


def test_one_metric_has_the_interval_that_it_has_among_all():
    assert bootstrap_intervals(made_up(), ["Pr@0.5"])["Pr@0.5"] == bootstrap_intervals(made_up())["Pr@0.5"]


def test_clusters_are_drawn_as_a_whole():
    """Sixty expressions of which each image has ten alike: as sure as six numbers, not as sixty."""
    values = np.repeat([0.1, 0.2, 0.4, 0.5, 0.8, 0.9], 10)
    pixels = (100 * values).astype(int)
    columns = {"prediction_pixels": pixels, "target_pixels": np.full(60, 100), "intersection": pixels}
    columns |= {"box_intersection": pixels, "box_union": np.full(60, 100)}
    result = made_up(n=60, **columns, image_id=np.repeat(np.arange(6), 10), ref_id=np.repeat(np.arange(12), 5))
    alone, image, referent = (
        bootstrap_intervals(result, ["mIoU"], unit=unit)["mIoU"] for unit in ("expression", "image", "referent")
    )
    six = ratio_interval(np.unique(values), np.ones(6))
    assert (image.low, image.high) == pytest.approx((six.low, six.high), abs=1e-12)
    assert image.high - image.low > referent.high - referent.low > alone.high - alone.low


def test_the_same_number_in_two_data_sets_is_another_image():
    names = [("a", "b")[i // 20] for i in range(40)]
    numbers = np.arange(40) % 20
    together = made_up(dataset=names, image_id=numbers)
    alone = bootstrap_intervals(together, unit="expression")
    assert bootstrap_intervals(together, unit="image") == alone  # every expression is alone on its image


def test_equal_evaluations_differ_by_exactly_nothing():
    result = made_up()
    shuffled = replace(result, rows=result.rows.take(pa.array(np.random.default_rng(0).permutation(40))))
    for interval in paired_intervals(result, shuffled).values():
        assert (interval.value, interval.low, interval.high) == (0, 0, 0)


def test_a_difference_that_is_everywhere_is_sure_although_the_scores_are_not():
    better = made_up()
    prediction, intersection = (better.rows[name].to_numpy() for name in ("prediction_pixels", "intersection"))
    worse = made_up(intersection=np.maximum(intersection - 2, 0), prediction_pixels=prediction + 2)
    found = paired_intervals(better, worse)["oIoU"]
    assert found.value == better.metrics["oIoU"] - worse.metrics["oIoU"]
    assert 0 < found.low <= found.value <= found.high
    single = bootstrap_intervals(better)["oIoU"]
    assert found.high - found.low < 0.3 * (single.high - single.low)
    back = paired_intervals(worse, better)["oIoU"]
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_what_can_not_be_compared():
    with pytest.raises(ValueError, match="different protocols, maskris and cris"):
        paired_intervals(made_up(), made_up("cris"))
    with pytest.raises(ValueError, match="of 40 and 39 expressions"):
        paired_intervals(made_up(), made_up(n=39))
    other = made_up(expression=["x", *("word " * (i % 14 + 1) for i in range(1, 40))])
    with pytest.raises(ValueError, match=r"1 of 40 differ, such as .*'word '.* and .*'x'"):
        paired_intervals(made_up(), other)
    with pytest.raises(ValueError, match="no metric mAP in this evaluation, but oIoU, mIoU"):
        bootstrap_intervals(made_up(), ["mAP"])
    with pytest.raises(ValueError, match="unit must be expression, image, referent, not 'photo'"):
        bootstrap_intervals(made_up(), unit="photo")
    with pytest.raises(ValueError, match=r"between 0 and 1, not 95"):
        bootstrap_intervals(made_up(), level=95)


def test_a_metric_of_the_table_has_scores_and_intervals(monkeypatch):
    """To add a metric is to change `METRICS` alone."""
    recall = Metric("recall", "recall", lambda o: o.counts.intersection, lambda o: o.counts.target)
    monkeypatch.setattr("maskris.evaluation.metrics.METRICS", (*METRICS, recall))
    first, second = made_up(), made_up(prediction_pixels=made_up().rows["prediction_pixels"].to_numpy() + 5)
    value = first.rows["intersection"].to_numpy().sum() / first.rows["target_pixels"].to_numpy().sum()
    assert first.metrics["recall"] == first.scores.values["recall"] == first.scores["recall"] == value
    assert 0 < first.breakdown("split")["refcoco unc val"].values["recall"] < 1
    assert labels(first.protocol)["recall"] == "recall"
    found = bootstrap_intervals(first)["recall"]
    assert found.low < found.value == value < found.high
    for pair in ((first, second), ([first, second], [second, first])):
        one = paired_intervals(*pair)["recall"]
        assert (one.value, one.low, one.high) == (0, 0, 0)


def test_images_are_drawn_wherever_nothing_else_is_said():
    """So that no model has two intervals: every default of a unit of resampling in the package, by its source."""
    defaults = []  # (name, its annotation, its default)
    for path in Path(maskris.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                given = node.args.args[len(node.args.args) - len(node.args.defaults) :]
                pairs = [*zip(given, node.args.defaults, strict=True)]
                pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                defaults += [(f"{path.stem}.{node.name}", one.annotation, value) for one, value in pairs]
            elif isinstance(node, ast.AnnAssign):
                defaults.append((f"{path.stem}.{ast.unparse(node.target)}", node.annotation, node.value))
    units = {
        name: ast.literal_eval(value)
        for name, annotation, value in defaults
        if annotation and value and re.search(r"\bUnit\b|'referent'", ast.unparse(annotation))
    }
    assert {"bootstrap.bootstrap_intervals", "bootstrap.paired_intervals"} < units.keys()
    assert set(units.values()) == {"image"}, units


@given(n=st.integers(0, 4), protocol=st.sampled_from(["maskris", "cris", "grefcoco"]), empty=st.booleans())
def test_degenerate_evaluations(n, protocol, empty):
    zero = np.zeros(n, dtype=int)
    names = ("intersection", "prediction_pixels", "target_pixels", "target_area", "box_intersection", "box_union")
    result = made_up(protocol, n=n, **(dict.fromkeys(names, zero) if empty else {}))
    for name, interval in bootstrap_intervals(result, resamples=20).items():
        value = result.metrics[name]
        if np.isnan(value):
            assert interval == Interval(None, None, None)
            assert not interval.contains(0.5)
        else:
            assert interval.value == value
            assert interval.low <= interval.high
            if n == 1 or empty:
                assert (interval.low, interval.high) == pytest.approx((value, value))
