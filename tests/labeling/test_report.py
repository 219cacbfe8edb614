"""Numbers of pseudo masks, and how they are shown."""

from pathlib import Path

from maskris.labeling.report import Label, LabelReport
from maskris.reporting import tables_of, to_markdown
from maskris.reporting.tables import NOTHING

SHARES = [0.0005, 0.1, 0.2, 0.3, 0.95]


def report(scores=True, kept=False):
    labels = [
        Label(row, row, "train", "labeled", share, 0.1 * row + 0.5 if scores else None)
        for row, share in enumerate(SHARES)
    ]
    labels += [Label(5, None, "train", "nothing", 0.0, 0.0), Label(6, None, "train", "unsure", 0.5, 0.2)]
    labels += [Label(7, None, "val", "nothing", 0.0, None)]
    return LabelReport(Path("out.parquet"), "a 01; mean; threshold:0.5", labels, kept, 3)


def test_numbers_by_split():
    train, val = report().splits
    assert (train.split, train.referents, train.labeled, train.nothing, train.unsure) == ("train", 7, 5, 1, 1)
    assert (train.tiny, train.full, train.coverage) == (1, 1, 5 / 7)
    assert train.areas == (0.1, 0.2, 0.3)
    assert [round(score, 6) for score in train.scores] == [0.6, 0.7, 0.8]
    assert (val.labeled, val.coverage, val.areas, val.scores) == (0, 0, None, None)
    assert report(scores=False).splits[0].scores is None


def test_tables():
    (table,) = tables_of(report())
    assert list(table.headings) == ["", "train", "val"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["of all, %"] == ["71.4", "0.0"]
    assert rows["masks below 0.1 % of the photo"] == ["1", "0"]
    assert rows["masks above 90 %"] == ["1", "0"]
    assert rows["area: median"] == ["20.0", NOTHING]
    assert rows["score: upper quartile"] == ["0.80", NOTHING]
    assert rows["area of the masks, % of the photo: lower quartile"] == ["10.0", NOTHING]
    text = to_markdown(report())
    assert "Masks by a 01; mean; threshold:0.5." in text
    assert "Referents without a mask are left out." in text
    assert "3 row(s) of other splits are in the table as they were." in text
    assert "masks of source none" in to_markdown(report(kept=True))
