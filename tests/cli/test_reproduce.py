"""`maskris reproduce` from data to verdict, on photos of RefCOCO and on scenes of our own."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from models.small import small_caris
from squares import BERT, SWIN, WORDS

from maskris.data.table import ReferringTable
from maskris.evaluation.result import Evaluation
from maskris.experiments.claims import load_claims
from maskris.experiments.recipe import Recipe, Splits
from maskris.experiments.reproduction import choose_claims
from maskris.experiments.verify import (
    recipe_differences,
    split_differences,
    training_data_differences,
    weights_differences,
)
from maskris.training.logging import Tracker

ROOT = Path(__file__).parents[2]
TINY = [
    *("--model.vision", json.dumps(SWIN), "--model.text", json.dumps(BERT), "--model.tokenizer", json.dumps(WORDS)),
    *("--model.width=16", "--model.layers=1", "--model.heads=2", "--model.points=2", "--model.max_tokens=6"),
    *("--model.preprocess", '{"height": 64, "width": 64}', "--strategy.image.patch_size=8"),
    *("--training.epochs=null", "--training.steps=2", "--training.workers=0", "--training.precision=fp32"),
]


@pytest.fixture(scope="module")
def mini(shared, tmp_path_factory):
    """Real photos and sentences: 24 expressions of RefCOCO's val, 26 of testA, 15 of testB."""
    from maskris.cli.main import main

    out = tmp_path_factory.mktemp("mini") / "refcoco.parquet"
    source = str(shared / "data/refcoco_mini")
    command = ["prepare", source, "--dataset", "refcoco", "--split-by", "unc", "--out", str(out), "--no-check-images"]
    assert main(command) == 0
    return out


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Six scenes to train on and four to evaluate on."""
    from maskris.data.prepare import prepare_dataset
    from maskris.data.shapes.writer import write_shapes

    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, images={"train": 6, "val": 4})
    prepare_dataset(folder, folder / "shapes.parquet", dataset="shapes", split_by="unc", progress=False)
    return folder / "shapes.parquet"


def claims_file(path, recipe, **values):
    """Claims about shapes val, one for each metric."""
    common = {"method": "Tiny", "dataset": "shapes", "split_by": "unc", "source": "a test", "protocol": "maskris"}
    entries = [
        common
        | {"recipe": str(recipe), "metric": metric, "values": {"val": value}, "expressions": {"val": values["n"]}}
        for metric, value in values.items()
        if metric != "n"
    ]
    path.write_text(yaml.safe_dump({"claims": entries}))
    return path


def findings(folder):
    """By split and metric."""
    content = json.loads((folder / "reproduction.json").read_text())
    return {(one["claim"]["split"], one["claim"]["metric"]): one for one in content["findings"]}


def test_published_claims_on_a_handful_of_photos_are_not_verified(maskris, mini, tmp_path):
    out = tmp_path / "r"
    command = ["reproduce", "refcoco", "--data", mini, "--out", out, "--splits", "val", "testB", "--workers", "0"]
    code, shown, err = maskris(*command, *TINY)
    assert code == 0, err
    found = findings(out)
    assert found["val", "oIoU"]["claim"]["value"] == 76.49
    assert found["val", "mIoU"]["claim"]["value"] == 78.35
    for (split, _), one in found.items():
        if split == "testA":
            assert (one["verdict"], one["reasons"]) == ("not run", ["left out by --splits"])
            assert one["measured"] is None
            continue
        size = {"val": "24 of 10,834", "testB": "15 of 5,095"}[split]
        assert one["verdict"] == "not verified"
        data, trained, settings, *_ = one["reasons"]
        assert data == f"other data ({size} expressions)"
        assert trained == "trained on other data (1,495 of 120,624 expressions of refcoco unc)"
        assert settings.startswith("other settings (model.vision null, not microsoft/swin-base")
        assert one["difference"] == pytest.approx(one["measured"] - one["claim"]["value"])
        assert one["low"] <= one["measured"] <= one["high"]
    table = [line for line in shown.splitlines() if line.startswith(" ")]
    assert max(map(len, table)) <= 80
    reason = "not verified: other data (24 of 10,834 expressions) (refcoco unc val oIoU, refcoco unc val mIoU)"
    assert reason in " ".join(shown.split())
    text = (out / "reproduction.md").read_text()
    assert "| refcoco unc val oIoU | 76.49 |" in text
    assert "not verified: other data (24 of 10,834 expressions)" in text
    assert "Read from a transcription" in text
    rows = Evaluation.load(out / "rows" / "refcoco-unc-val-maskris.parquet")
    assert 100 * rows.metrics["oIoU"] == found["val", "oIoU"]["measured"]


def test_a_checkpoint_of_another_model(maskris, mini, tmp_path):
    small_caris().save_pretrained(tmp_path / "model")
    command = ["reproduce", "refcoco", "--data", mini, "--checkpoint", tmp_path / "model", "--out", tmp_path / "r"]
    assert maskris(*command, "--splits", "testB", "--workers", "0")[0] == 0
    one = findings(tmp_path / "r")["testB", "oIoU"]
    assert one["reasons"][:2] == [
        "other data (15 of 5,095 expressions)",
        "other input (64 x 64, stretch; not 448 x 448, stretch)",
    ]
    assert not (tmp_path / "r" / "run").exists()


def test_claims_of_ones_own_are_verified_or_not(maskris, shapes, recipe, tmp_path, monkeypatch):
    n = ReferringTable.open(shapes).split("val").num_expressions
    out = tmp_path / "r"
    claims = claims_file(tmp_path / "claims.yaml", recipe, n=n, oIoU=0, mIoU=100)
    command = ["reproduce", "shapes", "--data", shapes, "--claims", claims, "--out", out, "--workers", "0"]
    own = ["--data.test", "[val]"]
    advance = Tracker.advance

    def stop(self, step):
        advance(self, step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "advance", stop)
        assert maskris(*command, *own)[0] == 128 + signal.SIGTERM
    assert not (out / "reproduction.json").exists()
    code, shown, err = maskris(*command, *own)  # it goes on
    assert code == 0, err
    first = findings(out)
    assert (first["val", "oIoU"]["verdict"], first["val", "oIoU"]["reasons"]) == ("verified", [])
    miss = first["val", "mIoU"]
    assert miss["verdict"] == "not verified"
    assert miss["reasons"] == ["the claim is above the interval"]
    assert "not verified: the claim is above the interval (shapes unc val mIoU)" in shown
    assert "evaluated before" not in shown

    # A little above what was measured, but within the interval; and nothing is trained or evaluated again.
    between = (first["val", "oIoU"]["measured"] + first["val", "oIoU"]["high"]) / 2
    claims_file(claims, recipe, n=n, oIoU=between, mIoU=miss["high"] + 1)
    monkeypatch.setattr("maskris.evaluation.evaluator.evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    code, shown, _ = maskris(*command, *own)
    assert code == 0
    assert "evaluated before" in shown
    second = findings(out)
    assert [second["val", name]["verdict"] for name in ("oIoU", "mIoU")] == ["verified", "not verified"]
    assert second["val", "oIoU"]["difference"] < 0
    assert second["val", "mIoU"]["measured"] == miss["measured"]

    # The run by itself as a checkpoint: the same weights.
    code, shown, _ = maskris(*command, "--checkpoint", out / "run")
    assert code == 0
    assert "evaluated before" in shown
    assert findings(out) == second

    # One expression too few in the data is enough.
    claims_file(claims, recipe, n=n + 1, oIoU=0)
    assert maskris(*command, "--checkpoint", out / "run")[0] == 0
    one = findings(out)["val", "oIoU"]
    assert (one["verdict"], one["reasons"]) == ("not verified", [f"other data ({n} of {n + 1} expressions)"])


def test_other_weights_are_evaluated_again(maskris, run, recipe, table, tmp_path):
    common = {
        "method": "T",
        "dataset": "squares",
        "split_by": "",
        "source": "s",
        "protocol": "cris",
        "metric": "Pr@0.5",
    }
    entry = common | {"recipe": str(recipe), "values": {"val": 0, "testA": 0}, "expressions": {"val": 4, "testA": 4}}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [entry]}))
    options = ["--data", table, "--claims", tmp_path / "claims.yaml", "--out", tmp_path / "r", "--workers", "0"]
    command = ["reproduce", "--recipe", recipe, *options]
    assert maskris(*command, "--checkpoint", run)[1].count("evaluated before") == 0
    assert [one["verdict"] for one in findings(tmp_path / "r").values()] == ["verified", "verified"]
    assert maskris(*command, "--checkpoint", run / "best")[1].count("evaluated before") == 2
    if (run / "best" / "model.safetensors").read_bytes() != (run / "last" / "model.safetensors").read_bytes():
        assert maskris(*command, "--checkpoint", run / "last")[1].count("evaluated before") == 0
    shutil.copytree(run / "best", tmp_path / "converted")
    (tmp_path / "converted" / "released.json").write_text('{"name": "caris-refcoco"}')
    assert maskris(*command, "--checkpoint", tmp_path / "converted")[0] == 0
    for one in findings(tmp_path / "r").values():  # whatever they reach, they were not trained by the recipe
        assert (one["verdict"], one["reasons"]) == ("not verified", ["other weights (the released caris-refcoco)"])
    small_caris(preprocess={"height": 32, "width": 32}).save_pretrained(tmp_path / "model")
    assert maskris(*command, "--checkpoint", tmp_path / "model")[1].count("evaluated before") == 0
    assert findings(tmp_path / "r")["val", "Pr@0.5"]["reasons"] == [
        "other input (32 x 32, stretch; not 64 x 64, stretch)"
    ]


def test_masks_that_a_model_made_verify_nothing(maskris, run, recipe, table, tmp_path):
    rows = ReferringTable.open(table)
    made = {"mask_source": "pseudo", "mask_origin": "a 01; threshold:0.5"}
    pseudo = [row | made for row in rows.split("val").to_pylist()]
    ReferringTable.from_rows(pseudo, rows.images_root).save(tmp_path / "pseudo.parquet")
    entry = {
        "method": "T",
        "dataset": "squares",
        "split_by": "",
        "source": "s",
        "protocol": "maskris",
        "metric": "oIoU",
    }
    entry |= {"recipe": str(recipe), "values": {"val": 0}, "expressions": {"val": 4}}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [entry]}))
    options = ["--claims", tmp_path / "claims.yaml", "--out", tmp_path / "r", "--workers", "0", "--checkpoint", run]
    assert maskris("reproduce", "squares", "--data", tmp_path / "pseudo.parquet", *options)[0] == 0
    assert findings(tmp_path / "r")["val", "oIoU"]["reasons"] == ["masks that nobody annotated (a 01; threshold:0.5)"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Say which claims: a data set such as refcoco, or --recipe; `maskris reproduce --list` lists them"),
        (["refcoco"], "Give the data: --data FILE.parquet"),
        (["coco"], "There is no claim about coco, but about refcoco, refcoco.*, refcocog"),
        (["caris-refcoco"], "; for released weights, --released caris-refcoco"),
        (
            ["refcoco+", "--recipe", "refcoco-maskris"],
            "There is no claim of refcoco-maskris about refcoco.*; recipes are",
        ),
        (
            ["refcoco", "--data", "T", "--splits", "minival"],
            "no claim about the split minival, but about val, testA, testB",
        ),
        (["refcoco", "--data", "T"], "The claims are about refcoco unc val, .* but the data holds squares train, "),
        (["refcoco", "--data", "T", "--checkpoint", "x", "--training.lr=1"], "--training.lr=1 is for training, but a"),
        (["--list", "--recipe", "nothing"], "There is no such claim"),
        (["refcoco", "--claims", "none.yaml"], "There is no claims file none.yaml"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_computed(maskris, table, words, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = maskris("reproduce", *(str(table) if word == "T" else word for word in words))
    assert (code, out) == (1, "")
    assert re.search(message, err), err
    assert not list(tmp_path.iterdir())


def test_the_claims_are_listed_as_the_page_of_results_shows_them(maskris, monkeypatch):
    code, out, _ = maskris("reproduce", "--list")
    assert code == 0
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert out.strip() in page
    assert out.count("\n") > 50
    code, out, _ = maskris("reproduce", "--list", "--released", "all")
    assert (code, out.count("\n")) == (0, 2 + 17 + 18 + 3)
    assert out.strip() in page
    assert "| tris-stage2-refcoco | refcoco unc val | – | 31.17 |" in out  # noqa: RUF001
    some = maskris("reproduce", "refcocog", "--list", "--released", "caris-refcoco-combined")[1]
    assert "| caris-refcoco-combined | refcocog umd test | 69.75 | maskris | sent | not run |" in some
    assert some.count("caris") == 2
    some = maskris("reproduce", "refcocog", "--list", "--recipe", "refcocog-umd-maskris")[1]
    assert "| MaskRIS | refcocog umd | oIoU | val 65.55, test 66.50 |" in some
    assert "refcoco unc" not in some
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setattr("rich._console", None)  # the one that later tests take is made anew, without colors
    assert "| MaskRIS" not in maskris("reproduce", "refcoco", "--list")[1]
    for_people = maskris("reproduce", "--list", "--released", "all")[1]
    assert "lavt-one-refcocog-google (lavt, raw)" in for_people
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in for_people.splitlines()) <= 80


def test_doubts_about_a_run(run, recipe, tmp_path):
    model = small_caris(preprocess={"height": 64, "width": 64})
    assert recipe_differences(Recipe(recipe), model, str(run)) == []
    assert recipe_differences(Recipe(recipe), model, str(run / "best")) == []
    free = [
        "--training.seed=7",
        "--training.workers=3",
        "--training.gradient_accumulation_steps=2",
        "--data.test=[val]",
    ]
    assert recipe_differences(Recipe(recipe, free), model, str(run)) == []
    changes = ["--training.lr=3e-4", "--strategy.image.ratio=0.5", "--data.train=val", "--model.drop_path=0.1"]
    (doubt,) = recipe_differences(Recipe(recipe, changes), model, str(run))
    assert doubt == (
        "other settings (model.drop_path 0.3, not 0.1; strategy.image.ratio 0.75, not 0.5; "
        "training.lr 0.0001, not 0.0003; 1 more)"
    )
    shutil.copytree(run / "best", tmp_path / "elsewhere")  # no recipe came with it
    assert recipe_differences(Recipe(recipe, changes), model, str(tmp_path / "elsewhere")) == []

    class Other(type(model)):
        pass

    model.__class__ = Other
    assert recipe_differences(Recipe(recipe), model, "someone/model") == ["other model (Other, not CARIS)"]


def test_doubts_about_released_weights():
    about = {claim.released: claim for claim in load_claims()}
    assert weights_differences(about["caris-refcoco-combined"], "caris-refcoco-combined") == []
    for claim in (about[None], about["caris-refcoco-combined"]):
        assert weights_differences(claim, "caris-refcoco") == ["other weights (the released caris-refcoco)"]
        assert weights_differences(claim, "someone/model") == []


def test_doubts_about_training_data(mini):
    table, claims = ReferringTable.open(mini), load_claims()
    about = [claim for claim in claims if claim.recipe == "combined-maskris"]
    assert training_data_differences(about, table, Splits()) == [
        "trained on other data (1,495 of 120,624 expressions of refcoco unc)",
        "trained on other data (0 of 120,191 expressions of refcoco+ unc)",
        "trained on other data (0 of 80,512 expressions of refcocog umd)",
    ]
    other = [claim for claim in claims if claim.recipe == "refcoco+-maskris"]
    assert training_data_differences(other, table, Splits())[1] == "trained on refcoco unc too"
    made = [row | {"mask_source": "pseudo", "mask_origin": "a 01; threshold:0.5"} for row in table.to_pylist()]
    doubts = training_data_differences(other, ReferringTable.from_rows(made, table.images_root), Splits())
    assert "trained on masks that nobody annotated (a 01; threshold:0.5)" in doubts
    # Of combined data the origins count; what overlaps was left out of them.
    members = ("refcoco unc", "refcoco+ unc", "refcocog umd")
    rows, names = table.to_pylist(), [f"{members[i % 3]} {i}" for i in range(len(table))]
    for row, name in zip(rows, names, strict=True):
        row["origins"] = [name] * len(row["expressions"])
    combined = ReferringTable.from_rows(rows, table.images_root)
    assert training_data_differences(about, combined, Splits()) == []
    assert training_data_differences(about, combined, Splits(text="sent")) == []
    assert training_data_differences(about, combined, Splits(text="raw")) == [
        "trained on other sentences (sent, not raw)"
    ]
    first = next(i for i, row in enumerate(rows) if row["split"] == "train")
    rows[first]["origins"] = [", ".join(names[:3])] * len(rows[first]["origins"])
    joined = ReferringTable.from_rows(rows, table.images_root)
    assert training_data_differences(about, joined, Splits()) == [
        "trained on fewer referents, 2 joined to others (prepare without --merge)"
    ]


def test_doubts_about_sentences_and_masks(mini):
    table = ReferringTable.open(mini).split("val")
    cleaned, typed = (
        next(claim for claim in load_claims() if claim.recipe == name)
        for name in ("refcoco-maskris", "lavt-refcoco-maskris")
    )
    assert split_differences(cleaned, table) == []
    reason = "the table was prepared with --text sent, the claim needs --text raw"
    assert split_differences(typed, table) == [reason]


def test_the_first_recipe_of_a_data_set_is_taken():
    claims = load_claims()
    for dataset, recipe in (("refcoco", "refcoco"), ("refcoco+", "refcoco+"), ("refcocog", "refcocog-umd")):
        assert {claim.recipe for claim in choose_claims(claims, dataset, None)} == {f"{recipe}-maskris"}
    assert {claim.dataset for claim in choose_claims(claims, None, "combined-maskris")} == {
        "refcoco",
        "refcoco+",
        "refcocog",
    }
