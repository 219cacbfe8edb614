"""The paper's claims are those of the reference, and a claims file can't say what makes no sense."""

import json
import re
from pathlib import Path

import pytest
import yaml

from maskris.experiments.claims import Claim, ClaimError, load_claims, shipped_claims
from maskris.experiments.recipe import find

ROOT = Path(__file__).parents[2]
SPLITS = [
    *(("refcoco", "unc", split) for split in ("val", "testA", "testB")),
    *(("refcoco+", "unc", split) for split in ("val", "testA", "testB")),
    *(("refcocog", "umd", split) for split in ("val", "test")),
]
ENTRY = {
    "method": "Tiny", "dataset": "refcoco", "split_by": "unc", "metric": "oIoU", "source": "a test",
    "protocol": "maskris", "recipe": "refcoco-maskris", "values": {"val": 50.0},
}  # fmt: skip


def by_meaning(claims):
    """Values by (method, is it of combined training, metric, data)."""
    values = {}
    for claim in claims:
        key = (claim.method, "combined" in claim.source, claim.metric, (claim.dataset, claim.split_by, claim.split))
        values.setdefault(key, []).append((claim.value, claim.source))
    return values


def listed(shared):
    """Every cell of Tables 1 and 2 in the reference, by the same keys."""
    reference = json.loads((shared / "reference" / "published.json").read_text())
    assert len(reference["columns"]) == len(SPLITS)
    cells = []
    for table, combined, metric in (
        ("table1_mIoU", False, "mIoU"),
        ("table1_oIoU", False, "oIoU"),
        ("table1_oIoU_combined", True, "oIoU"),
    ):
        for method, values in reference[table].items():
            name = re.sub(r" \(reproduced.*\)", "", method)
            cells += [((name, combined, metric, data), v, "1") for data, v in zip(SPLITS, values, strict=True)]
    for part, values_of in reference["table2_compatibility_RefCOCO"].items():
        if part != "encoders":
            for method, values in values_of.items():
                name = "MaskRIS" if method == "CARIS+MaskRIS" else method.replace("+", " + ")
                metric = part.partition("_")[2]
                cells += [((name, False, metric, data), v, "2") for data, v in zip(SPLITS[:3], values, strict=True)]
    return cells


def test_every_number_is_that_of_the_reference_and_none_is_missing(shared):
    ours, cells = by_meaning(load_claims()), listed(shared)
    for key, value, table in cells:
        matches = [source for number, source in ours[key] if number == value]
        assert len(matches) == 1, (key, value, ours[key])
        assert table in matches[0], (key, matches)
    assert set(ours) == {key for key, _, _ in cells}
    assert sum(len(claims) for claims in ours.values()) == len({(key, value) for key, value, _ in cells})


def test_the_sixteen_claims_of_the_abstract():
    def claimed(recipe, dataset, metric="oIoU"):
        return [
            claim.value
            for claim in load_claims()
            if (claim.method, claim.recipe, claim.dataset, claim.metric) == ("MaskRIS", recipe, dataset, metric)
        ]

    assert claimed("refcoco-maskris", "refcoco") == [76.49, 78.96, 73.96]
    assert claimed("refcoco+-maskris", "refcoco+") == [67.54, 74.46, 59.39]
    assert claimed("refcocog-umd-maskris", "refcocog") == [65.55, 66.50]
    assert claimed("combined-maskris", "refcoco") == [78.71, 80.64, 75.10]
    assert claimed("combined-maskris", "refcoco+") == [70.26, 75.15, 62.83]
    assert claimed("combined-maskris", "refcocog") == [69.12, 71.09]
    assert claimed("refcoco-maskris", "refcoco", "mIoU") == [78.35, 80.24, 76.06]


def test_the_shipped_claims_name_what_is_there():
    claims = load_claims()
    assert all(claim.uncertain for claim in claims)
    content = yaml.safe_load(shipped_claims().read_text(encoding="utf-8"))
    used = {name for entry in content["claims"] for name in entry["uncertain"]} | set(content["always"])
    assert used == set(content["notes"])
    assert {claim.protocol for claim in claims if claim.recipe} == {"maskris", "lavt", "cris", "tris"}
    assert {claim.recipe for claim in claims if claim.method in ("SaG", "SaG + MaskRIS", "CGFormer")} == {None}
    (val,) = (c for c in claims if (c.recipe, c.metric, c.split) == ("refcoco-maskris", "oIoU", "val"))
    assert (val.expressions, val.data) == (10_834, "refcoco unc val")


