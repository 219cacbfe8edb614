"""From pairs alone to masks: no step of the chain may read a mask before the last one measures what came out."""

import pytest

from maskris.data.shapes.writer import embedded_data
from maskris.data.table import ReferringTable
from maskris.evaluation.evaluator import evaluate
from maskris.evaluation.protocol import Protocol
from maskris.experiments.recipe import Recipe
from maskris.experiments.run import build_trainer
from maskris.labeling.label import label_table
from maskris.models.loading import load_model

PEAK = Protocol("peak", resolution="original", map="score", binarization="peak", pointing=True)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """True masks, pseudo masks and the localizer; the labeled table has no masks at all."""
    folder = tmp_path_factory.mktemp("chain")
    truth = embedded_data(folder / "data", seed=3, images=300).split("train")
    hidden = [{**row, "mask": None, "mask_source": "none", "box": None, "area": None} for row in truth.to_pylist()]
    unknown = ReferringTable.from_rows(hidden, truth.images_root)
    recipe = Recipe("shapes-pairs", ["--training.steps=120", "--data.validation=null"])
    trainer = build_trainer(recipe, unknown, folder / "run", progress=False)
    trainer.fit()
    label_table(unknown, str(folder / "run"), folder / "pseudo.parquet", progress=False)
    return truth, ReferringTable.open(folder / "pseudo.parquet"), load_model(folder / "run")


def test_the_localizer_points_at_what_phrases_name(chain):
    truth, _, model = chain
    found = evaluate(model, truth.take(range(300)), protocol=PEAK, batch_size=64)
    named = found.breakdown("kind")["attribute"].values
    assert named["PointM"] >= 0.4


def test_pseudo_masks_overlap_the_true_ones(chain):
    truth, pseudo, _ = chain
    place = {row.ref_id: i for i, row in enumerate(truth)}
    ious = []
    for i, row in enumerate(pseudo):
        a, b = pseudo.mask(i), truth.mask(place[row.ref_id])
        ious.append((a & b).sum() / (a | b).sum())
    assert len(pseudo) == len(truth)
    assert sum(ious) / len(ious) >= 0.3
    assert set(pseudo.column("mask_source")) == {"pseudo"}
    (origin,) = set(pseudo.column("mask_origin"))
    assert origin.startswith("run ")
    assert origin.endswith("; mean; peak:0.5")
