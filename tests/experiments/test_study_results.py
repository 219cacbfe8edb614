"""Study results against numbers that can be computed by hand."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from evaluation.made_up import made_up
from rich.console import Console

from maskris.evaluation.bootstrap import paired_intervals
from maskris.experiments.study import Study, Variant
from maskris.experiments.study_results import Run, StudyResults
from maskris.reporting import tables_of, to_markdown


def better(evaluation, by):
    """The same with more pixels found."""
    n = len(evaluation)
    prediction = evaluation.rows["prediction_pixels"].to_numpy()
    target = evaluation.rows["target_pixels"].to_numpy()
    intersection = np.minimum(evaluation.rows["intersection"].to_numpy() + by, np.minimum(prediction, target))
    columns = {"intersection": intersection, "union": prediction + target - intersection}
    seed = int(evaluation.settings.get("seed", 0))
    return made_up(n=n, seed=seed, prediction_pixels=prediction, target_pixels=target, **columns)


def changed(results, **variants):
    """The same runs with other variants: fields by their names."""
    known = tuple(replace(one, **variants.get(one.name, {})) for one in results.study.variants)
    return replace(results, study=replace(results.study, variants=known))


@pytest.fixture
def results():
    base = {seed: made_up(seed=0, intersection=np.full(40, 1 + seed), prediction_pixels=np.full(40, 80),
                          target_pixels=np.full(40, 80), union=np.full(40, 159 - seed)) for seed in (0, 1)}  # fmt: skip
    runs = []
    for seed, evaluation in base.items():
        runs.append(Run("plain", seed, {0.0: evaluation, 0.5: evaluation}, {"training_seconds": 10.0}))
        found = better(evaluation, 20)
        runs.append(Run("masked", seed, {0.0: found, 0.5: evaluation}, {"training_seconds": 20.0}))
    variants = Variant("plain", paper=74.67), Variant("masked", paper=76.49), Variant("absent")
    source = {"table": "Table 3", "metric": "oIoU"}
    return StudyResults(Study("T", variants, "plain", "Why?", occlusion=(0.0, 0.5), paper=source), runs)


def test_means_deviations_and_differences(results):
    cell = results.compare("plain", 0.0, "oIoU")
    assert cell.values == pytest.approx((1 / 159, 2 / 158))
    assert cell.mean == pytest.approx((1 / 159 + 2 / 158) / 2)
    assert cell.deviation == pytest.approx(abs(1 / 159 - 2 / 158) / 2**0.5)
    assert cell.difference is None
    difference = results.compare("masked", 0.0, "oIoU").difference
    expected = np.mean([21 / 139 - 1 / 159, 22 / 138 - 2 / 158])
    assert difference.value == pytest.approx(expected)
    assert difference.low == pytest.approx(expected)  # all expressions are alike
    assert results.compare("masked", 0.5, "oIoU").difference.value == 0


def test_directions_are_set_beside_the_paper(results):
    assert results.direction("masked", "oIoU") == "same"
    assert results.direction("plain", "oIoU") == ""
    turned = changed(results, plain={"paper": 80.0}, masked={"paper": 70.0})
    assert turned.direction("masked", "mIoU") == "opposite"
    swapped = [replace(run, evaluations={0.0: run.evaluations[0.5], 0.5: run.evaluations[0.0]}) for run in results.runs]
    nothing = replace(results, runs=swapped)
    assert nothing.direction("masked", "mIoU") == "undecided"


def test_a_difference_that_seeds_disagree_on_has_no_direction(results):
    plain, masked, *others = results.runs
    # One seed wins by much, the other one loses a little: the interval over images alone would be sure.
    worse = Run("masked", 1, {share: better(e, -1) for share, e in plain.evaluations.items()})
    mixed = replace(results, runs=[plain, masked, others[0], worse])
    cell = mixed.compare("masked", 0.0, "oIoU")
    assert cell.difference.low > 0
    assert cell.by_seed == pytest.approx((21 / 139 - 1 / 159, 0 - 2 / 158))
    assert cell.sign == 0
    assert mixed.direction("masked", "oIoU") == "undecided"
    assert results.compare("masked", 0.0, "oIoU").sign == 1
    assert tables_of(mixed, metric="oIoU")[-1].rows == [["masked", "plain", "+14.5, -1.3", "+0.0, -1.3"]]


def test_the_page_holds_all_tables(results):
    page = to_markdown(results, metric="oIoU")
    assert "| masked | 15.5 ± 0.6 |" in page
    assert "| plain | 0.9 ± 0.5 |" in page
    assert "| masked | plain | +14.6 [+14.6, +14.6] | +0.0 [+0.0, +0.0] | +1.82 | same |" in page
    assert "By kind of expression" in page
    assert page.count("\n|---|") == 4
    assert "| variant | against | clean | 50% hidden | paper | direction |\n|---|---|---:|" in page


def test_a_variant_may_have_a_reference_of_its_own(results):
    own = changed(results, plain={"reference": "masked"})
    assert own.compare("plain", 0.0, "oIoU").difference.value == pytest.approx(
        -results.compare("masked", 0.0, "oIoU").difference.value
    )


def test_what_costs_as_much_is_compared_in_a_table_of_its_own(results):
    assert [table.title for table in tables_of(results, metric="oIoU")] == ["T: oIoU", "Differences", "Seed by seed"]
    both = changed(results, masked={"same_compute": "plain"}, absent={"same_compute": "plain"})
    equal = tables_of(both, metric="oIoU")[2]
    assert equal.title == "At equal compute"
    assert equal.rows == [["masked", "plain", "+14.6 [+14.6, +14.6]", "+0.0 [+0.0, +0.0]"]]
    assert "At equal compute:\n\n| variant | against |" in to_markdown(both, metric="oIoU")


def test_a_row_says_its_seeds_where_they_are_not_all(results):
    some = [run for run in results.runs if (run.variant, run.seed) != ("masked", 0)]
    partly = replace(results, runs=some)
    scores, differences = tables_of(partly, metric="oIoU")[:2]
    assert [row[0] for row in scores.rows] == ["plain", "masked (seed 1)"]
    assert (differences.title, differences.rows[0][0]) == ("Differences", "masked (seed 1)")
    assert "masked (seed 1) |" in to_markdown(partly, metric="oIoU")
    assert "(seed" not in to_markdown(results, metric="oIoU")


def test_names_are_shown_in_a_terminal_as_they_are(results):
    odd = {"plain": "a[red]", "masked": "[/b]"}
    runs = [Run(odd[run.variant], run.seed, run.evaluations, run.done) for run in results.runs]
    renamed = StudyResults(Study("[i]", tuple(map(Variant, odd.values())), "a[red]", occlusion=(0.0, 0.5)), runs)
    console = Console(record=True, width=120, file=StringIO())
    for table in tables_of(renamed, metric="oIoU"):
        console.print(table.to_rich())
    text = console.export_text()
    assert "[i]: oIoU" in text
    assert "a[red]" in text
    assert "[/b]" in text


def test_one_seed_is_the_paired_bootstrap_and_equal_methods_differ_by_nothing():
    a, b = made_up(seed=1), made_up(seed=1, intersection=np.zeros(40, dtype=int))
    one = paired_intervals([a], [b], ["mIoU"], unit="image", seed=3)["mIoU"]
    assert one == paired_intervals(a, b, ["mIoU"], unit="image", seed=3)["mIoU"]
    same = paired_intervals([a, b], [a, b], ["oIoU"])["oIoU"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="as many evaluations"):
        paired_intervals([a], [], ["oIoU"])
    with pytest.raises(ValueError, match="not of the same expressions"):
        paired_intervals([a], [made_up(n=39, seed=1)], ["oIoU"])
