"""`maskris study`: from variants to a table, resumable, with every mistake found before anything is trained."""

import csv
import json

import pytest
import yaml

from maskris.apps.study_plan import (
    StudyError,
    merge,
    plan_study,
    read_study,
    shipped_studies,
    split_values,
    vary_recipe,
)


def test_shipped_studies_are_complete_and_their_recipes_are_accepted(tmp_path):
    from maskris.apps.study_plan import check_variant

    assert "models" in shipped_studies()
    for name in shipped_studies():
        plan = plan_study(name)
        assert len(plan.variants) > 1
        for variant in plan.variants:
            check_variant(variant, tmp_path / name / f"{variant.folder}.yaml", [])


def test_values_are_crossed_and_lists_stay_whole(recipe):
    assert split_values("0.25,[1, 2],{a: 1, b: 2}") == ["0.25", "[1, 2]", "{a: 1, b: 2}"]
    plan = vary_recipe(str(recipe), ["strategy.clean_weight=0.25,0.75", "training.lr=1e-3,1e-4"])
    assert [variant.name for variant in plan.variants] == [
        "tiny", "clean_weight=0.25, lr=1e-3", "clean_weight=0.25, lr=1e-4",
        "clean_weight=0.75, lr=1e-3", "clean_weight=0.75, lr=1e-4",
    ]  # fmt: skip
    assert plan.variants[1].overrides == ("--strategy.clean_weight=0.25", "--training.lr=1e-3")
    assert plan.baseline == "tiny"


def test_another_class_takes_the_place_of_the_old_one_with_its_arguments():
    old = {"strategy": {"class_path": "A", "init_args": {"x": 1}}, "training": {"steps": 3, "lr": 1}}
    new = {"strategy": {"class_path": "B"}, "training": {"lr": 2}}
    assert merge(old, new) == {"strategy": {"class_path": "B"}, "training": {"steps": 3, "lr": 2}}


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
        ({"occlusion": [0, 25]}, "lies between 0 and 1, not [25]"),
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

    # Another study does not fit into the folder.
    other = ["study", recipe, "--vary", "strategy.clean_weight=1.0", "--data", table, "--out", out]
    assert "holds another study" in maskris(*other, "--training.lr", "1e-2")[2]


def test_a_run_that_fails_is_reported_with_its_log(maskris, recipe, table, tmp_path):
    out = tmp_path / "study"
    words = ["study", recipe, "--vary", "strategy.clean_weight=1.0", "--data", table, "--out", out, "--seeds", 0]
    code, text, _ = maskris(*words, "--splits", "none", "--jobs", 2, "--threads", 1)
    assert code == 1
    assert "2 of 2 runs failed" in text
    log = out / "runs" / "tiny" / "seed-0" / "log.txt"
    assert str(log) in text
    assert "no split none" in log.read_text()
    assert json.loads((out / "plan.json").read_text())["variants"].keys() == {"tiny", "clean_weight=1.0"}


def test_the_study_in_the_documentation_is_one(tmp_path):
    from pathlib import Path

    from maskris.apps.study_plan import check_variant

    page = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    file = tmp_path / "mine.yaml"
    file.write_text(page.split("```yaml\n")[1].split("```")[0])
    recipes = [
        check_variant(variant, tmp_path / f"{i}.yaml", []) for i, variant in enumerate(read_study(file).variants)
    ]
    strategies = [recipe.instantiate()[1] for recipe in recipes]
    assert [type(strategy).__name__ for strategy in strategies] == ["Supervised", "MaskRIS", "MaskRIS"]
    assert (strategies[1].text is None, strategies[2].text is None) == (False, True)
