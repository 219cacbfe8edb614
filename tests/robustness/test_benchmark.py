"""Rows are those of `evaluate`, interruptions change nothing, and a folder is of one model, its data and a seed."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from maskris.evaluation.evaluator import evaluate
from maskris.evaluation.result import Evaluation
from maskris.reporting import to_markdown
from maskris.robustness.benchmark import run_robustness
from maskris.robustness.corruptions import Corruption
from maskris.robustness.occlusion import PatchOcclusion
from maskris.robustness.results import Robustness
from maskris.robustness.suite import CLEAN, Condition
from maskris.robustness.text import DroppedWords
from maskris.utils.runstore import FolderInUseError, OtherRunError, lock_folder

SUITE = {
    Condition("occlusion", "patches", 0.5): PatchOcclusion(0.5, 4),
    Condition("noise", "gaussian-noise", 2): Corruption("gaussian-noise", 2),
    Condition("text", "words-dropped", 0.5): DroppedWords(0.5),
}


def measure(model, table, out, suite=SUITE, **options):
    return run_robustness(model, table, suite, out=out, progress=False, **options)


def test_rows_are_those_of_evaluate(model, table, tmp_path):
    result = measure(model, table, tmp_path)
    assert result.conditions == (CLEAN, *SUITE)
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == sorted(
        f"{c.key}.parquet" for c in (CLEAN, *SUITE)
    )
    for condition in result.conditions:
        alone = evaluate(model, table, perturb=SUITE.get(condition), progress=False)
        found = result.evaluation(condition)
        assert found.rows.select(alone.rows.column_names).equals(alone.rows)
        assert ("read" in found.rows.column_names) == (condition.family == "text")
    dropped = result.evaluation(list(SUITE)[2]).rows.to_pylist()
    for row in dropped:
        assert row["read"] == DroppedWords(0.5).read(row["expression"], row["ref_id"], row["number"])
    share = result.changed(list(SUITE)[2])
    assert share == pytest.approx(sum(row["read"] != row["expression"] for row in dropped) / len(dropped))
    assert 0 < share < 1
    assert result.changed(CLEAN) is None


def interrupt(batch, origin):
    """Ctrl-C."""
    raise KeyboardInterrupt


def test_an_interrupted_measurement_goes_on_and_ends_with_the_same_rows(model, table, tmp_path):
    whole = measure(model, table, tmp_path / "whole")
    broken = SUITE | {list(SUITE)[1]: interrupt}
    with pytest.raises(KeyboardInterrupt):
        measure(model, table, tmp_path / "parts", broken)
    done = tmp_path / "parts" / "patches-0.5.parquet"
    assert done.is_file()
    assert not (tmp_path / "parts" / "gaussian-noise-2.parquet").exists()
    written = done.stat().st_mtime_ns
    resumed = measure(model, table, tmp_path / "parts", batch_size=3)
    assert done.stat().st_mtime_ns == written
    for condition in whole.conditions:
        assert resumed.evaluation(condition).rows.equals(whole.evaluation(condition).rows)
    model.encoded = 0
    measure(model, table, tmp_path / "parts")
    assert model.encoded == 0


def test_the_quick_suite_depends_on_the_seed_alone(model, table, tmp_path):
    one, same = (measure(model, table, tmp_path / str(size), "quick", batch_size=size) for size in (3, 100))
    other = measure(model, table, tmp_path / "other", "quick", seed=1)
    changed = 0
    for condition in one.conditions:
        rows = one.evaluation(condition).rows
        assert rows.equals(same.evaluation(condition).rows)
        changed += not rows.equals(other.evaluation(condition).rows)
    assert changed > len(one.conditions) // 2
    assert one.evaluation(CLEAN).rows.equals(other.evaluation(CLEAN).rows)


def test_a_folder_of_something_else_is_refused(model, table, color_model, tmp_path):
    measure(model, table, tmp_path)
    stronger = color_model()
    torch.nn.init.constant_(stronger.scale, 9.0)
    manifest = (tmp_path / "robustness.json").read_bytes()
    for difference, change in {
        r"weights: ColorModel \(\w{8}\) there, ColorModel \(\w{8}\) now": {"model": stronger},
        r"data: '\w{64}' there, '\w{64}' now": {"table": table.take(range(3))},
        "seed: 0 there, 1 now": {"seed": 1},
        "protocol, name: 'maskris' there, 'cris' now(\n  protocol, .*)+": {"protocol": "cris"},
        "precision: 'fp32' there, 'bf16' now": {"precision": "bf16"},
    }.items():
        with pytest.raises(OtherRunError, match=f"belongs to another run:\n  {difference}\nGo on with the old values"):
            measure(**{"model": model, "table": table, "out": tmp_path} | change)
    assert (tmp_path / "robustness.json").read_bytes() == manifest
    other = {Condition("occlusion", "patches", 0.5): PatchOcclusion(0.5, 2)}
    with pytest.raises(
        ValueError, match=r"patches-0.5.parquet was measured under PatchOcclusion\(ratio=0.5, patch_size=4"
    ):
        measure(model, table, tmp_path, other)
    with pytest.raises(ValueError, match="leave conditions of your own out"):
        measure(model, table, tmp_path, families=["noise"])


def test_two_processes_do_not_measure_into_one_folder(model, table, tmp_path):
    with lock_folder(tmp_path), pytest.raises(FolderInUseError, match="Another process is at work"):
        measure(model, table, tmp_path)
    assert not list(tmp_path.glob("*.parquet"))
    assert measure(model, table, tmp_path).conditions == (CLEAN, *SUITE)


def upside_down(batch, origin):
    """A perturbation of one's own."""
    return replace(batch, images=batch.images.flip(2))


