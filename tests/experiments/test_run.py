"""What data and recipe say about each other before a training begins."""

import re

import pytest

from maskris import train
from maskris.data.combine import combine_tables
from maskris.data.table import ReferringTable
from maskris.experiments.recipe import Recipe
from maskris.experiments.run import build_trainer
from maskris.reporting.html.contents import Report, Subject
from maskris.reporting.html.sections import compose
from maskris.training.run_record import read_run
from maskris.utils.runstore import OtherRunError


@pytest.fixture
def two_sets(table):
    """The squares as two data sets with cleaned sentences: the first photo to validate on is of "b" alone."""
    opened = ReferringTable.open(table)
    rows = [row | {"dataset": "ab"[row["image"] == "6.png"], "text": "sent"} for row in opened.to_pylist()]
    return ReferringTable.from_rows(rows, opened.images_root)


def trainer(recipe, table, out, *overrides):
    return build_trainer(Recipe(recipe, overrides), table, out, progress=False)


def test_one_data_set_may_decide_alone(recipe, two_sets, tmp_path):
    both = trainer(recipe, two_sets, tmp_path).validation
    assert both.to_pylist() == two_sets.split("val").to_pylist()
    for name, photos in {"a": {"7.png"}, "b": {"6.png"}}.items():
        made = trainer(recipe, two_sets, tmp_path, f"--data.validation_dataset={name}")
        assert set(made.validation.column("image")) == photos
        assert len(made.train.table) == 12, "trained is on all"
    none = trainer(recipe, two_sets, tmp_path, "--data.validation_dataset=a", "--data.validation=null")
    assert none.validation is None
    message = "has no rows of refcoco, but of a, b; choose with --data.validation_dataset (null for all)"
    with pytest.raises(ValueError, match=re.escape(message)):
        trainer(recipe, two_sets, tmp_path, "--data.validation_dataset=refcoco")


def test_other_sentences_than_the_published_ones_are_warned_of(recipe, two_sets, tmp_path, recwarn):
    trainer(recipe, two_sets, tmp_path)
    trainer(recipe, two_sets, tmp_path, "--data.text=sent")
    trainer(recipe, two_sets, tmp_path, "--data.text=null")
    assert not recwarn.list
    message = "published with the sentences 'raw', but the data has 'sent': prepare it with --text raw"
    with pytest.warns(UserWarning, match=message):
        trainer(recipe, two_sets, tmp_path, "--data.text=raw")


def test_sources_of_one_sentence_are_not_warned_of(recipe, table, tmp_path, recwarn):
    trainer(recipe, ReferringTable.open(table), tmp_path, "--data.text=raw")
    assert not recwarn.list


def test_validation_on_pseudo_masks_is_warned_of(recipe, two_sets, tmp_path):
    rows = [row | {"mask_source": "pseudo"} for row in two_sets.to_pylist()]
    made = ReferringTable.from_rows(rows, two_sets.images_root)
    with pytest.warns(UserWarning, match="Validation: the masks of 4 of 4 referents are pseudo masks"):
        trainer(recipe, made, tmp_path)


def test_a_run_on_pseudo_masks_says_so(recipe, table, tmp_path):
    """In its log, in its record, and in the report on it; on masks of another origin it is another run."""
    opened = ReferringTable.open(table)

    def rows(origin):
        made = {"mask_source": "pseudo", "mask_origin": origin}
        return [row | (made if row["split"] == "train" else {}) for row in opened.to_pylist()]

    said = []
    data = ReferringTable.from_rows(rows("a 01; mean; threshold:0.5"), opened.images_root)
    options = {"progress": False, "log": said.append}
    train(Recipe(recipe, ["--training.steps=1"]), data, tmp_path / "run", **options)
    assert "Training: the masks of 12 of 12 referents are pseudo masks, made by a model (a 01; mean" in "".join(said)
    record = read_run(tmp_path / "run")
    assert record.state["run"]["pseudo_masks"] == 12
    assert record.state["run"]["mask_origins"] == ["a 01; mean; threshold:0.5"]
    page = compose(Report([Subject("A", record)], resamples=5))
    assert "12 by a 01; mean; threshold:0.5" in page
    other = ReferringTable.from_rows(rows("b 02; mean; threshold:0.5"), opened.images_root)
    with pytest.raises(OtherRunError, match=r"mask_origins: a 01; .* there, b 02; .* now"):
        train(Recipe(recipe, ["--training.steps=1"]), other, tmp_path / "run", **options)


def test_joined_referents_are_counted(recipe, table, tmp_path):
    opened = ReferringTable.open(table)
    # With annotations of their own, without which nobody knows that two rows mean the same.
    rows = [row | {"ann_ids": [i], "ann_id": i} for i, row in enumerate(opened.to_pylist())]
    a, b = (
        ReferringTable.from_rows([row | {"dataset": name, "split_by": ""} for row in rows], opened.images_root)
        for name in "ab"
    )
    said = []
    for merge in (False, True):
        combined = combine_tables([a, b], merge=merge).table
        train(Recipe(recipe, ["--training.steps=1"]), combined, tmp_path / str(merge), progress=False, log=said.append)
    apart, joined = (one for one in said if " referents" in one)
    assert apart.startswith("24 referents with 24 expressions; ")
    assert joined.startswith("12 referents (joined of 24, so that an epoch is shorter) with 12 expressions; ")
