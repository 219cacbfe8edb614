"""Scores of the embedded data set, by the kind of its expressions."""

from collections import Counter
from itertools import chain

from color_model import ColorModel

from maskris.data.prepare import prepare_dataset
from maskris.data.shapes.writer import write_shapes
from maskris.data.table import ReferringTable
from maskris.evaluation.evaluator import evaluate
from maskris.reporting.scores import markdown, tables


def test_every_kind_of_expression_has_its_row_also_of_several_objects_and_of_none(tmp_path):
    write_shapes(tmp_path, images={"val": 12}, datasets=["gshapes"])
    prepare_dataset(tmp_path, tmp_path / "t.parquet", dataset="gshapes", split_by="unc", progress=False)
    table = ReferringTable.open(tmp_path / "t.parquet")
    result = evaluate(ColorModel(), table, "grefcoco", device="cpu", workers=0)
    counts = Counter(chain.from_iterable(table.column("kinds")))
    assert {"several", "no-target", "counting", "location"} < set(counts)
    assert {kind: scores.n for kind, scores in result.breakdown("kind").items()} == counts
    by_kind = next(made for made in tables(result) if made.title == "By kind")
    assert [row[:2] for row in by_kind.rows] == [[kind, str(counts[kind])] for kind in sorted(counts)]
    empty = by_kind.headings.index("no target")
    assert {row[0]: row[empty] for row in by_kind.rows}["no-target"] == str(counts["no-target"])
    assert "| no-target |" in markdown(result)
