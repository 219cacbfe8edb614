import math
import multiprocessing
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import distributed

from maskris.batch import Batch
from maskris.data.table import ReferringTable
from maskris.evaluation.evaluator import evaluate
from maskris.evaluation.protocol import Protocol
from maskris.evaluation.result import SCHEMA, Evaluation
from maskris.reporting import to_markdown
from maskris.robustness.occlusion import PatchOcclusion


def by_hand(table, model, protocol):
    """Intersection, prediction and target pixels of every expression, one at a time."""
    rows = []
    for row in range(len(table)):
        referent = table.row(row)
        photo = Image.open(table.image_path(row))
        image = model.preprocess.image(photo).float() / 255
        for expression in referent.expressions:
            channel = next(i for i, color in enumerate(("red", "green", "blue")) if color in expression)
            probability = torch.sigmoid(8 * (image[channel] - 0.5))
            target = model.preprocess.mask(table.mask(row)).numpy() > 0.5
            if protocol.resolution == "original":
                probability = model.preprocess.restore(probability[None], (photo.height, photo.width))[0]
                target = table.mask(row)
            threshold = 0.5 if protocol.binarization == "argmax" else protocol.threshold
            mask = probability.numpy() > threshold
            rows.append((int((mask & target).sum()), int(mask.sum()), int(target.sum())))
    return rows


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("name", ["maskris", "cris"])
def test_rows_agree_with_a_calculation_by_hand(table, color_model, name, resize, channels):
    model = color_model(channels=channels, resize=resize)
    protocol = Protocol.of(name)
    result = evaluate(model, table, name, progress=False)
    columns = ("intersection", "prediction_pixels", "target_pixels")
    got = list(zip(*(result.rows[column].to_pylist() for column in columns), strict=True))
    assert got == by_hand(table, model, protocol)
    assert 0.5 < result.metrics["mIoU"] < 1  # the toy is neither trivial nor hopeless

    assert result.rows.schema == SCHEMA
    pairs = [
        (r.ref_id, n, r.expressions[n]) for r in map(table.row, range(len(table))) for n in range(len(r.expressions))
    ]
    rows = result.rows.to_pylist()
    assert [(row["ref_id"], row["number"], row["expression"]) for row in rows] == pairs
    for row in rows:
        assert row["union"] == row["prediction_pixels"] + row["target_pixels"] - row["intersection"]
        assert row["iou"] == row["intersection"] / row["union"]
        assert row["words"] == len(row["expression"].split())
        assert 0.5 <= row["score"] <= 1
    assert result.metrics["mIoU"] == pytest.approx(np.mean([row["iou"] for row in rows]), abs=1e-12)
    if name == "cris":
        assert result.rows["target_pixels"].equals(result.rows["target_area"])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 40), protocol=st.sampled_from(["maskris", "cris"]))
def test_packing_does_not_change_anything(table, model, batch_size, protocol):
    assert evaluate(model, table, protocol, batch_size=batch_size, progress=False).rows.equals(
        evaluate(model, table, protocol, batch_size=1000, progress=False).rows
    )


def test_every_image_is_encoded_once(table, model):
    images = len(table.by_image())
    assert table.num_expressions > len(table) > images
    evaluate(model, table, batch_size=9, progress=False)
    assert model.encoded == images


def one_of(batch):
    return Batch(batch.images, *(values[:1] for values in (batch.input_ids, batch.attention_mask, batch.image_index)))


def one_of_two(rank, folder, model):
    torch.set_num_threads(1)  # a forked process has no other threads of OpenMP to wait for
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    table = ReferringTable.open(folder / "table.parquet")
    evaluate(model, table, batch_size=4, progress=False).save(folder / f"rank{rank}.parquet")
    distributed.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="forks after threads were started")
def test_two_processes_give_what_one_gives(table, model, tmp_path):
    table.save(tmp_path / "table.parquet")
    fork = multiprocessing.get_context("fork")  # spares two imports of everything
    both = [fork.Process(target=one_of_two, args=(rank, tmp_path, model)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    alone = evaluate(model, table, progress=False)
    for rank in (0, 1):
        result = Evaluation.load(tmp_path / f"rank{rank}.parquet")
        assert result.rows.equals(alone.rows)
        assert result.scores == alone.scores


def test_modes_are_restored_even_after_an_error(table, model):
    model.train()
    model.frozen = torch.nn.BatchNorm1d(1).eval()
    evaluate(model, table, progress=False)
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)

    def fail(batch, origin):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        evaluate(model, table, perturb=fail, progress=False)
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)


