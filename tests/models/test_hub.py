"""Files from the Hub, with a server in its place."""

from pathlib import Path

import pytest
from fake_hub import FakeHub

from maskris.models.hub import hub_file
from maskris.utils.download import DownloadError


@pytest.fixture
def notes(hub: FakeHub, tmp_path: Path) -> FakeHub:
    (tmp_path / "repository" / "deep").mkdir(parents=True)
    (tmp_path / "repository" / "deep" / "notes.txt").write_text("some notes")
    hub.repositories = {"owner/name": tmp_path / "repository"}
    return hub


def test_it_lies_in_the_cache_of_the_hub_and_is_there_without_a_network(
    notes: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hub_file("owner/name", "deep/notes.txt")
    assert file.read_text() == "some notes"
    assert tmp_path / "caches" / "hub" in file.parents
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub_file("owner/name", "deep/notes.txt") == file
    assert hub_file("owner/name", "deep/notes.txt", tmp_path / "mine") == file
    assert not (tmp_path / "mine").exists()


def test_a_folder_of_ones_own_leaves_nothing_in_the_cache(notes: FakeHub, tmp_path: Path) -> None:
    file = hub_file("owner/name", "deep/notes.txt", tmp_path / "mine")
    assert file == tmp_path / "mine" / "deep" / "notes.txt"
    assert file.read_text() == "some notes"
    assert not list((tmp_path / "caches").rglob("notes.txt"))


def test_a_folder_of_ones_own_goes_on_where_a_process_was_stopped(notes: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "deep" / "notes.txt.partial").write_text("some")
    file = hub_file("owner/name", "deep/notes.txt", tmp_path / "mine")
    assert file.read_text() == "some notes"
    assert notes.asked[-1] == "GET /owner/name/resolve/main/deep/notes.txt from 4"

    (tmp_path / "mine" / "deep" / "notes.txt").write_text("evil notes")  # the Hub names the SHA-256
    with pytest.raises(DownloadError, match=r"is there already, but is not notes\.txt: its SHA-256 is"):
        hub_file("owner/name", "deep/notes.txt", tmp_path / "mine")


@pytest.mark.parametrize(
    ("repository", "name", "reason"),
    [
        ("owner/name", "none.txt", "there is no such file in it"),
        ("owner/none", "notes.txt", "there is no such repository, or you have no access to it"),
        ("owner/a b", "notes.txt", "Repo id must use alphanumeric chars"),
    ],
)
def test_what_can_not_be_had_is_told_in_one_line(notes: FakeHub, repository: str, name: str, reason: str) -> None:
    with pytest.raises(DownloadError) as caught:
        hub_file(repository, name)
    assert str(caught.value).startswith(f"{repository}/{name} can't be had from the Hub ({notes.address}): {reason}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://nowhere.invalid"])
def test_without_a_network_it_asks_once(notes: FakeHub, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waited to ask again"))
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(DownloadError, match=r"owner/name/deep/notes\.txt can't be had from the Hub"):
        hub_file("owner/name", "deep/notes.txt")