def test_a_function_is_known_by_its_name_also_when_resumed(model, table, tmp_path):
    turned = Condition("mine", "upside-down")
    result = measure(model, table, tmp_path, {turned: upside_down})
    rows = result.evaluation(turned)
    assert rows.settings["perturbation"] == f"{__name__}.upside_down"
    written = result.file(turned).stat().st_mtime_ns
    assert measure(model, table, tmp_path, {turned: upside_down}).evaluation(turned) == rows
    assert result.file(turned).stat().st_mtime_ns == written


def test_conditions_that_could_be_taken_for_each_other_are_refused(model, table, tmp_path):
    fog = {Condition("weather", "fog", 1): Corruption("fog", 1), Condition("mine", "fog", 1.0): Corruption("fog", 5)}
    with pytest.raises(ValueError, match=r"would share the file fog-1.parquet; rename one"):
        measure(model, table, tmp_path, fog)

    class Nameless:
        def __call__(self, batch, origin):
            return batch

    for perturb in (lambda batch, origin: batch, Nameless()):
        with pytest.raises(ValueError, match=r"mine: .*<loca.* is another text in the next run"):
            measure(model, table, tmp_path, {Condition("mine", "mine"): perturb})
    assert list(tmp_path.glob("*.parquet")) == []


def test_conditions_that_a_tokenizer_can_not_do_are_skipped_with_the_reason(model, table, tmp_path):
    model.tokenizer.tokenizer.mask_token = None
    result = measure(model, table, tmp_path, "quick", families=["text"])
    assert {c.name for c in result.skipped} == {"words-masked"}
    assert set(result.skipped.values()) == {"the tokenizer has no mask token"}
    assert {c.name for c in result.conditions} == {
        "clean", "words-dropped", "typos", "words-shuffled", "no-location", "synonyms",
    }  # fmt: skip
    assert "not measured under words-masked 25%, words-masked 50%: the tokenizer has no mask token" in to_markdown(
        result
    )


def test_results_are_read_back(model, table, tmp_path):
    result = measure(model, table, tmp_path, name="toy")
    again = Robustness.load(tmp_path)
    assert again.conditions == result.conditions
    assert again.summary() == result.summary()
    assert again.name == "toy"
    about = json.loads(pq.read_schema(tmp_path / "clean.parquet").metadata[b"maskris.evaluation"])
    assert about["settings"]["condition"] == {"family": "clean", "name": "clean", "severity": None}
    assert isinstance(Evaluation.load(tmp_path / "gaussian-noise-2.parquet"), Evaluation)
    with pytest.raises(FileNotFoundError, match="holds no results of robustness"):
        Robustness.load(tmp_path / "nothing")
