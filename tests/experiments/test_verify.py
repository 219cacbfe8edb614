"""When a claim is verified, and what is said when it isn't."""

import json

import numpy as np
import pytest
from evaluation.made_up import made_up
from rich.console import Console

from maskris.evaluation.bootstrap import Interval
from maskris.experiments.claims import Claim
from maskris.experiments.verify import Finding, judge, judge_released, reasons
from maskris.reporting import tables_of, to_markdown
from maskris.reporting.tables import NOTHING


def claim(value, expressions=40, dataset="toy"):
    return Claim("T", dataset, "unc", "val", "oIoU", value, "maskris", "r", "Table 1", ("Hm.",), expressions)


@pytest.mark.parametrize(
    ("claimed", "interval", "verdict"),
    [
        (76.49, (0.7600, 0.7550, 0.7650), "verified"),  # within
        (76.49, (0.7700, 0.7660, 0.7740), "verified"),  # surpassed
        (76.49, (0.7649, 0.7649, 0.7649), "verified"),  # reached
        (76.49, (0.76486, 0.76486, 0.76486), "verified"),  # is printed as 76.49
        (76.49, (0.7648, 0.7648, 0.7648), "not verified"),
        (76.49, (0.7500, 0.7450, 0.7548), "not verified"),
        (76.49, (0.7600, 0.7550, 0.7649), "verified"),  # the ends belong to the interval
    ],
)
def test_the_number_decides(claimed, interval, verdict):
    finding = judge(claim(claimed), made_up(), Interval(*interval))
    assert finding.verdict == verdict
    assert finding.difference == pytest.approx(100 * interval[0] - claimed)
    assert finding.expressions == 40
    if verdict == "not verified":
        assert str(finding) == "not verified: the claim is above the interval"


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (0.7659, "reproduced"),  # 0.1 points above, which is no binary number
        (0.7639, "reproduced"),
        (0.76595, "differs: by more than 0.1 points"),
        (0.7638, "differs: by more than 0.1 points"),  # although the claim lies within the interval
        (0.8, "differs: by more than 0.1 points"),  # to surpass it doesn't help
    ],
)
def test_the_same_weights_give_the_same_number_whatever_the_interval(measured, verdict):
    finding = judge_released(claim(76.49), made_up(), Interval(measured, 0.7, 0.9))
    assert str(finding) == verdict
    assert (finding.measured, finding.low, finding.high) == (100 * measured, 70, 90)


def test_other_data_compare_with_nothing():
    finding = judge_released(claim(50, expressions=41), made_up(), Interval(0.5, 0.4, 0.6), ["other masks"])
    assert str(finding) == "not comparable: other data (40 of 41 expressions); other masks"
    finding = judge_released(claim(50), made_up(), Interval(None, None, None))
    assert str(finding) == "not comparable: nothing defines the metric"


def test_only_the_whole_split_verifies():
    good = Interval(0.9, 0.8, 1.0)
    assert judge(claim(10), made_up(), good).verdict == "verified"
    for n in (39, 41):
        finding = judge(claim(10, expressions=n), made_up(), good)
        assert str(finding) == f"not verified: other data (40 of {n} expressions)"
    # Where the data set is a published one, referents and images count as well.
    rows = {"image_id": np.arange(10_834) % 1500, "ref_id": np.arange(10_834) % 3811}
    whole = made_up(n=10_834, **rows)
    published = claim(10, 10_834, "refcoco")
    assert judge(published, whole, good).verdict == "verified"
    others = made_up(n=10_834, **rows | {"image_id": np.arange(10_834) % 1499})
    assert judge(published, others, good).reasons == ("other data (1,499 of 1,500 images)",)
    others = made_up(n=10_834, **rows | {"ref_id": np.arange(10_834) % 3810})
    assert judge(published, others, good).reasons == ("other data (3,810 of 3,811 referents)",)


def test_doubts_come_after_the_data_and_before_the_number():
    finding = judge(claim(90, expressions=41), made_up(), Interval(0.5, 0.4, 0.6), ["other settings (lr 1, not 2)"])
    assert str(finding) == (
        "not verified: other data (40 of 41 expressions); other settings (lr 1, not 2); the claim is above the interval"
    )
    assert judge(claim(0), made_up(), Interval(None, None, None)).reasons == ("nothing defines the metric",)


def test_tables_and_json_say_the_same():
    findings = [
        judge(claim(76.49, 10_834, "refcoco"), made_up(), Interval(0.1234, 0.1111, 0.1414)),
        Finding(claim(50.0), "not run", ("the data has no toy unc val",)),
    ]
    lines = to_markdown(findings).splitlines()
    assert lines[0] == "| claim | claimed | measured | difference | 95 % interval | verdict |"
    assert lines[2] == (
        "| refcoco unc val oIoU | 76.49 | 12.34 | -64.15 | 11.11 to 14.14 | not verified: other data (40 of 10,834 "
        "expressions); the claim is above the interval |"
    )
    assert lines[3] == f"| toy unc val oIoU | 50.00 |{f' {NOTHING} |' * 3} not run: the data has no toy unc val |"
    assert reasons(findings)["not run: the data has no toy unc val"] == ["toy unc val oIoU"]
    console = Console(width=80, record=True)
    console.print(tables_of(findings)[0].to_rich())
    text = console.export_text()
    assert "…" not in text
    assert "11.11 to 14.14" in text
    values = json.loads(json.dumps([finding.to_dict() for finding in findings], allow_nan=False))
    assert values[0]["claim"]["value"] == 76.49
    assert values[0]["difference"] == pytest.approx(-64.15)
    assert values[1]["measured"] is None
