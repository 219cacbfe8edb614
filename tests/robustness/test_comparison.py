"""Several checkpoints through one suite: names, folders, and what is refused before a second is measured."""

import pytest
from models.small import small_caris

from maskris.evaluation.evaluator import evaluate
from maskris.robustness.comparison import compare_robustness, method_names
from maskris.robustness.suite import CLEAN

OPTIONS = {"families": ["context"], "workers": 0, "progress": False}


@pytest.fixture
def seeds(tmp_path):
    """Two models of other weights, and the first of them once more."""
    folders = [tmp_path / name for name in ("a", "b", "again")]
    for folder, seed in zip(folders, (0, 1, 0), strict=True):
        small_caris(seed, preprocess={"height": 64, "width": 64}).save_pretrained(folder)
    return folders


def test_each_checkpoint_is_measured_into_a_folder_of_its_own(seeds, table, tmp_path):
    first, second, again = seeds
    out = tmp_path / "out"
    comparison = compare_robustness([first, second], table, out=out, **OPTIONS)
    assert list(comparison.methods) == ["a", "b"]
    assert len(list(out.iterdir())) == 2
    for run, seed in zip(comparison.runs, (0, 1), strict=True):
        alone = evaluate(small_caris(seed, preprocess={"height": 64, "width": 64}), table, progress=False, workers=0)
        assert run.evaluation(CLEAN).metrics == alone.metrics
    # As seeds of one method, in the other order: other names, so other folders; the first stay as they are.
    comparison = compare_robustness([second, first], table, out=out, names=["m", "m"], **OPTIONS)
    assert {name: len(runs) for name, runs in comparison.methods.items()} == {"m": 2}
    assert len(list(out.iterdir())) == 4
    with pytest.raises(ValueError, match="again has the same weights as another checkpoint of the name m"):
        compare_robustness([first, again], table, out=out, names=["m", "m"], **OPTIONS)


def test_names_tell_checkpoints_apart():
    assert method_names(["runs/a/last", "runs/b"]) == ["a", "b"]
    assert method_names(["a/seed-0", "b/seed-0"]) == ["a/seed-0", "b/seed-0"]
    assert method_names(["last"]) == ["last"]
    assert method_names(["x", "y"], ["n", "n"]) == ["n", "n"]
    with pytest.raises(ValueError, match="--names gives 1 names to 2 checkpoints; give each one"):
        method_names(["x", "y"], ["n"])
