"""That masks were made by a model is said by every output that has numbers of them."""

import json
from dataclasses import asdict, replace

import pytest
from evaluation.made_up import made_up
from rich.console import Console

from maskris.experiments.claims import Claim
from maskris.experiments.measurement import Reproduction, part_of
from maskris.experiments.study import Study, Variant
from maskris.experiments.study_results import Run, StudyResults
from maskris.experiments.verify import Finding
from maskris.reporting import tables_of, to_markdown
from maskris.reporting.claims import write_reproduction
from maskris.reporting.html.contents import Report, Subject
from maskris.reporting.html.sections import compose
from maskris.reporting.robustness import write_robustness
from maskris.reporting.scores import intervals_table
from maskris.reporting.study import write_study
from maskris.robustness.results import Robustness, RobustnessComparison
from maskris.robustness.suite import CLEAN, Condition
from maskris.training.run_record import RunRecord

FOG = Condition("weather", "fog", 1)


def shown(tables):
    console = Console(width=200, record=True)
    for table in tables:
        console.print(table.to_rich())
    return " ".join(console.export_text().split())


def of_evaluation(evaluation, folder):
    yield shown(tables_of(evaluation))
    yield to_markdown(evaluation)
    yield shown([intervals_table(evaluation, resamples=5)])
    evaluation.save(folder / "rows.parquet")
    yield to_markdown(type(evaluation).load(folder / "rows.parquet"))


def of_report(evaluation, folder):
    record = RunRecord(folder, "last", "", {}, (), {})
    yield compose(Report([Subject("A", record, evaluation, "rows.parquet")], resamples=5))
    yield compose(Report([Subject("A", record, perturbed={"fog": evaluation})], resamples=5))
    compared = RobustnessComparison((robustness(evaluation, folder),), resamples=5)
    yield compose(Report([Subject("A", record)], resamples=5, robustness=compared))


def robustness(evaluation, folder):
    for condition in (CLEAN, FOG):
        settings = {**evaluation.settings, "condition": asdict(condition)}
        replace(evaluation, settings=settings).save(folder / f"{condition.key}.parquet")
    card = {"name": "A", "data": "d", "protocol": {}, "seed": 0}
    return Robustness(card, folder, (CLEAN, FOG))


def of_robustness(evaluation, folder):
    compared = RobustnessComparison((robustness(evaluation, folder),), resamples=5)
    yield shown(tables_of(compared))
    page, numbers, *_ = write_robustness(compared, folder)
    yield page.read_text()
    yield numbers.read_text()


def of_study(evaluation, folder):
    study = Study("T", (Variant("plain"),), "plain", "Why?", occlusion=(0.0,))
    results = StudyResults(study, [Run("plain", 0, {0.0: evaluation}, {"training_seconds": 1.0})])
    yield shown(tables_of(results))
    yield write_study(results, folder)[0].read_text()


def of_reproduction(evaluation, folder):
    claim = Claim("T", "refcoco", "unc", "val", "oIoU", 50.0, "maskris", "r", "Table 1")
    about = {"recipe": "r", "model": "m", "trained": "before", "data": ["d"]}
    about |= {"interval": {"resamples": 5, "unit": "image"}}
    finding = Finding(claim, "not verified", ("masks that nobody annotated",))
    made = Reproduction((finding,), {part_of(claim): evaluation}, about, folder)
    yield write_reproduction(made).read_text()
    yield json.dumps(made.to_dict())


@pytest.mark.parametrize("outputs", [of_evaluation, of_report, of_robustness, of_study, of_reproduction])
def test_pseudo_masks_are_named(outputs, tmp_path):
    origins = ["b 89ab; mean; threshold:0.5", "a 4567; prms by CLIP 0123; peak:0.5"]
    sources = {"annotated": 30, "pseudo": 10}
    evaluation = replace(made_up(), data={"mask_sources": sources, "mask_origins": origins, "texts": []})
    texts = list(outputs(evaluation, tmp_path))
    assert len(texts) >= 2
    for text in texts:
        text = " ".join(text.replace("The", "the").split())
        assert "the masks of 10 of 40 referents are pseudo masks, made by a model" in text
        assert f"by a model ({origins[1]} and {origins[0]}) and annotated by nobody" in text


def test_nothing_is_said_of_annotated_masks(tmp_path):
    evaluation = replace(made_up(), data={"mask_sources": {"annotated": 40}, "texts": ["sent"]})
    assert "pseudo" not in "".join(of_evaluation(evaluation, tmp_path))