@pytest.mark.parametrize("protocol", ["maskris", "cris"])
def test_perturbation_sees_a_batch_and_where_it_comes_from(table, model, protocol):
    seen, texts = {}, {}

    def blacken(batch, origin):
        assert batch.images.dtype == torch.uint8
        assert batch.masks.shape == (len(batch), 24, 32)
        seen.update(zip(origin.image_ids, batch.images, strict=True))
        for n, (ref_id, number) in enumerate(zip(origin.ref_ids, origin.numbers, strict=True)):
            texts[ref_id, number] = origin.expressions[n], origin.image_ids[batch.image_index[n]]
        return replace(batch, images=torch.zeros_like(batch.images))

    result = evaluate(model, table, protocol, perturb=blacken, progress=False)
    for row in result.rows.to_pylist():
        assert texts[row["ref_id"], row["number"]] == (row["expression"], row["image_id"])
    assert len(texts) == len(result)
    assert sorted(seen) == sorted(set(result.rows["image_id"].to_pylist()))
    for row in range(len(table)):
        photo = Image.open(table.image_path(row))
        assert torch.equal(seen[table.row(row).image_id], model.preprocess.image(photo))
    assert sum(result.rows["prediction_pixels"].to_pylist()) == 0
    assert result.metrics["mIoU"] == 0


def test_a_perturbation_may_give_every_expression_a_picture_but_lose_none(table, model):
    def one_each(batch, origin):
        return replace(batch, images=batch.images[batch.image_index], image_index=torch.arange(len(batch)))

    assert evaluate(model, table, perturb=one_each, progress=False).rows.equals(
        evaluate(model, table, progress=False).rows
    )
    assert model.encoded == table.num_expressions + len(table.by_image())
    with pytest.raises(ValueError, match="every one must stay in its place"):
        evaluate(model, table, perturb=lambda batch, origin: one_of(batch), progress=False)


def test_occlusion_lowers_the_scores_whatever_the_batches(table, model):
    occluded = [
        evaluate(model, table, perturb=PatchOcclusion(0.5, 4), batch_size=size, progress=False) for size in (5, 50)
    ]
    assert occluded[0].rows.equals(occluded[1].rows)
    assert occluded[0].metrics["mIoU"] < evaluate(model, table, progress=False).metrics["mIoU"] - 0.1
    assert "PatchOcclusion(ratio=0.5" in occluded[0].settings["perturbation"]


def test_expressions_without_referent(toy_table, model, tmp_path):
    table = toy_table(tmp_path, seed=1, images=6, empty_every=3)
    loud = evaluate(model, table, "grefcoco-original", progress=False)
    empty = [row for row in loud.rows.to_pylist() if row["target_area"] == 0]
    assert loud.scores.n_empty == len(empty) > 0
    assert (loud.metrics["N-acc"], loud.metrics["T-acc"]) == (0.0, 1.0)
    assert {row["iou"] for row in empty} == {0.0}

    # A prediction of fewer pixels than the protocol asks for is none at all.
    deaf = evaluate(model, table, Protocol("deaf", empty_target="hit", minimum_pixels=10**6), progress=False)
    assert (deaf.scores["N-acc"], deaf.scores["T-acc"], deaf.scores["oIoU"]) == (1.0, 0.0, 0.0)
    assert deaf.metrics["mIoU"] == len(empty) / len(deaf)
    assert {row["iou"] for row in deaf.rows.to_pylist() if row["target_area"] == 0} == {1.0}

    without = evaluate(model, table, Protocol("without", empty_target="exclude"), progress=False)
    assert without.rows["iou"].null_count == len(empty)


