"""What was evaluated is not evaluated again, unless something about it changed."""

import pytest
import torch

from maskris.data.table import table_sha256
from maskris.evaluation import cache as once
from maskris.evaluation.cache import evaluate_cached
from maskris.models.base import weights_sha256


def test_the_same_is_read_and_anything_else_is_computed(model, color_model, table, tmp_path):
    file = tmp_path / "rows" / "a.parquet"

    def is_new(m=model, t=table, protocol="maskris", **options):
        result, new = evaluate_cached(m, t, protocol, file, progress=False, **options)
        assert (len(result), result.protocol.name) == (t.num_expressions, protocol)
        return new

    assert is_new()
    assert not is_new()
    assert not is_new(color_model())  # the same weights in another object
    assert not is_new(batch_size=1, name="elsewhere")
    assert is_new(t=table.split("val"))
    assert is_new(t=table.split("val"), protocol="cris")
    assert is_new(t=table.split("val"), protocol="cris", precision="bf16")
    with torch.no_grad():
        model.scale += 1e-6
    assert is_new(t=table.split("val"), protocol="cris", precision="bf16")
    assert not is_new(t=table.split("val"), protocol="cris", precision="bf16")


def test_a_result_read_is_the_result_computed(model, table, tmp_path, monkeypatch):
    computed, _ = evaluate_cached(model, table, "maskris", tmp_path / "a.parquet", progress=False)
    monkeypatch.setattr(once, "evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    read, new = evaluate_cached(model, table, "maskris", tmp_path / "a.parquet")
    assert not new
    assert read == computed


def test_fingerprints(model, color_model, table, toy_table, tmp_path):
    assert weights_sha256(model) == weights_sha256(color_model())
    assert weights_sha256(model.to(torch.float64)) != weights_sha256(color_model())
    assert table_sha256(table) == table_sha256(table.take(range(len(table))))
    assert table_sha256(table) != table_sha256(table.take(range(1, len(table))))
    (tmp_path / "b").mkdir()
    assert table_sha256(table) == table_sha256(toy_table(tmp_path / "b", splits=("val", "testA")))  # lies elsewhere
