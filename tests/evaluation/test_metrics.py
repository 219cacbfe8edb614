import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from safetensors.numpy import load_file

from maskris.evaluation.metrics import Counts, Metrics, count, labels, metrics_of
from maskris.evaluation.protocol import Protocol, exact
from maskris.reporting import tables_of


def counts(rows):
    """Counts from (intersection, prediction, target) with boxes that never overlap."""
    i, p, t = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return Counts(i, p, t, np.zeros_like(i), np.ones_like(i))


@st.composite
def some_counts(draw):
    rows = []
    for _ in range(draw(st.integers(0, 12))):
        p, t = draw(st.integers(0, 30)), draw(st.integers(0, 30))
        i = draw(st.integers(0, min(p, t)))
        union = draw(st.integers(0, 9))
        overlap = draw(st.integers(0, union)) if p and t else 0  # the box of an empty mask is empty
        rows.append((i, p, t, overlap, union))
    return Counts(*np.array(rows, dtype=np.int64).reshape(-1, 5).T)


def test_golden_metric_of_the_official_code(shared):
    golden = json.loads((shared / "reference/maskris/extras.json").read_text())["metric"]
    tensors = load_file(shared / "reference/maskris/extras.safetensors")
    prediction, target = (torch.from_numpy(tensors[f"metric.{key}"]).bool().view(6, 5, 8) for key in ("pred", "gt"))
    table = Counts.from_tensor(count(prediction, target))
    assert table.intersection.tolist() == golden["I"]
    assert table.union.tolist() == golden["U"]
    finite = [i for i, iou in enumerate(golden["iou"]) if iou is not None]
    np.testing.assert_allclose(table.iou[finite], [golden["iou"][i] for i in finite], rtol=1e-6)

    scores = Metrics("maskris").update(prediction, target).compute()
    assert scores["oIoU"] == pytest.approx(golden["oIoU"] / 100, abs=1e-15)
    for label, value in golden["pr_at"].items():
        assert scores[f"Pr@{label}"] == pytest.approx(value / 100, abs=1e-15)
    # The official mean is NaN; row 3 (nothing to find, nothing found) is a miss here, as it is for their Pr@X.
    assert scores["mIoU"] == pytest.approx((11 / 28 + 1 + 8 / 32) / 6, abs=1e-15)
    assert (scores.n, scores.n_empty) == (6, 2)


def test_counts_pixels_and_boxes():
    prediction, target = torch.zeros(4, 6, 7, dtype=torch.bool), torch.zeros(4, 6, 7, dtype=torch.bool)
    prediction[0, 1:4, 2:6] = True
    target[0, 2:6, 0:4] = True
    target[1, 5, 6] = True
    prediction[3, 0, 0] = prediction[3, 5, 6] = True  # two corners: the box is the whole image
    target[3, 0, 0] = True
    table = Counts.from_tensor(count(prediction, target))
    assert table.intersection.tolist() == [4, 0, 0, 1]
    assert table.prediction.tolist() == [12, 0, 0, 2]
    assert table.target.tolist() == [16, 1, 0, 1]
    assert table.union.tolist() == [24, 1, 0, 2]
    assert table.box_intersection.tolist() == [4, 0, 0, 1]
    assert table.box_union.tolist() == [24, 1, 0, 42]
    assert table.iou.tolist() == [4 / 24, 0, 0, 0.5]
    assert len(Counts.from_tensor(count(prediction[:0], target[:0]))) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_boxes_agree_with_a_plain_search(seed, density):
    masks = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(seed)) < density / 2
    table = Counts.from_tensor(count(masks[0], masks[1]))

    def box(mask):
        inside = {tuple(place) for place in mask.nonzero().tolist()}
        if not inside:
            return set()
        ys, xs = zip(*inside, strict=True)
        return {(y, x) for y in range(min(ys), max(ys) + 1) for x in range(min(xs), max(xs) + 1)}

    for i in range(3):
        a, b = box(masks[0, i]), box(masks[1, i])
        assert (table.box_intersection[i], table.box_union[i]) == (len(a & b), len(a | b))


