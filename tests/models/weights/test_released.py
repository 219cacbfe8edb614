"""The index of released checkpoints."""

import subprocess
import sys

import pytest

from maskris.evaluation.metrics import metrics_of
from maskris.evaluation.protocol import Protocol
from maskris.models.weights.networks import NETWORKS
from maskris.models.weights.released import Released, find_released, released_models

SPLITS = {"unc": {"val", "testA", "testB"}, "umd": {"val", "test"}, "google": {"val"}}


def test_what_is_in_it() -> None:
    counts = {"maskris": 5, "lavt": 8, "tris": 5, "tris-localizer": 5, "clipseg": 1}
    networks = [one.network for one in released_models().values()]
    assert {name: networks.count(name) for name in set(networks)} == counts
    assert find_released("caris-refcoco") is released_models()["caris-refcoco"]
    assert find_released("caris") is None


@pytest.mark.parametrize("entry", released_models().values(), ids=list(released_models()))
def test_every_entry_makes_sense(entry: Released) -> None:
    assert entry.network in {*NETWORKS, "clipseg"}
    assert entry.license in {"MIT", "Apache-2.0", "GPL-3.0"}
    assert entry.page.startswith("https://")
    assert sum(where is not None for where in (entry.hub, entry.drive, entry.url)) == 1
    assert entry.hub is None or entry.hub["repo"].count("/") == 1
    assert entry.text in ("sent", "raw")
    metrics = metrics_of(Protocol.of(entry.protocol or "maskris"))
    for result in entry.results:
        assert result.metric in metrics
        assert set(result.values) == SPLITS[result.split_by]
        assert all(10 < value < 100 for value in result.values.values()), "per cent"


def test_no_file_stands_twice() -> None:
    places = [str((one.hub, one.drive, one.url)) for one in released_models().values()]
    assert len(set(places)) == len(places)


def test_pr_at_higher_thresholds_is_lower() -> None:
    """A number that was copied into the wrong line shows."""
    for entry in released_models().values():
        rising = [one for one in entry.results if one.metric.startswith("Pr@")]
        for split in rising[0].values if rising else ():
            values = [one.values[split] for one in sorted(rising, key=lambda one: one.metric)]
            assert values == sorted(values, reverse=True), (entry.name, split)


def test_it_is_read_without_pytorch() -> None:
    code = "import sys; from maskris.models.weights import released; released.released_models(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()
