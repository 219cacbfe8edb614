"""`maskris study`: from variants to a table, resumable, with every mistake found before anything is trained."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml

from maskris.data.table import ReferringTable
from maskris.experiments.study import (
    StudyError,
    check_variant,
    plan_study,
    read_study,
    shipped_studies,
    split_values,
    vary_recipe,
)


def test_shipped_studies_are_complete_and_their_recipes_are_accepted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("quickstart/supervised").mkdir(parents=True)
    assert "models" in shipped_studies()
    for name in shipped_studies():
        plan = plan_study(name)
        assert len(plan.variants) > 1
        for variant in plan.variants:
            check_variant(variant, tmp_path / name / f"{variant.folder}.yaml", [])


def test_a_model_to_start_from_must_be_there_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variant = plan_study("fine-tuning").variants[0]
    message = "'supervised, 300 steps more': there is no folder ./quickstart/supervised with a model to start from"
    with pytest.raises(StudyError, match=message):
        check_variant(variant, tmp_path / "a.yaml", [])
    check_variant(variant, tmp_path / "a.yaml", ["--training.init_from", "somebody/on-the-hub"])


def test_values_are_crossed_and_lists_stay_whole(recipe):
    assert split_values("0.25,[1, 2],{a: 1, b: 2}") == ["0.25", "[1, 2]", "{a: 1, b: 2}"]
    plan = vary_recipe(str(recipe), ["strategy.clean_weight=0.25,0.75", "training.lr=1e-3,1e-4"])
    assert [variant.name for variant in plan.variants] == [
        "tiny", "clean_weight=0.25, lr=1e-3", "clean_weight=0.25, lr=1e-4",
        "clean_weight=0.75, lr=1e-3", "clean_weight=0.75, lr=1e-4",
    ]  # fmt: skip
    assert plan.variants[1].overrides == ("--strategy.clean_weight=0.25", "--training.lr=1e-3")
    assert plan.baseline == "tiny"


def test_what_is_common_to_all_variants_yields_to_each(recipe, tmp_path):
    file = tmp_path / "study.yaml"
    variants = {"a": {}, "b": {"training": {"steps": 9}, "same_compute": "a"}}
    common = {"training": {"steps": 7}}
    file.write_text(yaml.safe_dump({"title": "T", "recipe": str(recipe), "baseline": "a", "common": common,
                                    "variants": variants}))  # fmt: skip
    a, b = read_study(file).variants
    assert (a.recipe["training"]["steps"], b.recipe["training"]["steps"]) == (7, 9)
    assert (a.same_compute, b.same_compute) == (None, "a")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speed": 3}, "a study has no key speed"),
        ({"baseline": "c"}, "the baseline 'c' is none of the variants a, b"),
        ({"seeds": [1, 1]}, "give each seed once"),
        ({"seeds": 3}, "seeds must be a list such as [0, 1, 2], not 3"),
        ({"occlusion": 0.25}, "occlusion must be a list such as [0, 0.25], not 0.25"),
        ({"occlusion": [0, 25]}, "lies between 0 and 1, not [25]"),
        ({"occlusion": [0, 0.125]}, "in whole per cents, such as 0.25, not [0.125]"),
        ({"occlusion": [0.25, 0.5]}, "occlusion starts with 0 and holds each share once, unlike [0.25, 0.5]"),
        ({"occlusion": [0, 0.5, 0.5]}, "occlusion starts with 0 and holds each share once"),
        ({"scenes": "many"}, "scenes must be a number of scenes, not 'many'"),
        ({"variants": ["a", "b"]}, "variants must be variants by name, each with what it changes, not ['a', 'b']"),
        ({"variants": {"a": {}, "b": 3}}, "the variant 'b' must say which keys change, not 3"),
        ({"variants": {"a": {}, "b": {"paper": "76 %"}}}, "the variant 'b' must have a number as the paper's"),
        ({"common": {"lr": 3}}, "common has no key lr; it may have data, model, strategy, training"),
        ({"variants": {"a": {}, "b": {"same_compute": "c"}}}, "the baseline 'c' is none of the variants a, b"),
        ({"variants": {"a": {"lr": 3}}}, "the variant 'a' has no key lr"),
        ({"variants": {"a b": {}, "a-b": {}}}, "two variants have the same name"),
    ],
)
def test_what_is_wrong_with_a_study_is_said(changes, words, recipe, tmp_path):
    values = {"title": "T", "recipe": str(recipe), "baseline": "a", "variants": {"a": {}, "b": {}}} | changes
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(StudyError) as caught:
        read_study(file)
    assert words in str(caught.value)


def test_mistakes_are_found_before_the_first_run(maskris, recipe, table, tmp_path):
    out = tmp_path / "s"
    code, _, err = maskris("study", recipe, "--vary", "strategy.image.rato=0.5,2", "--data", table, "--out", out)
    assert code == 1
    assert "Variant 'image.rato=0.5'" in err
    assert not (out / "runs").exists()
    assert not (out / "plan.json").exists()


def test_names_that_yaml_reads_as_numbers_are_names(recipe, tmp_path):
    file = tmp_path / "study.yaml"
    text = f"title: 1\nrecipe: {recipe}\nbaseline: 0.5\nvariants: {{0.5: {{}}, 0.75: {{reference: 0.5, paper: 70}}}}\n"
    file.write_text(text)
    plan = read_study(file)
    assert (plan.title, plan.baseline, [v.name for v in plan.variants]) == ("1", "0.5", ["0.5", "0.75"])
    assert (plan.variants[1].reference, plan.variants[1].paper, plan.variants[1].same_compute) == ("0.5", 70, None)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["shedule"], "no study 'shedule', neither shipped nor as a YAML file; did you mean schedule"),
        (["nothing"], "shipped are augmentations, clean-weight, components"),
        (["tiny", "--vary", "training.lr=1"], "There is no recipe 'tiny'"),
        (["shapes-maskris"], "no study, so --vary must say what varies"),
        (["models", "--vary", "training.lr=1"], "'models' is a study, which says what varies"),
        (["shapes-maskris", "--vary", "lr"], "takes KEY=VALUE"),
        (["models", "--report"], "studies/models/runs holds no complete run yet"),
        (["models", "--jobs", "0"], "jobs must be at least 1, not 0"),
        (["models", "--data", "none.parquet"], "none.parquet"),
    ],
)
def test_what_can_not_be_studied_is_said_and_leaves_nothing(words, complaint, maskris, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = maskris("study", *words)
    assert code == 1
    assert complaint in err
    assert not list(tmp_path.iterdir())


def test_a_study_from_end_to_end(maskris, recipe, table, tmp_path):
    out = tmp_path / "study"
    words = ["study", recipe, "--vary", "strategy.clean_weight=1.0", "--data", table, "--out", out, "--seeds", 0, 1]
    code, text, _ = maskris(*words, "--jobs", 2, "--threads", 1)
    assert code == 0
    assert "clean_weight=1.0" in text
    page = (out / "study.md").read_text()
    assert "seeds 0, 1" in page
    assert "| tiny |" in page
    assert (out / "study.png").stat().st_size > 1000
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert {(row["variant"], row["seed"], row["hidden"]) for row in rows} == {
        (variant, seed, hidden)
        for variant in ("tiny", "clean_weight=1.0") for seed in "01" for hidden in ("0.0", "0.25", "0.5")
    }  # fmt: skip
    assert {row["steps"] for row in rows} == {"6"}

    # A run that was lost is repeated and gives the same; the others are not touched.
    kept = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/seed-*/done.json")}
    lost = next(path for path in kept if path.parts[-3:-1] == ("tiny", "seed-1"))
    before = (out / "results.csv").read_text()
    lost.unlink()
    assert maskris(*words)[0] == 0
    for path, written in kept.items():
        assert (path.stat().st_mtime_ns != written) == (path == lost)
    assert (out / "results.csv").read_text().split(",seconds")[0] == before.split(",seconds")[0]
    assert maskris(*words, "--report")[0] == 0

    # A share that is new is measured; the training isn't repeated.
    metrics = {path: path.read_text() for path in out.glob("runs/*/seed-*/metrics.jsonl")}
    (out / "runs" / "tiny" / "seed-0" / "occlusion-25.parquet").unlink()
    assert maskris(*words)[0] == 0
    assert (out / "runs" / "tiny" / "seed-0" / "occlusion-25.parquet").is_file()
    assert {path: path.read_text() for path in metrics} == metrics

    # Another study, other data or other splits do not fit into the folder, not even to report on them.
    err = maskris(*words, "--training.lr", "1e-2")[2]
    assert "variant tiny, overrides: nothing there, '--training.lr 1e-2' now" in err
    assert "variant tiny, recipe" not in err
    fewer = tmp_path / "fewer.parquet"
    ReferringTable.open(table).take(range(3, 20)).save(fewer)
    for more in ([], ["--report"]):
        other = [fewer if word == table else word for word in words]
        assert re.search(
            f"belongs to another run:\n  data: {table} .* there, {fewer} .* now", maskris(*other, *more)[2]
        )
        err = maskris(*words, "--splits", "testA", *more)[2]
        assert "splits: val there, testA now" in err
    embedded = [word for word in words if word not in ("--data", table)]
    assert "'2000 scenes of the embedded data set' now" in maskris(*embedded)[2]
    assert maskris(*embedded, "--report")[0] == 0  # reports need no data
    moved = tmp_path / "moved.parquet"
    moved.write_bytes(table.read_bytes())
    assert maskris(*[moved if word == table else word for word in words], "--report")[0] == 0


def test_a_run_that_fails_is_reported_with_its_log(maskris, recipe, table, tmp_path):
    out = tmp_path / "study"
    words = ["study", recipe, "--vary", "strategy.clean_weight=1.0", "--data", table, "--out", out, "--seeds", 0]
    assert "no split none" in maskris(*words, "--splits", "none")[2]
    code, _, err = maskris(*words, "--jobs", 2, "--threads", 1, "--training.lr", "1e30")
    assert code == 1
    assert "2 of 2 runs failed" in err
    log = out / "runs" / "tiny" / "seed-0" / "log.txt"
    assert str(log) in err
    assert "not finite" in log.read_text()
    assert {"variant tiny", "variant clean_weight=1.0"} < json.loads((out / "plan.json").read_text()).keys()


def test_the_study_in_the_documentation_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    file = tmp_path / "mine.yaml"
    file.write_text(page.split("```yaml\n")[1].split("```")[0])
    recipes = [
        check_variant(variant, tmp_path / f"{i}.yaml", []) for i, variant in enumerate(read_study(file).variants)
    ]
    strategies = [recipe.instantiate()[1] for recipe in recipes]
    assert [type(strategy).__name__ for strategy in strategies] == ["Supervised", "MaskRIS", "MaskRIS"]
    assert (strategies[1].text is None, strategies[2].text is None) == (False, True)