def test_comparison_is_exact():
    rows = counts([(7, 10, 7), (6, 10, 6), (9, 10, 9), (35, 100, 35), (1, 1, 1)])
    at_least = Metrics(Protocol(thresholds=(0.35, 0.6, 0.7, 0.9))).add(rows).compute().values
    above = Metrics(Protocol(thresholds=(0.35, 0.6, 0.7, 0.9), comparison=">")).add(rows).compute().values
    names = ("Pr@0.35", "Pr@0.6", "Pr@0.7", "Pr@0.9")
    assert [name for name in at_least if name.startswith("Pr@")] == list(names)
    assert [at_least[name] for name in names] == [1.0, 0.8, 0.6, 0.4]
    assert [above[name] for name in names] == [0.8, 0.6, 0.4, 0.2]


def test_sums_do_not_round():
    n = 2**24 + 1  # fp32 sums, as the official code makes them, lose the last pixel
    scores = Metrics().add(counts([(n, n, n), (0, 1, 1), (0, 1, 1)])).compute()
    assert scores["oIoU"] == n / (n + 4)
    assert Metrics().add(counts([(1, 1, 3)] * 3000)).compute()["mIoU"] == 1 / 3


def test_box_accuracy_needs_more_than_half():
    z = np.zeros(3, dtype=np.int64)
    rows = Counts(z, z, z + 1, np.array([5, 6, 0]), np.array([10, 10, 4]))
    assert Metrics().add(rows).compute()["box_accuracy"] == pytest.approx(1 / 3)


# one good prediction, one miss, one false alarm and one rightly empty prediction
MIXED = [(8, 8, 10), (0, 0, 10), (0, 5, 0), (0, 0, 0)]


@pytest.mark.parametrize(
    ("rule", "miou", "oiou", "precision"),
    [("miss", 0.8 / 4, 8 / 25, 1 / 4), ("hit", 1.8 / 4, 8 / 25, 1 / 2), ("exclude", 0.8 / 2, 8 / 20, 1 / 2)],
)
def test_expressions_without_referent(rule, miou, oiou, precision):
    scores = Metrics(Protocol(empty_target=rule, thresholds=(0.7,))).add(counts(MIXED)).compute()
    assert scores["mIoU"] == pytest.approx(miou, abs=1e-15)
    assert scores["oIoU"] == pytest.approx(oiou, abs=1e-15)
    assert scores["Pr@0.7"] == precision
    assert scores["gIoU"] == pytest.approx(1.8 / 4, abs=1e-15)
    assert (scores.n, scores.n_empty, scores["N-acc"], scores["T-acc"]) == (4, 2, 0.5, 0.5)


def test_a_referent_lost_in_resizing_is_a_miss():
    scores = Metrics("grefcoco").add(counts([(0, 0, 0)]), has_target=np.array([True])).compute()
    assert (scores["mIoU"], scores.n_empty, scores.values.get("N-acc")) == (0.0, 0, None)


@pytest.mark.parametrize("name", ["maskris", "lavt", "cris", "grefcoco"])
def test_nothing_at_all_is_well_defined(name):
    scores = Metrics(name).compute()
    assert scores.n == 0
    assert {*scores.values.values(), scores.values.get("gIoU")} == {None}
    json.dumps(scores.values, allow_nan=False)
    both_empty = Metrics(name).add(counts([(0, 0, 0)])).compute()
    assert both_empty["oIoU"] is None
    assert both_empty["mIoU"] == (1.0 if name == "grefcoco" else 0.0)


@settings(max_examples=60, deadline=None)
@given(some_counts(), some_counts(), some_counts(), st.sampled_from(["maskris", "cris", "grefcoco"]))
def test_merging_equals_a_single_pass(a, b, c, name):
    ma, mb, mc = (Metrics(name).add(part) for part in (a, b, c))
    whole = Metrics(name).add(a).add(b).add(c).compute()
    assert ma.merge(mb, mc).compute() == whole
    assert ma.merge(mb.merge(mc)).compute() == whole
    assert mc.merge(ma).merge(mb).compute() == whole
    assert ma.compute() == Metrics(name).add(a).compute()  # merging changes none of its parts
    if whole.n and name == "maskris":
        ious = [Fraction(x) for part in (a, b, c) for x in part.iou.tolist()]
        assert whole["mIoU"] == float(sum(ious) / len(ious))


