"""Official weights, converted and evaluated, against numbers that the literal formulas give."""

import json
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import reference, tiny_caris
from PIL import Image

from maskris.data.prepare import prepare_dataset
from maskris.data.shapes.writer import write_shapes
from maskris.data.table import ReferringTable
from maskris.experiments.reproduction import reproduce
from maskris.models.weights.convert import convert_checkpoint
from maskris.models.weights.options import ConversionOptions
from maskris.models.weights.released import PublishedResult, Released
from maskris.reporting import tables_of, to_markdown, write_reproduction

SIDE = 64
ENTRY = Released(
    "tiny", "Tiny CARIS", "maskris", "MIT", "https://example.org/tiny", None, None, "maskris", "sent", ()
)  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two scenes of val and one of testA, with cleaned sentences."""
    folder = tmp_path_factory.mktemp("scenes")
    write_shapes(folder, images={"val": 2, "testA": 1})
    prepare_dataset(folder, folder / "sent.parquet", dataset="shapes", split_by="unc", progress=False)
    return folder / "sent.parquet"


@pytest.fixture(scope="module")
def raw(scenes):
    """The same rows as if they had been prepared with ``--text raw``."""
    table = ReferringTable.open(scenes)
    rows = [row | {"text": "raw"} for row in table.to_pylist()]
    ReferringTable.from_rows(rows, table.images_root).save(scenes.parent / "raw.parquet")
    return scenes.parent / "raw.parquet"


@pytest.fixture(scope="module")
def converted(shared, tmp_path_factory):
    """The folder that a file of official names gives, as CARIS is released: the weights alone, in the old container."""
    folder = tmp_path_factory.mktemp("released")
    weights = OrderedDict(reference(shared, "tiny_state.safetensors"))
    torch.save(weights, folder / "tiny.pth", _use_new_zipfile_serialization=False)
    words = folder / "vocab.txt"
    words.write_text("\n".join(reference(shared, "extras.json")["tokenizer.vocab"]) + "\n")
    options = ConversionOptions(tokenizer=str(words), text_heads=4, image_size=SIDE)
    convert_checkpoint(folder / "tiny.pth", folder / "model", options=options)
    return folder / "model"


@pytest.fixture(scope="module")
def printed(shared, scenes):
    """What the authors would print: metrics by split in per cent, one expression at a time, by the formulas."""
    model, table = tiny_caris(shared, preprocess={"height": SIDE, "width": SIDE}), ReferringTable.open(scenes)
    pairs = {"val": [], "testA": []}
    for row in range(len(table)):
        image = model.preprocess.image(Image.open(table.image_path(row)))
        truth = model.preprocess.mask(table.mask(row)).numpy() > 0.5
        for expression in table.row(row).expressions:
            tokens = model.tokenizer([expression])
            with torch.no_grad():
                features = model.encode_image(model.preprocess.normalize(image[None]))
                low = model.segment(features, tokens.input_ids, tokens.attention_mask, torch.zeros(1, dtype=torch.long))
            full = torch.nn.functional.interpolate(low, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
            mask = full.argmax(1)[0].numpy().astype(bool) if full.shape[1] == 2 else full[0, 0].numpy() > 0
            pairs[table.column("split")[row]].append(((mask & truth).sum(), (mask | truth).sum()))
    numbers = {}
    for split, some in pairs.items():
        i, u = np.array(some).T
        numbers[split] = {
            "oIoU": 100 * i.sum() / u.sum(),
            "mIoU": 100 * np.mean(i / u),
            "Pr@0.5": 100 * np.mean(i / u >= 0.5),
        }
    assert numbers["val"]["oIoU"] > 1  # not by chance the same as nothing
    return numbers


def result(metric, **values):
    return PublishedResult("shapes", "unc", metric, {split: round(float(value), 2) for split, value in values.items()})


@pytest.fixture
def index(printed, converted, monkeypatch):
    """Released checkpoints: one as it is, one with raw sentences, one that can't be had, one without a network."""
    of = {m: {split: numbers[m] for split, numbers in printed.items()} for m in ("oIoU", "mIoU", "Pr@0.5")}
    tiny = (
        result("oIoU", **of["oIoU"], testB=50),
        result("mIoU", val=of["mIoU"]["val"], testA=of["mIoU"]["testA"] + 1),
    )
    entries = {
        "tiny": replace(ENTRY, results=tiny),
        "typed": replace(ENTRY, name="typed", text="raw", results=(result("oIoU", val=of["oIoU"]["val"]),)),
        "gone": replace(ENTRY, name="gone", results=(result("oIoU", val=10), result("Pr@0.5", testA=20))),
        "weak": replace(ENTRY, name="weak", network="none", protocol=None, results=(result("mIoU", val=30),)),
        "without": replace(ENTRY, name="without"),
    }
    loaded = []

    def folder(name):
        loaded.append(name)
        if name == "gone":
            raise FileNotFoundError("gone is not here yet\nA browser may get it")
        return converted

    for module in ("experiments.authors_claims", "experiments.released_reproduction", "models.weights.released"):
        monkeypatch.setattr(f"maskris.{module}.released_models", lambda: entries)
    monkeypatch.setattr("maskris.experiments.released_reproduction.released_folder", folder)
    return loaded


