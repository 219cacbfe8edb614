import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from maskris.evaluation.binarization import binarize, point
from maskris.evaluation.evaluator import evaluate
from maskris.evaluation.metrics import Counts, Outcomes, Scores, count
from maskris.evaluation.protocol import Protocol

PEAK = Protocol("peak score", resolution="original", map="score", binarization="peak", threshold=0.25)


def test_published_metrics_of_response_maps(shared):
    """The official validation of TRIS on six expressions: rectified maps at the photos' size, with their numbers."""
    folder = shared / "reference" / "weak"
    case, official = load_file(folder / "tris_case.safetensors"), json.loads((folder / "tris_case.json").read_text())
    maps = {name.split("/")[1]: value for name, value in case.items() if name.startswith("validate_cam/")}
    targets = torch.stack([case[f"val{name[0]}_mask"] > 0 for name in maps])
    scores = torch.stack(list(maps.values()))
    assert len(maps) == 6
    assert [len(values.unique()) for values in maps.values()].count(1) == 2  # empty maps, peaked at (0, 0)
    protocol = Protocol.of("tris")
    peaks = point(scores, targets).numpy()
    counts = Counts.from_tensor(count(binarize(scores, protocol), targets))
    found = Scores.of(Outcomes(counts, counts.target > 0, protocol, *peaks.T))
    overall, mean, in_box = official["validate_oIoU_mIoU_hitBox"]
    on_mask = float(official["validate_line"].split("HitM")[1].split()[0])
    assert 100 * found["oIoU"] == pytest.approx(overall, abs=1e-4)
    assert 100 * found["mIoU"] == pytest.approx(mean, abs=1e-4)
    assert 100 * found["PointIt"] == pytest.approx(in_box)
    assert 100 * found["PointM"] == pytest.approx(on_mask, abs=1e-3)


def test_published_masks_of_patch_attention(shared):
    """SaG resizes its map of patches in one step and takes what lies in the upper half of its range."""
    case = load_file(shared / "reference" / "weak" / "sag_case.safetensors")
    for number, patches in enumerate(case["mask_map"]):
        official = case[f"mask{number}_binary"]
        photo = torch.nn.functional.interpolate(patches[None, None], size=official.shape, mode="bilinear")[0]
        assert binarize(photo, Protocol.of("sag"))[0].equal(official)
        assert 0 < official.float().mean() < 1


@given(seed=st.integers(0, 999), share=st.sampled_from([0.25, 0.5, 0.9]), shift=st.sampled_from([-9.0, 0.0, 3.0]))
def test_rules_by_hand(seed, share, shift):
    scores = torch.from_numpy(np.random.default_rng(seed).normal(shift, 2, (3, 4, 5))).float()
    probabilities = scores.sigmoid()
    rule = {"threshold": share, "resolution": "original"}
    by_range = binarize(probabilities, Protocol("", binarization="range", **rule))
    by_peak = binarize(probabilities, Protocol("", binarization="peak", **rule))
    rectified = binarize(scores, Protocol("", binarization="peak", map="score", **rule))
    for i, values in enumerate(probabilities.numpy()):
        low, high = values.min(), values.max()
        assert np.array_equal(by_range[i].numpy(), (values - low) / (high - low + 1e-9) >= np.float32(share))
        assert np.array_equal(by_peak[i].numpy(), values > np.float32(share) * high)
        positive = scores[i].clamp(min=0).numpy()
        assert np.array_equal(rectified[i].numpy(), positive > np.float32(share) * positive.max())
    assert binarize(scores, Protocol.of("tris-empty")).equal(scores > 0)


@pytest.mark.parametrize("rule", [Protocol.of("tris"), PEAK])
def test_all_negative_maps(rule):
    """As where a map is divided by peak + 1e-5: its sign turns if the peak lies below -1e-5."""
    maps = torch.tensor([[[-3.0, -1.0]], [[-3.0, 0.0]], [[-3.0, -5e-6]], [[-3.0, 2.0]]])
    published = maps / (maps.amax((1, 2), keepdim=True) + 1e-5) > 1e-9
    whole = Protocol.from_dict({**rule.to_dict(), "all_negative": "whole"})
    empty = Protocol.from_dict({**rule.to_dict(), "all_negative": "empty"})
    assert binarize(maps, whole).equal(published)
    assert binarize(maps, empty).tolist() == [[[False, False]]] * 3 + [[[False, True]]]
    assert binarize(maps[:0], whole).shape == (0, 1, 2)


def test_the_peak_is_the_first_of_equal_ones_and_borders_are_inside():
    maps = torch.zeros(4, 5, 6)
    maps[0, 2, 3] = maps[0, 4, 5] = 1.0
    maps[1, 1, 1] = 1.0
    maps[2, 3, 5] = 1.0
    targets = torch.zeros(4, 5, 6, dtype=torch.bool)
    targets[0, 2, 3] = True
    targets[1, 1, 4] = targets[1, 3, 1] = True  # a box from (1, 1) to (3, 4), whose corner is not on the mask
    targets[2, 1:4, 1:5] = True
    assert point(maps, targets).tolist() == [[True, True], [False, True], [False, False], [False, False]]


def test_evaluations_measure_peaks_where_the_protocol_says_so(table, model):
    """The toy's peaks lie on its referents. A sure model has the same ones, though its probabilities are all 1.0."""
    found = {name: evaluate(model, table, name, progress=False) for name in ("peak", "tris", "original")}
    assert "PointM" not in found["original"].metrics
    assert found["original"].rows["peak_on_mask"].null_count == len(found["original"])
    for name in ("peak", "tris"):
        metrics = found[name].metrics
        assert 0.5 < metrics["PointM"] <= metrics["PointIt"] <= 1
        assert metrics["PointM"] == np.mean(found[name].rows["peak_on_mask"].to_pylist())
    with torch.no_grad():
        model.scale.mul_(128)
    sure = evaluate(model, table, "peak", progress=False)
    assert sure.rows["peak_on_mask"].equals(found["peak"].rows["peak_on_mask"])


def test_maps_are_enlarged_as_the_protocol_says(table, color_model):
    model = color_model((12, 10))
    rules = {
        "maps": Protocol("a", resolution="original", map="score"),
        "corners": Protocol("b", resolution="original", map="score", align_corners=True),
        "direct": Protocol("c", resolution="original", map="score", enlarge="direct"),
    }
    rows = {name: evaluate(model, table, rule, progress=False).rows["intersection"] for name, rule in rules.items()}
    assert rows["maps"].equals(rows["direct"])  # its maps are already at the size of its input
    assert not rows["maps"].equals(rows["corners"])
    with pytest.raises(ValueError, match="this one has a letterbox"):
        evaluate(color_model(resize="letterbox"), table, "sag", progress=False)


def test_the_published_list_repeats_expressions(table, model):
    found = evaluate(model, table, "sag", progress=False)
    assert "exactly 10,000" in found.notes[0]
    n = len(found)
    listed = found.listed(2 * n + 1)
    assert len(listed) == 2 * n + 1
    expected = (2 * found.metrics["mIoU"] * n + found.rows["iou"][0].as_py()) / (2 * n + 1)
    assert listed.metrics["mIoU"] == pytest.approx(expected)
    assert found.listed(n).rows.equals(found.rows)
    with pytest.raises(ValueError, match="Can't list 0"):
        found.listed(0)
