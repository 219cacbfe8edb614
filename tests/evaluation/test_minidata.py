"""On the synthetic RefCOCO folder the `maskris` protocol gives what both official evaluators print."""

import json
import pickle

import pytest
import torch
from golden import reference, tiny_caris

from maskris.data.masks import from_segmentation
from maskris.data.table import ReferringTable
from maskris.evaluation.evaluator import evaluate
from maskris.evaluation.metrics import Counts, Metrics
from maskris.evaluation.result import Evaluation


@pytest.fixture(scope="module")
def table(shared):
    """Read with a few plain lines of its own, so that a fault of the readers can't hide here."""
    folder = shared / "reference" / "maskris" / "minidata"
    with (folder / "refcoco" / "refs(unc).p").open("rb") as file:
        refs = pickle.load(file)
    instances = json.loads((folder / "refcoco" / "instances.json").read_text())
    annotations = {entry["id"]: entry for entry in instances["annotations"]}
    images = {entry["id"]: entry for entry in instances["images"]}
    rows = []
    for ref in refs:
        image = images[ref["image_id"]]
        size = {"height": image["height"], "width": image["width"]}
        segmentation = annotations[ref["ann_id"]]["segmentation"]
        rows.append(
            {
                "dataset": "refcoco", "split_by": "unc", "split": ref["split"], "image_id": ref["image_id"],
                "ref_id": ref["ref_id"], "ann_ids": [ref["ann_id"]], "image": image["file_name"], **size,
                "expressions": [sentence["sent"] for sentence in ref["sentences"]],
                "mask": from_segmentation(segmentation, **size),
            }
        )  # fmt: skip
    return ReferringTable.from_rows(rows, folder / "train2014")


@pytest.fixture(scope="module")
def result(shared, table):
    model = tiny_caris(shared, keep_end_token=False)  # as the official data sets cut too long sentences
    result = evaluate(model, table.split(["val", "testA"]), "maskris", batch_size=5, progress=False)
    assert result.settings["truncated"] > 0
    return result


@pytest.mark.parametrize("split", ["val", "testA"])
def test_every_expression_has_the_official_pixels(shared, result, split):
    listed = reference(shared, "minidata.json")[split]
    rows = [row for row in result.rows.to_pylist() if row["split"] == split]
    assert [row["ref_id"] for row in rows] == [sample["ref_id"] for sample in listed]
    columns = {"intersection": "I", "union": "U", "prediction_pixels": "pred_pixels", "target_pixels": "mask_pixels"}
    for ours, theirs in columns.items():
        # Equal where this was written; a few logits lie within 1e-6 of 0, and another processor may round them apart.
        assert [row[ours] for row in rows] == pytest.approx([sample[theirs] for sample in listed], abs=2), ours
    assert [row["target_pixels"] for row in rows] == [sample["mask_pixels"] for sample in listed]
    assert [row["iou"] for row in rows] == pytest.approx([sample["iou"] for sample in listed], abs=1e-3)


@pytest.mark.parametrize("split", ["val", "testA"])
@pytest.mark.parametrize("evaluator", ["util.misc", "eval"])
def test_printed_numbers(shared, result, split, evaluator):
    scores = result.breakdown("split")[f"refcoco unc {split}"]
    printed = [line for line in reference(shared, "minidata.json")[f"{split}.{evaluator}.batch_evaluate"] if line]
    assert printed == official_print(scores)


@pytest.mark.parametrize("split", ["val", "testA"])
def test_listed_counts_alone_give_the_printed_numbers(shared, split):
    listed = reference(shared, "minidata.json")
    columns = ([sample[key] for sample in listed[split]] for key in ("I", "pred_pixels", "mask_pixels"))
    intersection, prediction, target = (torch.tensor(column).numpy() for column in columns)
    counts = Counts(intersection, prediction, target, 0 * intersection, 0 * intersection)
    assert counts.union.tolist() == [sample["U"] for sample in listed[split]]
    scores = Metrics("maskris").add(counts).compute()
    assert official_print(scores) == [line for line in listed[f"{split}.eval.batch_evaluate"] if line]


def test_a_split_without_expressions(shared, table):
    """The official evaluators print NaN for testB; here there is a result that says so."""
    assert "testB" not in table.splits
    empty = evaluate(tiny_caris(shared), table.take([]), progress=False)
    assert (empty.scores.n, empty.scores["oIoU"]) == (0, None)


def test_saved_result_gives_the_same_numbers(result, tmp_path):
    assert Evaluation.load(result.save(tmp_path / "result.parquet")).metrics == result.metrics


def official_print(scores):
    """Our scores in the words of the official evaluators."""
    precision = [f"    precision@{x} = {100 * scores[f'Pr@{x}']:.2f}" for x in ("0.5", "0.7", "0.9")]
    return [f"Mean IoU is {100 * scores['mIoU']:.2f}", *precision, f"    overall IoU = {100 * scores['oIoU']:.2f}"]