def verdicts(made):
    return {(f.claim.released, f.claim.split, f.claim.metric): str(f) for f in made.findings}


def measure(names, *data, **options):
    return reproduce(released=names, data=data, workers=0, resamples=50, **options)


def test_a_checkpoint_gives_the_numbers_of_the_formulas(index, scenes, printed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    made = measure("tiny", scenes, log=said.append)
    assert verdicts(made) == {
        ("tiny", "val", "oIoU"): "reproduced",
        ("tiny", "testA", "oIoU"): "reproduced",
        ("tiny", "testB", "oIoU"): "not run: the data has no shapes unc testB",
        ("tiny", "val", "mIoU"): "reproduced",
        ("tiny", "testA", "mIoU"): "differs: by more than 0.1 points",
    }
    for finding in made.findings:
        if finding.measured is not None:
            assert finding.measured == pytest.approx(printed[finding.claim.split][finding.claim.metric], abs=1e-3)
            assert finding.low <= finding.measured <= finding.high
    assert made.findings[-1].difference == pytest.approx(-1, abs=0.01)
    assert (index, made.failed, len(said)) == (["tiny"], {}, 2)

    assert made.folder.as_posix() == "reproductions/tiny"
    content = json.loads((made.folder / "reproduction.json").read_text())
    assert content["released"]["tiny"]["license"] == "MIT"
    assert content["released"]["tiny"]["weights_sha256"]
    assert content["tolerance"] == 0.1
    part = content["evaluations"]["tiny: shapes unc val (maskris)"]  # with what nobody claims
    assert 100 * part["scores"]["Pr@0.5"] == pytest.approx(printed["val"]["Pr@0.5"])
    assert content["findings"][0]["claim"]["released"] == "tiny"

    findings, measured = tables_of(made)
    assert (findings.title, findings.rows[0][0]) == ("tiny: shapes unc", "val oIoU")
    assert [row[0] for row in measured.rows] == ["tiny shapes unc val", "tiny shapes unc testA"]
    assert measured.headings[1:] == ["N", "oIoU", "mIoU", *(f"Pr@0.{x}" for x in range(5, 10)), "box acc."]
    page = write_reproduction(made).read_text()
    assert page == to_markdown(made)
    assert "## tiny\n\nTiny CARIS; MIT; <https://example.org/tiny>. SHA-256 of the weights: " in page
    assert "\n- differs: by more than 0.1 points (shapes unc testA mIoU)\n" in page
    assert "| shapes unc testA mIoU | " in page

    # Once more: the same weights and data are not evaluated again.
    monkeypatch.setattr("maskris.evaluation.cache.evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    assert verdicts(measure("tiny", scenes)) == verdicts(made)


def test_several_go_on_where_one_can_not_be_had(index, scenes, tmp_path):
    said = []
    made = measure(["gone", "weak", "tiny"], scenes, out=tmp_path / "r", splits=["val"], log=said.append)
    missing = "not run: gone is not here yet"
    assert {key: text for key, text in verdicts(made).items() if key[0] != "tiny"} == {
        ("gone", "val", "oIoU"): missing,
        ("gone", "testA", "Pr@0.5"): "not run: left out by --splits",
        ("weak", "val", "mIoU"): "not runnable: maskris has no network none",
    }
    assert verdicts(made)["tiny", "val", "oIoU"] == "reproduced"
    assert made.failed == {"gone": "gone is not here yet\nA browser may get it"}
    assert "gone: gone is not here yet\nA browser may get it" in said
    assert index == ["gone", "tiny"]
    assert (tmp_path / "r" / "tiny" / "rows" / "shapes-unc-val-maskris.parquet").is_file()
    assert json.loads((tmp_path / "r" / "reproduction.json").read_text())["failed"] == made.failed
    assert [table.title for table in tables_of(made)[:3]] == [
        f"{name}: shapes unc" for name in ("gone", "weak", "tiny")
    ]


def test_other_sentences_are_named_before_anything_is_fetched(index, scenes, raw, tmp_path):
    made = measure("typed", scenes, out=tmp_path)
    (finding,) = made.findings
    assert str(finding) == "not comparable: the table was prepared with --text sent, the claim needs --text raw"
    assert (finding.measured, index, made.failed) == (None, [], {})
    # Where the data has both, each gets its own; doubled rows would be other data.
    made = measure("all", scenes, raw, out=tmp_path, splits=["val"])
    assert index == ["tiny", "typed", "gone"]  # in the order of the index, without what has no network
    assert verdicts(made)["typed", "val", "oIoU"] == verdicts(made)["tiny", "val", "oIoU"] == "reproduced"
    sizes = {part.released: len(evaluation) for part, evaluation in made.evaluations.items()}
    assert sizes["tiny"] == sizes["typed"] == ReferringTable.open(scenes).split("val").num_expressions


def test_all_takes_what_there_is_data_for(index, scenes, tmp_path):
    table = ReferringTable.open(scenes).split("testA")
    table.save(tmp_path / "testA.parquet")
    made = measure("all", tmp_path / "testA.parquet", out=tmp_path)
    assert {finding.claim.released for finding in made.findings} == {"tiny", "gone"}
    assert verdicts(made)["tiny", "val", "oIoU"] == "not run: the data has no shapes unc val"


def test_a_part_of_the_data_or_masks_of_a_model_compare_with_nothing(index, scenes, printed, tmp_path):
    claims = tmp_path / "claims.yaml"
    size = ReferringTable.open(scenes).split("val").num_expressions
    common = "method: T, dataset: shapes, split_by: unc, source: s, protocol: maskris, recipe: null, released: tiny"
    value = round(float(printed["val"]["oIoU"]), 2)
    text = f"claims: [{{{common}, metric: oIoU, values: {{val: {value}}}, expressions: {{val: SIZE}}}}]"
    for expected, wanted in ((f"not comparable: other data ({size} of 99 expressions)", 99), ("reproduced", size)):
        claims.write_text(text.replace("SIZE", str(wanted)))
        assert [str(one) for one in measure("tiny", scenes, claims=claims, out=tmp_path).findings] == [expected]
    table = ReferringTable.open(scenes)
    rows = [row | {"mask_source": "pseudo"} for row in table.to_pylist()]
    ReferringTable.from_rows(rows, table.images_root).save(tmp_path / "pseudo.parquet")
    found = verdicts(measure("tiny", tmp_path / "pseudo.parquet", out=tmp_path))
    assert found["tiny", "val", "oIoU"] == "not comparable: masks that nobody annotated"


def test_settings_that_move_numbers_by_themselves_compare_with_nothing(index, scenes, tmp_path):
    made = measure("tiny", scenes, out=tmp_path, splits=["testA"], precision="bf16", reduced_decoding=True)
    found = verdicts(made)["tiny", "testA", "oIoU"]
    assert found == "not comparable: computed in bf16; large JPEGs decoded at a reduced size"
    assert made.findings[1].measured is not None


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("tinny", {}, "There is no released checkpoint 'tinny'; did you mean tiny"),
        ("without", {}, "No published number is known for without"),
        ("tiny", {"recipe": "refcoco-maskris"}, "A released checkpoint is taken as it is; leave --recipe out"),
        ("tiny", {"checkpoint": "runs/a"}, "taken as it is; leave --checkpoint out"),
        ("tiny", {"overrides": ["--training.lr=1"]}, "taken as it is; leave --training.lr=1 out"),
        ("tiny", {"splits": ["minival"]}, "There is no claim about the split minival, but about val, testA, testB"),
        ("tiny", {"splits": ["testB"]}, "The claims are about shapes unc testB, but the data holds shapes unc"),
        ("tiny", {"data": ()}, "Give the data"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_fetched(index, scenes, names, options, message):
    with pytest.raises(ValueError, match=message):
        reproduce(released=names, **{"data": [scenes], **options})
    assert index == []
