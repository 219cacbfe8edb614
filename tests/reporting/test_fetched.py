from pathlib import Path

from maskris.data.published_counts import PUBLISHED, Counts
from maskris.fetch import FetchPlan, FetchReport, PhotoReport, Step, read_manifest
from maskris.reporting import tables_of


def test_what_can_be_fetched():
    (table,) = tables_of(list(read_manifest().values()))
    assert table.rows[0] == ["refcoco", "RefCOCO", "unc, google", "54.0", "19,994", 3]
    assert [row[3] for row in table.rows if row[0] == "refclef"] == ["?"]


def test_a_plan_says_what_is_unknown():
    known = Step("a", Path("data"), "example.org", 1_500_000, 2_000_000)
    (table,) = tables_of(FetchPlan([known], 5 * 10**9))
    assert list(table.rows[0]) == ["a", "example.org", "1.5", "2.0", Path("data")]
    assert table.caption == "5.0 GB are free."
    (table,) = tables_of(FetchPlan([known, Step("b", Path("data"), "example.org", None, None)], 10**9))
    assert table.caption == "1.0 GB are free; the size of ? is printed nowhere."


def test_counts_get_a_verdict_and_failures_their_names():
    right = dict(PUBLISHED["refcoco", "unc"])
    wrong = right | {"val": Counts(1_500, 3_811, 10_833)}
    failed = [(f"{i}.jpg", "404") for i in range(25)]
    report = FetchReport({("refcoco", "unc"): right}, [PhotoReport(Path("p"), 3, 2, failed)])
    counts, photos = tables_of(report)
    assert counts.caption == "As published."
    assert list(photos.rows[0]) == [Path("p"), 3, 2, 25]
    lines = photos.caption.splitlines()
    assert (lines[0], lines[-2:]) == ("0.jpg: 404", ["and 5 more", "The same command tries the failed ones again."])
    (counts,) = tables_of(FetchReport({("refcoco", "unc"): wrong}))
    assert counts.caption == "Not as published: val has 10,833 expressions instead of 10,834."
    (counts,) = tables_of(FetchReport({("mine", "unc"): wrong}))
    assert counts.caption == ""