def defined(counts, exists, protocol):
    """Every metric by its definition, one expression at a time, in fractions."""
    rule, total = protocol.empty_target, len(counts)
    ious, unions = [], []
    for i, p, t in zip(counts.intersection.tolist(), counts.prediction.tolist(), counts.target.tolist(), strict=True):
        unions.append(p + t - i)
        ious.append(Fraction(i, unions[-1]) if unions[-1] else Fraction(0))
    empty = [not there and p == 0 for there, p in zip(exists, counts.prediction.tolist(), strict=True)]
    targets = [n for n in range(total) if exists[n]]
    kept = targets if rule == "exclude" else range(total)
    shared = range(total) if rule == "miss" else targets

    def share(hits, of):
        return Fraction(sum(map(bool, hits)), len(of)) if len(of) else None

    def reaches(n, x):
        return unions[n] > 0 and (ious[n] >= x if protocol.comparison == ">=" else ious[n] > x)

    boxes = [Fraction(int(i), max(int(u), 1)) for i, u in zip(counts.box_intersection, counts.box_union, strict=True)]
    below = sum(unions[n] for n in kept)
    found = {
        "oIoU": Fraction(sum(counts.intersection[list(kept)].tolist()), below) if below else None,
        "mIoU": sum(1 if rule == "hit" and empty[n] else ious[n] for n in kept) / Fraction(len(kept)) if kept else None,
        **{f"Pr@{x:g}": share([reaches(n, exact(x)) for n in shared], shared) for x in protocol.thresholds},
        "box_accuracy": share([boxes[n] > Fraction(1, 2) for n in shared], shared),
    }
    if len(targets) < total:
        found["gIoU"] = sum((1 if empty[n] else ious[n]) for n in range(total)) / Fraction(total)
        found["N-acc"] = share(empty, [n for n in range(total) if not exists[n]])
        found["T-acc"] = share([counts.prediction[n] > 0 for n in targets], targets)
    return found


@settings(max_examples=100, deadline=None)
@given(some_counts(), st.sampled_from(["miss", "hit", "exclude"]), st.sampled_from([">=", ">"]))
def test_every_metric_is_what_its_definition_says(counts, rule, comparison):
    protocol = Protocol(empty_target=rule, comparison=comparison, thresholds=(0.25, 0.5, 0.7))
    scores = Metrics(protocol).add(counts).compute()
    expected = defined(counts, counts.target > 0, protocol)
    assert list(scores.values) == list(expected)
    for key, value in scores.values.items():
        wanted = None if expected[key] is None else float(expected[key])
        assert value == (wanted if wanted is None else pytest.approx(wanted, abs=1e-15)), key
    assert set(labels(protocol)) <= set(metrics_of(protocol))


def test_two_protocols_do_not_merge():
    with pytest.raises(ValueError, match="two protocols"):
        Metrics("maskris").merge(Metrics("cris"))


def test_wrong_masks_and_counts_are_refused():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="must be bool"):
        Metrics().update(mask.float(), mask)
    with pytest.raises(ValueError, match=r"\[1, 4, 4\] and target \[1, 4, 5\]"):
        Metrics().update(mask, torch.zeros(1, 4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="expression 1 contradict"):
        counts([(1, 1, 1), (5, 4, 9)])
    with pytest.raises(ValueError, match="one length"):
        Counts(*(np.zeros(n, dtype=np.int64) for n in (1, 1, 1, 1, 2)))


def test_scores_print_as_a_table():
    console = Console(width=200, record=True)
    (table,) = tables_of(Metrics("grefcoco").add(counts(MIXED)).compute())
    console.print(table.to_rich())
    text = console.export_text()
    assert "gIoU" in text
    assert "45.00" in text
    assert "grefcoco: model input size, argmax" in text