@pytest.mark.parametrize("name", ["grefcoco", "grefcoco-original"])
def test_grefcoco_by_hand(toy_table, model, tmp_path, name):
    """From photos to the four numbers; published at the model's input size, ours also at the photo's."""
    table = toy_table(tmp_path, seed=1, images=6, empty_every=3)
    result = evaluate(model, table, name, progress=False)
    counted = by_hand(table, model, Protocol.of(name))
    counted = [(i, p, t) if p >= 50 else (0, 0, t) for i, p, t in counted]
    exists = result.rows["target_area"].to_numpy() > 0
    ious = [i / (p + t - i) if e else float(p == 0) for (i, p, t), e in zip(counted, exists, strict=True)]
    empty = [p == 0 for (_, p, _), e in zip(counted, exists, strict=True) if not e]
    found = [p > 0 for (_, p, _), e in zip(counted, exists, strict=True) if e]
    assert 0 < sum(empty) < len(empty) or name == "grefcoco-original", "the smaller input has masks under 50 pixels"
    expected = {
        "gIoU": np.mean(ious),
        "oIoU": sum(i for i, _, _ in counted) / sum(p + t - i for i, p, t in counted),
        "N-acc": np.mean(empty),
        "T-acc": np.mean(found),
        "Pr@0.7": np.mean([iou >= 0.7 for iou, e in zip(ious, exists, strict=True) if e]),
    }
    assert {key: result.metrics[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    sizes = result.rows["target_pixels"].equals(result.rows["target_area"])
    assert sizes is (name == "grefcoco-original")


def test_a_table_without_rows_gives_no_numbers(table, model):
    result = evaluate(model, table.take([]), progress=False)
    assert len(result) == 0
    assert result.rows.schema == SCHEMA
    assert (result.scores.n, result.scores["mIoU"]) == (0, None)
    assert result.metrics["N"] == 0
    assert math.isnan(result.metrics["oIoU"])
    assert "no expression" in to_markdown(result)


def test_half_precision_stays_close(table, model):
    exact = evaluate(model, table, progress=False)
    half = evaluate(model, table, precision="bf16", progress=False)
    assert half.settings["precision"] == "bf16"
    assert half.metrics["oIoU"] == pytest.approx(exact.metrics["oIoU"], abs=0.05)
    with pytest.raises(ValueError, match="fp32, bf16 or fp16"):
        evaluate(model, table, precision="int8", progress=False)


def test_what_must_be_said_beside_the_numbers(table, color_model):
    first, *others = (row | {"text": "sent"} for row in table.to_pylist())
    rows = [first | {"mask_source": "pseudo", "mask_origin": "a 01; threshold:0.5"}, *others]
    known = ReferringTable.from_rows(rows, table.images_root)
    assert evaluate(color_model(), table, "lavt", progress=False).notes == []  # of its source's only sentences
    made = f"the masks of 1 of {len(table)} referents are pseudo masks, made by a model (a 01; threshold:0.5) and "
    made += "annotated by nobody"
    texts = "the sentences are the cleaned ones (sent), those of the published evaluation those as typed (raw)"
    size = "the published evaluation is at 480 x 480, stretched"
    for protocol, expected in {
        "maskris": [made, size.replace("480", "448")],
        "lavt": [made, texts, size],
        "cris": [made],
        "grefcoco": [made, texts, size],
        "grefcoco-original": [made],
    }.items():
        result = evaluate(color_model(), known, protocol, progress=False)
        assert result.notes == expected
        assert all(part.notes == expected for part in result.parts("split").values())
    assert result.data["mask_sources"] == {"pseudo": 1, "annotated": len(table) - 1}
    published = replace(result, protocol=Protocol.of("maskris"), model={"input_size": [448, 448], "preprocess": {}})
    assert replace(published, model=published.model | {"preprocess": {"resize": "stretch"}}).notes == [made]
    assert published.notes == [made, size.replace("480", "448")]


def test_workers_change_nothing(table, model):
    assert evaluate(model, table, workers=1, progress=False).rows.equals(evaluate(model, table, progress=False).rows)


def test_unknown_masks_are_refused(table, model):
    rows = [{**row, "mask_source": "none" if row["ref_id"] == 102 else "annotated"} for row in table.to_pylist()]
    with pytest.raises(ValueError, match=r"1 referents have no mask .* row 2 \(ref_id 102\)"):
        evaluate(model, type(table).from_rows(rows, table.images_root), progress=False)
