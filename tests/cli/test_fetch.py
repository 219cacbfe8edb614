"""`maskris fetch` on a local server."""

import pytest
from faulty_server import server, status  # noqa: F401 (fixtures)
from fetch_world import photo_name, world  # noqa: F401

from maskris.fetch import manifest


@pytest.fixture
def mini(world, monkeypatch):  # noqa: F811
    """The command with the small data set's manifest."""
    real = manifest.read_manifest
    for module in ("datasets", "manifest"):
        monkeypatch.setattr(f"maskris.fetch.{module}.read_manifest", lambda _=None: real(world.file))
    return world


def test_without_a_name_all_data_sets_are_shown(maskris):
    code, out, _ = maskris("fetch")
    assert code == 0
    for name in ("refcoco", "refcoco+", "refcocog", "grefcoco", "refclef", "train2014", "saiapr_tc-12"):
        assert f"\n {name} " in out
    assert "13,510.6" in out


def test_a_plan_then_counts_and_the_next_command(maskris, mini, tmp_path):
    code, out, _ = maskris("fetch", "mini", "--out", tmp_path / "data")
    assert code == 0
    assert "127.0.0.1" in out
    assert [line.split() for line in out.splitlines() if line.startswith((" train ", " val "))] == [
        ["train", "2", "2", "4"],
        ["val", "1", "1", "2"],
    ]
    assert f"\n  maskris prepare {tmp_path / 'data'} --dataset mini --split-by unc --out mini.parquet\n" in out
    command = out.splitlines()[-1].split()[1:-1]
    assert maskris(*command, tmp_path / "mini.parquet")[0] == 0


def test_a_missing_photo_is_named_and_the_same_command_goes_on(maskris, mini, tmp_path):
    answers = mini.server.answers[f"/{photo_name(1)}"]
    mini.server.give(f"/{photo_name(1)}", status(404))
    command = ("fetch", "mini", "--out", tmp_path / "data")
    code, out, _ = maskris(*command)
    assert code == 1
    assert f"{photo_name(1)}: " in out
    assert "404 Not Found" in out
    assert "The same command tries the failed ones again." in out
    mini.server.answers[f"/{photo_name(1)}"] = answers
    assert maskris(*command)[0] == 0


def test_photos_of_a_table_and_archives_that_are_here(maskris, mini, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "mini.zip").write_bytes(mini.archive)
    assert maskris("fetch", "mini", "--out", tmp_path / "data", "--photos", "none", "--from", own)[0] == 0
    assert mini.asked == []
    table = tmp_path / "data" / "mini.parquet"
    assert maskris("prepare", tmp_path / "data", "--dataset", "mini", "--no-check-images", "--out", table)[0] == 0
    assert maskris("fetch", "photos", "--data", table, "--splits", "testA")[0] == 0
    assert [path.name for path in (tmp_path / "data" / "train2014").glob("*.jpg")] == [photo_name(3)]


def test_wrong_uses_say_what_is_right(maskris, mini, tmp_path):
    code, _, err = maskris("fetch", "photos")
    assert (code, "maskris fetch photos --data FILE.parquet" in err) == (1, True)
    code, _, err = maskris("fetch", "mini", "--data", tmp_path / "x.parquet")
    assert (code, "maskris fetch photos --data" in err) == (1, True)
    code, _, err = maskris("fetch", "minni", "--out", tmp_path / "data")
    assert (code, "did you mean mini?" in err) == (1, True)