def test_recipes_repeat_the_claims_in_their_heads():
    """What a recipe says about itself is what the file of claims says."""
    for claim in load_claims():
        if claim.recipe and claim.metric == ("oIoU" if claim.protocol != "cris" else "mIoU"):
            head = find(claim.recipe).read_text(encoding="utf-8").split("\nmodel:")[0]
            assert f"{claim.value:.2f}" in head, (claim.recipe, claim.split, claim.value)


def test_wheels_and_archives_hold_the_file():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"results" = "maskris/results"' in text
    assert '"results"' in re.search(r"targets\.sdist\]\ninclude = (\[.*?\])", text, re.DOTALL)[1]
    assert shipped_claims().is_file()


def write(path, *entries, **top):
    path.write_text(yaml.safe_dump({"claims": list(entries), **top}))
    return path


def test_a_file_of_ones_own(tmp_path):
    own = ENTRY | {"dataset": "mine", "split_by": "", "metric": "Pr@0.7", "protocol": "cris", "expressions": {"val": 7}}
    file = write(tmp_path / "c.yaml", ENTRY, own | {"uncertain": ["why"]}, notes={"why": "Because."})
    first, second = load_claims(file)
    common = {key: value for key, value in ENTRY.items() if key != "values"}
    assert first == Claim(**common, split="val", value=50.0, expressions=10_834)
    assert second.uncertain == ("Because.",)
    assert (second.data, second.expressions) == ("mine val", 7)
    unsupported = ENTRY | {"recipe": None, "protocol": None, "dataset": "mine"}
    assert load_claims(write(file, unsupported))[0].expressions is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": {"val": 1}}, "Claim 2 has the unknown key numbers; known are method, dataset"),
        ({"metric": None}, "Claim 2: metric must be text, not None"),
        ({"protocol": "coco"}, "Claim 2: there is no protocol 'coco'; choose one of maskris, lavt, original, cris"),
        ({"protocol": None}, "Claim 2: with a recipe, name the protocol to measure by"),
        ({"metric": "Pr@0.55"}, "Claim 2: there is no metric 'Pr@0.55'; choose one of oIoU, mIoU, Pr@0.5"),
        ({"recipe": "refcoco-maskri"}, "Claim 2: There is no recipe 'refcoco-maskri'.* did you mean refcoco-maskris"),
        ({"recipe": 3}, "Claim 2: recipe must be text or null, not 3"),
        ({"uncertain": ["why"]}, "Claim 2: there is no note why; notes are sure"),
        ({"uncertain": "why"}, "Claim 2: uncertain must be a list, not 'why'"),
        ({"values": {"testA": "high"}}, "Claim 2: testA must be a number in per cent, not 'high'"),
        ({"values": {"testA": 101}}, "Claim 2: testA must be a number in per cent, not 101"),
        ({"values": {"testA": True}}, "Claim 2: testA must be a number in per cent, not True"),
        ({"values": 3}, "Claim 2: values must be keys with values, not 3"),
        ({"values": {"testC": 50}}, r"the size of refcoco unc testC is not published; .*: expressions: \{testC: N\}"),
        ({"text": "cooked"}, "Claim 2: text must be sent or raw, not 'cooked'"),
        ({"released": "caris-coco"}, "Claim 2: there is no released checkpoint 'caris-coco'"),
        ({"released": 3}, "Claim 2: released must be text, not 3"),
        (
            {"recipe": None, "released": "caris-refcoco", "values": {"x": 5}},
            "the size of refcoco unc x is not published",
        ),
        ({}, "Claim 2 gives oIoU on refcoco unc val of Tiny once more"),
    ],
)
def test_what_a_claim_can_not_mean(tmp_path, changes, message):
    file = write(tmp_path / "c.yaml", ENTRY, ENTRY | changes, notes={"sure": "Yes."})
    with pytest.raises(ClaimError, match=f"c.yaml: .*{message}"):
        load_claims(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The file must be keys with values, not None"),
        ("claims: 3", "claims must be a list, not 3"),
        ("note: {}", "The file has the unknown key note; known are claims, notes, always"),
        ("notes: {}", "The file lacks claims"),
        ("claims: [{method: x}]", "Claim 1 lacks dataset, split_by"),
        ("claims: [x]", "Claim 1 must be keys with values, not 'x'"),
        ("claims: [}", "is not YAML"),
        ("claims: [{values: {val: 1, val: 2}}]", "the key 'val' stands twice"),
    ],
)
def test_files_that_hold_something_else(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ClaimError, match=message):
        load_claims(tmp_path / "c.yaml")
    with pytest.raises(FileNotFoundError, match="no claims file"):
        load_claims(tmp_path / "other.yaml")
