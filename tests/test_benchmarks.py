"""The machinery of ``python -m benchmarks`` on a tiny network, and the literal network's numbers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks are no part of the package

from benchmarks import loader, other_metrics, reduced
from benchmarks.__main__ import as_table, run
from benchmarks.cases import Setting, make_batch, make_model, make_task
from benchmarks.overhead import load_images, open_table, startup, varied_table
from benchmarks.reference import literal


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out = tmp_path_factory.mktemp("benchmarks") / "deep" / "rows.json"
    names = ["inference", "evaluation_7", "train_step", "train_step_fused", "train_step_checkpointed"]
    returned = run(quick=True, out=out, size="tiny", pixels=64, threads=1, only=names)
    written: list[dict[str, Any]] = json.loads(out.read_text())
    assert written == returned
    return written


def test_rows_hold_times_memory_and_operations(rows: list[dict[str, Any]]) -> None:
    assert [row["name"] for row in rows] == [
        "inference",
        "evaluation_7",
        "train_step",
        "train_step_fused",
        "train_step_checkpointed",
    ]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["literal_s"] / row["ours_s"])
        assert (row["device"], row["threads"], row["size"]) == ("cpu", 1, "tiny")
        for side in ("ours", "literal"):
            assert row[f"{side}_s"] > 0
            assert row[f"{side}_peak_mib"] > 50
        assert 0 < row["ours_gflop"] < row["literal_gflop"], "ours computes the same with fewer operations"
        assert 0 < row["share_of_peak"] < 1
    inference, evaluation, training, *again = (row["literal_gflop"] for row in rows)
    assert evaluation == pytest.approx(7 * inference, rel=0.01), "the literal network encodes every expression's image"
    assert training > 10 * inference, "two passes of two images, forward and backward"
    assert as_table(rows, 1e11).row_count == 5
    plain, single_forward, checkpointed = rows[2:]
    assert (single_forward["single_forward"], plain["single_forward"]) == (True, False)
    assert single_forward["ours_gflop"] == plain["ours_gflop"], "the same products in one pass"
    assert again == [training, training], "measured once"
    assert {row["literal_s"] for row in (plain, single_forward, checkpointed)} == {plain["literal_s"]}
    assert checkpointed["ours_gflop"] > plain["ours_gflop"], "what isn't kept is computed again"


@torch.no_grad()
@pytest.mark.parametrize("pixels", [64, 80])
def test_the_literal_network_computes_the_same(pixels: int) -> None:
    model = make_model("tiny", pixels)
    batch = make_batch(model, Setting("evaluation", size="tiny", pixels=pixels, images=2, expressions=3))
    ours, theirs = model(batch), literal(model)(batch)
    assert ours.std() > 0.01
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_training_starts_from_the_same_loss() -> None:
    """Dropout aside, whose draws differ."""
    losses = []
    for side in ("ours", "literal"):
        torch.manual_seed(0)
        task = make_task(Setting("train_step", side, "tiny", 64, images=2, threads=1))  # type: ignore[arg-type]
        losses.append([task() for _ in range(2)])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_only_swin_has_a_literal_twin() -> None:
    model = make_model("tiny", 64)
    model.vision.config["model_type"] = "resnet"
    with pytest.raises(ValueError, match="has a Swin, not a resnet"):
        literal(model)


def test_no_two_rows_of_the_table_are_alike() -> None:
    table = varied_table(600)
    assert len(set(table.column("mask"))) == 600
    assert len({tuple(expressions) for expressions in table.column("expressions")}) == 600
    assert (table.num_expressions, table.num_images) == (1800, 200)


def test_overhead_is_measured() -> None:
    assert open_table(1500) > 0
    assert load_images(64, count=2) > 0
    assert set(startup()) == {"import maskris", "maskris --help"}


def test_the_loader_is_measured() -> None:
    rows = loader.measure(32, {"40 x 30": (30, 40), "99 x 66": (66, 99)}, workers=(0, 1, 10_000), seconds=0.01)
    assert len(rows) == 2 * (2 * 2 + 1), "nobody has 10,000 cores"
    for row in rows:
        assert "mean_difference" in row or row["ours_s"] == pytest.approx(1 / row["images_per_second"])
    assert [row["workers"] for row in rows[:4]] == [0, 1, 0, 1]
    assert rows[0]["note"] == f"{rows[0]['images_per_second']:.0f} images/s"
    small, large = (row["mean_difference"] for row in rows if "mean_difference" in row)
    assert small == 0
    assert 0 < large < 5
    assert as_table([row | dict.fromkeys(("ratio", "literal_s")) for row in rows], 1e11).row_count == 10


def test_both_ways_of_decoding_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    from maskris.evaluation import evaluator as room

    seen: list[Any] = []

    def spy(model: Any, table: Any, **options: Any) -> Any:
        from maskris.data.dataset import ReferringDataset

        data = ReferringDataset(
            table, model.preprocess, model.tokenizer, training=False, reduced_decoding=options["reduced_decoding"]
        )
        seen.append(data[0].image)
        return evaluated(model, table, **options)

    evaluated = room.evaluate
    monkeypatch.setattr(room, "evaluate", spy)
    results = reduced.measure(make_model("tiny", 64), images=1, side=256)
    assert list(results) == ["full", "reduced"]
    assert all(0 <= value <= 1 for metrics in results.values() for value in metrics.values())
    gap = (seen[0].float() - seen[1].float()).abs()
    assert 0 < gap.mean() < 5, "the pictures are JPEGs, and decoded in two ways"


def test_photos_cost_what_photos_cost(tmp_path: Path) -> None:
    loader.photo_like(480, 640).save(tmp_path / "photo.jpg", quality=92)
    assert 140_000 < (tmp_path / "photo.jpg").stat().st_size < 175_000


def test_another_commit_is_timed_from_a_worktree_that_is_gone_afterwards() -> None:
    root = Path(__file__).resolve().parents[1]

    def worktrees() -> list[str]:
        command = ["git", "worktree", "list", "--porcelain"]
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if line.startswith("worktree ")]

    try:
        before = worktrees()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the project isn't in a git repository here")
    names = ["inference", "train_step_checkpointed"]
    plain, checkpointed = run(quick=True, size="tiny", pixels=64, threads=1, against="HEAD", only=names)
    assert plain["ratio_against"] == pytest.approx(plain["against_s"] / plain["ours_s"])
    assert plain["against_gflop"] > 0
    assert checkpointed["gradient_checkpointing"] is True
    assert "against_s" not in checkpointed, "older commits have no checkpointing"
    assert as_table([plain, checkpointed], 1e11).row_count == 3
    assert worktrees() == before


def test_a_benchmark_process_that_fails_is_reported() -> None:
    from benchmarks.worker import Worker

    with (
        pytest.raises(RuntimeError, match="ended with code 1: see its error above"),
        Worker(Setting("inference", size="no")),
    ):
        pass


def test_the_table_of_other_metrics_in_the_docs_says_what_ours_measures() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith("| maskris, mIoU |"))
    shown = dict(zip(other_metrics.cases(), row.split(" | ")[1:], strict=True))
    for name, pair in other_metrics.cases().items():
        if shown[name] == "error":
            with pytest.raises(ValueError, match=r"10 x 10 pixels \(height x width\), not 10 x 9"):
                other_metrics.ours(*pair)
        else:
            assert shown[name].startswith(f"{other_metrics.ours(*pair):.3f}"), name
