"""The index of released checkpoints as claims: each can be measured, and the paper's that repeat them say so."""

import json
import re
from pathlib import Path

import pytest

from maskris.data.published_counts import published_sizes
from maskris.evaluation.metrics import metrics_of
from maskris.evaluation.protocol import PRESETS
from maskris.experiments.authors_claims import choose_released, not_runnable, released_claims
from maskris.experiments.claims import load_claims
from maskris.models.weights.released import released_models

ROOT = Path(__file__).parents[2]


def test_every_number_of_the_index_can_be_measured_or_says_why_not():
    claims = released_claims()
    for name, model in released_models().items():
        for result in model.results:
            assert set(result.values) <= set(published_sizes(result.dataset, result.split_by)), name
            assert all(0 < value < 100 for value in result.values.values()), name
            known = metrics_of(PRESETS[model.protocol or "maskris"])
            assert result.metric in known, (name, result.metric)
        assert model.text in ("sent", "raw")
    for claim in claims:
        assert claim.expressions, claim
        assert (claim.protocol in PRESETS) == (not_runnable(claim) is None), claim
    keys = {(claim.released, claim.data, claim.metric) for claim in claims}
    assert len(keys) == len(claims)
    reasons = {claim.released: not_runnable(claim) for claim in claims}
    assert set(reasons.values()) == {None}, "all of them can be measured"


def test_lavt_read_the_sentences_as_typed_and_caris_the_cleaned_ones():
    for claim in released_claims():
        if claim.protocol:
            network = claim.released.partition("-")[0]
            expected = {"lavt": ("lavt", "raw"), "tris": ("tris", "sent"), "caris": ("maskris", "sent")}
            assert (claim.protocol, claim.text) == expected[network]


def test_the_numbers_are_those_of_the_reference(shared):
    """Tables of Markdown: a row for each variant and split of LAVT, a row for each training of CARIS."""
    text = (shared / "reference" / "released.md").read_text()
    ours = {(claim.released, claim.data, claim.metric): claim.value for claim in released_claims()}
    found = 0
    metrics = ("Pr@0.5", "Pr@0.6", "Pr@0.7", "Pr@0.8", "Pr@0.9", "oIoU", "mIoU")
    for variant, data, numbers in re.findall(r"^\| (lavt\w*)[^|]* \| (\S+ [^|]+) ((?:\| [\d.]+ ){7})\|$", text, re.M):
        *dataset, split = data.lower().replace("testa", "testA").replace("testb", "testB").split()
        dataset = dataset if len(dataset) > 1 else [*dataset, "unc"]
        name = "-".join([variant.replace("_", "-"), *(part for part in dataset if part != "unc")])
        for metric, value in zip(metrics, re.findall(r"[\d.]+", numbers), strict=True):
            assert ours[name, " ".join([*dataset, split]), metric] == float(value), (name, split, metric)
            found += 1
    assert found == sum("lavt" in claim.released for claim in released_claims()) == 126


def test_the_papers_claims_that_were_measured_with_released_files_equal_their_authors_numbers(shared):
    authors = {(claim.released, claim.data, claim.metric): claim for claim in released_claims()}
    tied = [claim for claim in load_claims() if claim.released]
    assert len(tied) == 8 + 3 + 8 + 8
    for claim in tied:
        same = authors[claim.released, claim.data, claim.metric]
        assert claim.value == pytest.approx(same.value, abs=0.0101), claim
        assert (claim.protocol, claim.text) == (same.protocol, same.text)
        assert any("not trained anew" in note for note in claim.uncertain)
        assert not any("trained themselves" in note for note in claim.uncertain)
    combined = json.loads((shared / "reference" / "published.json").read_text())["table1_oIoU_combined"]
    assert [c.value for c in tied if c.method == "CARIS"] == combined["CARIS (reproduced)"]
    # Those of each data set by itself are other models: the authors of MaskRIS trained them.
    own = [c for c in load_claims() if c.method == "CARIS" and not c.released]
    assert len(own) == 8
    assert all(any("trained themselves" in note for note in claim.uncertain) for claim in own)


def test_the_docs_count_what_the_index_holds():
    claims = released_claims()
    checkpoints = len({claim.released for claim in claims})
    text = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())
    assert f"**{len(claims)} numbers of {checkpoints} released checkpoints**" in text


def test_names_choose_claims():
    assert list(choose_released(["lavt-refcoco", "caris-refcoco"])) == ["lavt-refcoco", "caris-refcoco"]
    assert [c.split for c in choose_released(["caris-refcoco"])["caris-refcoco"]] == ["val", "testA", "testB"]
    combined = choose_released(["caris-refcoco-combined"], "refcocog")["caris-refcoco-combined"]
    assert [claim.value for claim in combined] == [67.95, 69.75]
    everything = choose_released(["all"])
    assert "tris-stage2-refcoco" in everything
    assert len(everything) == 14
    assert set(choose_released(["all"], "refcoco+")) == {
        "caris-refcoco+", "caris-refcoco-combined", "lavt-refcoco+", "lavt-one-refcoco+"
    }  # fmt: skip
    assert list(choose_released(["tris-stage2-refcoco"])) == ["tris-stage2-refcoco"]


@pytest.mark.parametrize(
    ("names", "dataset", "message"),
    [
        (["caris-refcocco"], None, "There is no released checkpoint 'caris-refcocco'; did you mean caris-refcoco"),
        (["nothing"], None, r"There is no released checkpoint 'nothing'; `maskris reproduce --list --released all`"),
        (["clipseg"], None, "No published number is known for clipseg; `maskris evaluate` measures it"),
        (["caris-refcoco"], "refcocog", "No published number about refcocog is known for caris-refcoco"),
        (["all"], "coco", "There is no claim of a released checkpoint about coco"),
    ],
)
def test_names_that_choose_nothing(names, dataset, message):
    with pytest.raises(ValueError, match=message):
        choose_released(names, dataset)
