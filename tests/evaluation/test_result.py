import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluation.made_up import made_up
from rich.console import Console

from maskris.evaluation.result import Evaluation, align
from maskris.reporting import scores_table, tables_of, to_markdown


def test_scores_follow_from_the_rows():
    result = made_up()
    iou = result.rows["iou"].to_numpy()
    assert result.metrics["N"] == 40
    assert result.metrics["mIoU"] == pytest.approx(iou.mean(), abs=1e-15)
    assert (
        result.metrics["oIoU"] == result.rows["intersection"].to_numpy().sum() / result.rows["union"].to_numpy().sum()
    )
    assert result.metrics["Pr@0.5"] == (iou >= 0.5).mean()
    assert result.metrics["box_accuracy"] == (iou > 0.5).mean()
    assert "gIoU" not in result.metrics
    json.dumps(result.scores.values, allow_nan=False)


@pytest.mark.parametrize("by", ["split", "length", "size", "relative_size", "kind", "category"])
def test_groups_partition_the_rows(by):
    result = made_up()
    groups = result.breakdown(by)
    assert sum(scores.n for scores in groups.values()) == len(result)
    total = sum(scores.n * scores["mIoU"] for scores in groups.values())
    assert total / len(result) == pytest.approx(result.scores["mIoU"], abs=1e-12)


def test_groups_have_the_documented_edges():
    result = made_up()
    assert {name: scores.n for name, scores in result.breakdown("split").items()} == {
        "refcoco unc val": 14, "refcoco unc testA": 13, "refcoco unc testB": 13,
    }  # fmt: skip
    words = result.rows["words"].to_numpy()
    lengths = {"1-2 words": (1, 2), "3 words": (3, 3), "4-5 words": (4, 5), "6-7 words": (6, 7), "8-10 words": (8, 10)}
    lengths["11+ words"] = (11, 99)
    expected = {name: int(((words >= low) & (words <= high)).sum()) for name, (low, high) in lengths.items()}
    assert {name: scores.n for name, scores in result.breakdown("length").items()} == expected
    assert list(result.breakdown("length")) == list(lengths)
    assert {name: scores.n for name, scores in result.breakdown("size").items()} == {
        "small (< 32²)": 10, "medium (32² to 96²)": 20, "large (> 96²)": 10,
    }  # fmt: skip
    assert list(result.breakdown("kind")) == ["(unknown)", "location"]
    assert list(made_up(target_area=np.zeros(40, dtype=int)).breakdown("size")) == ["no referent"]
    with pytest.raises(ValueError, match="choose one of split, length"):
        result.breakdown("color")


@pytest.mark.parametrize("protocol", ["maskris", "cris", "grefcoco"])
def test_saving_keeps_everything(tmp_path, protocol):
    result = made_up(protocol)
    path = result.save(tmp_path / "new" / "result.parquet")
    loaded = Evaluation.load(path)
    assert loaded == result
    assert loaded.scores == result.scores
    assert [file.name for file in path.parent.iterdir()] == ["result.parquet"]
    about = json.loads(pq.read_schema(path).metadata[b"maskris.evaluation"])
    assert about["protocol"]["name"] == protocol
    assert about["model"]["name"] == "toy"


def test_a_relative_name_may_have_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pyarrow would take such a name for a URI
    assert Evaluation.load(made_up().save("refcoco:val.parquet")) == made_up()


def test_other_files_are_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no saved evaluation"):
        Evaluation.load(tmp_path / "a.parquet")


def test_tables_and_markdown_tell_protocol_and_numbers():
    result = made_up()
    console = Console(width=200, record=True)
    for table in tables_of(result):
        console.print(table.to_rich())
    terminal, markdown = console.export_text(), to_markdown(result)
    for text in (terminal, markdown):
        assert "maskris: model input size 32 x 48, argmax, Pr@X is IoU >= X" in text
        assert "model toy" in text
        assert "too long and lost their last words: 3" in " ".join(text.split())
        assert f"{100 * result.scores['mIoU']:.2f}" in text
        assert all(name in text for name in ("refcoco unc testB", "all", "11+ words", "large (> 96²)", "Pr@0.6"))
    row = next(line for line in markdown.splitlines() if line.startswith("| refcoco unc testA"))
    scores = result.breakdown("split")["refcoco unc testA"]
    names = ("oIoU", "mIoU", "Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "box_accuracy")
    numbers = [scores[name] for name in names]
    assert row == f"| refcoco unc testA | 13 | {' | '.join(f'{100 * number:.2f}' for number in numbers)} |"


def test_names_do_not_break_the_tables():
    groups = made_up().breakdown("category")
    console = Console(width=200, record=True)
    console.print(scores_table(groups).to_rich())
    assert "cat | [b]" in console.export_text()
    assert "| cat \\| [b] |" in scores_table(groups).to_markdown()


def test_columns_of_grefcoco_appear_with_empty_targets():
    empty = np.arange(40) % 2 == 0
    target = np.where(empty, 0, 30)
    zero = np.zeros(40, dtype=int)
    columns = {
        "intersection": zero, "target_pixels": target, "target_area": target, "box_intersection": zero,
    }  # fmt: skip
    assert {"gIoU", "N-acc", "T-acc"} <= made_up(**columns).metrics.keys()
    text = to_markdown(made_up("grefcoco", **columns))
    assert "| N | cIoU | gIoU | Pr@0.7 | Pr@0.8 | Pr@0.9 | box acc. | no target | N-acc | T-acc |" in text
    text = to_markdown(made_up("maskris", **columns))
    assert "| oIoU | mIoU |" in text
    assert "| no target | gIoU | N-acc | T-acc |" in text
    assert "N-acc" not in to_markdown(made_up())


def test_numbers_stay_whole_on_a_narrow_terminal():
    console = Console(width=80, record=True)
    result = made_up()
    for table in tables_of(result):
        console.print(table.to_rich())
    text = console.export_text()
    assert "…" not in text
    for scores in result.breakdown("split").values():
        assert " ".join(f"{100 * value:6.2f}" for value in scores.values.values()) in text


def test_rows_are_aligned_with_those_of_the_first():
    first = made_up(n=12)
    order = np.random.default_rng(0).permutation(12)
    shuffled = replace(first, rows=first.rows.take(pa.array(order)))
    assert align([first, shuffled])[1] == first
    assert align([shuffled, first])[1].rows == shuffled.rows


def test_different_expressions_or_protocols_are_not_aligned():
    first = made_up(n=12)
    with pytest.raises(ValueError, match="not of the same expressions: they are of 12 and 11 expressions"):
        align([first, made_up(n=11)])
    with pytest.raises(ValueError, match=r"12 of 12 differ, such as .*'word word '.*'other'"):
        align([first, made_up(n=12, expression=["other"] * 12)])
    with pytest.raises(ValueError, match="different protocols, maskris and cris"):
        align([first, made_up("cris", n=12)])
