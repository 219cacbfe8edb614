import math
import shutil

import pytest

from maskris.cli import doctor
from maskris.data.table import ReferringTable


@pytest.fixture
def without_training(monkeypatch):
    monkeypatch.setattr(doctor, "_train", lambda device, steps: "not tried")


def test_a_healthy_machine(maskris, monkeypatch):
    monkeypatch.setattr(doctor, "_devices", lambda: ["cpu"])
    code, out, _ = maskris("doctor", "--steps", "2")
    assert code == 0
    assert out.rstrip().endswith("All is well.")
    assert max(map(len, out.splitlines())) <= 80
    assert "transformers" in out
    line = next(line for line in out.splitlines() if "training on cpu" in line)
    first, second = (float(word) for word in line.rstrip("│ ").split("loss")[1].split("→"))
    assert all(map(math.isfinite, (first, second)))
    assert first != second


def test_a_broken_package_and_a_broken_device_are_problems(maskris, monkeypatch):
    monkeypatch.setattr(doctor, "_devices", lambda: ["nodevice"])
    code, out, _ = maskris("doctor")
    assert code == 1
    assert "Problems:\n  training on nodevice failed: RuntimeError" in out
    monkeypatch.setattr(doctor, "PACKAGES", ("maskris", "no_such_package"))
    monkeypatch.setattr(doctor, "_machine", lambda: pytest.fail("what can't be imported is not asked for devices"))
    code, out, _ = maskris("doctor")
    assert code == 1
    assert "no_such_package can't be imported: ModuleNotFoundError" in out


def test_own_data_have_nothing_to_be_compared_with(maskris, table, without_training):
    code, out, _ = maskris("doctor", "--data", table)
    assert code == 0
    assert "squares" in out


def test_incomplete_data_are_a_problem(maskris, table, squares, tmp_path, without_training):
    rows = [row | {"dataset": "refcoco", "split_by": "unc"} for row in ReferringTable.open(table).to_pylist()]
    for name in ("0.png", "1.png"):
        shutil.copy(squares / name, tmp_path)
    ReferringTable.from_rows(rows, tmp_path).save(tmp_path / "t.parquet")
    code, out, _ = maskris("doctor", "--data", tmp_path / "t.parquet", tmp_path / "none.parquet", tmp_path)
    assert code == 1
    assert "6 / 16,994" in out
    assert "refcoco unc differs from the published counts in train, val, testA, testB; is it complete?" in out
    assert f"8 of 10 images are missing, the first is {tmp_path / '2.png'}" in out
    assert "none.parquet does not exist" in out
    assert f"{tmp_path} holds no refs(*).p" in out


def test_published_data_are_no_problem(maskris, table, monkeypatch, without_training):
    from maskris.data.published_counts import PUBLISHED, Counts

    sizes = {"train": Counts(6, 12, 12), "val": Counts(2, 4, 99, confirmed=False), "testA": Counts(2, 4, None)}
    monkeypatch.setitem(PUBLISHED, ("squares", ReferringTable.open(table).row(0).split_by), sizes)
    assert maskris("doctor", "--data", table)[0] == 0  # a number without a second source accuses nobody
    monkeypatch.setitem(sizes, "train", Counts(6, 12, 13))
    assert "squares differs from the published counts in train;" in maskris("doctor", "--data", table)[1]


def test_folders_are_read_as_they_are(maskris, shared, without_training):
    code, out, _ = maskris("doctor", "--data", shared / "data" / "refcoco_mini")
    assert code == 1
    for name in ("refcoco unc", "refcocog umd", "refcocog google", "grefcoco mini"):
        assert name in out
    assert "images are missing" not in out
