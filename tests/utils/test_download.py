"""Downloads from a local server that does everything wrong that servers and networks do."""

import hashlib
import shutil
import threading
from collections import namedtuple

import pytest
import requests
from faulty_server import CONTENT, status, whole

from maskris.utils.download import MEGABYTE, DownloadError, cache_folder, download_file
from maskris.utils.files import read_json

BLOCK = 1 << 16  # of which less gets lost when a connection breaks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def silence(request):
    """Headers, and then nothing."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(CONTENT)))
    request.end_headers()
    request.wfile.write(CONTENT[:100])
    request.wfile.flush()
    threading.Event().wait(2)


def test_a_file_arrives_under_its_name_with_nothing_beside_it(server, tmp_path):
    path = download_file([server.give("/a", whole())], tmp_path / "new" / "a.zip", size=len(CONTENT), sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert [one.name for one in path.parent.iterdir() if one.name != ".lock"] == ["a.zip"]


def test_a_file_that_is_there_is_checked_and_not_fetched(server, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(CONTENT)
    assert download_file(["http://127.0.0.1:9/a"], path, sha256=SHA256) == path
    path.write_bytes(b"other")
    with pytest.raises(DownloadError, match=r"is there already, but is not a\.zip: its SHA-256 is .* Move it away"):
        download_file(["http://127.0.0.1:9/a"], path, sha256=SHA256)
    assert path.read_bytes() == b"other"
    path.write_text("<!DOCTYPE html><html>Sign in</html>")
    with pytest.raises(DownloadError, match="is a web page and not the file itself"):
        download_file(["http://127.0.0.1:9/a"], path, sha256=SHA256)


@pytest.mark.parametrize("known", [{"sha256": SHA256}, {"size": len(CONTENT)}, {}])
def test_a_cut_connection_goes_on_where_it_broke_off(server, tmp_path, known):
    url = server.give("/a", whole(cut=BLOCK + 5), whole(cut=2 * BLOCK), whole())
    pauses = []
    path = download_file([url], tmp_path / "a", pause=pauses.append, **known)
    assert path.read_bytes() == CONTENT
    assert [asked for _, asked, _ in server.requests] == [None, f"bytes={BLOCK}-", f"bytes={3 * BLOCK}-"]
    assert pauses == [1, 2]


def test_a_later_call_goes_on_and_says_so(server, tmp_path):
    url = server.give("/a", whole(cut=4 * BLOCK), status(503))
    with pytest.raises(
        DownloadError, match=r"503 Service Unavailable \(2 attempts\)\nThe same command goes on after 0\.3 MB"
    ):
        download_file([url], tmp_path / "a", attempts=2, pause=lambda _: None)
    assert not (tmp_path / "a").exists()
    server.give("/a", whole())
    assert download_file([url], tmp_path / "a").read_bytes() == CONTENT
    assert server.requests[-1] == ("/a", f"bytes={4 * BLOCK}-", '"1"')


def test_a_file_that_changed_meanwhile_begins_anew(server, tmp_path):
    newer = CONTENT[::-1]
    url = server.give("/a", whole(cut=4 * BLOCK), whole(newer, etag='"2"'))
    assert download_file([url], tmp_path / "a", pause=lambda _: None).read_bytes() == newer


def test_without_a_validator_only_a_hash_allows_to_go_on(server, tmp_path):
    url = server.give("/a", whole(cut=4 * BLOCK, etag=None), whole(etag=None))
    download_file([url], tmp_path / "a", pause=lambda _: None)
    assert [asked for _, asked, _ in server.requests] == [None, None]
    server.requests.clear()
    server.give("/a", whole(cut=4 * BLOCK, etag=None), whole(etag=None))
    download_file([url], tmp_path / "b", sha256=SHA256, pause=lambda _: None)
    assert [asked for _, asked, _ in server.requests] == [None, f"bytes={4 * BLOCK}-"]


def test_a_beginning_of_another_version_is_thrown_away(server, tmp_path):
    (tmp_path / "a.partial").write_bytes(b"?" * 1000)
    url = server.give("/a", whole(etag=None))
    assert download_file([url], tmp_path / "a", sha256=SHA256).read_bytes() == CONTENT
    assert [asked for _, asked, _ in server.requests] == ["bytes=1000-", None]


def test_a_partial_file_that_is_whole_already_needs_no_byte(server, tmp_path):
    (tmp_path / "a.partial").write_bytes(CONTENT)
    url = server.give("/a", whole())
    assert download_file([url], tmp_path / "a", sha256=SHA256).read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_file_begins_anew(server, tmp_path):
    (tmp_path / "a.partial").write_bytes(CONTENT + b"more")
    url = server.give("/a", whole())
    assert download_file([url], tmp_path / "a", sha256=SHA256, pause=lambda _: None).read_bytes() == CONTENT


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    url = server.give("/a", whole(cut=4 * BLOCK, ranges=False), whole(ranges=False))
    assert download_file([url], tmp_path / "a", sha256=SHA256, pause=lambda _: None).read_bytes() == CONTENT


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_answers_that_pass_are_waited_for(server, tmp_path, code):
    pauses = []
    url = server.give("/a", status(code), status(code, Retry_After="7"), status(code, Retry_After="7000"), whole())
    assert download_file([url], tmp_path / "a", pause=pauses.append).read_bytes() == CONTENT
    assert pauses == [1, 7, 60]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(403), "403 Forbidden"),
        (status(404), "404 Not Found"),
        (status(500), r"500 Internal Server Error \(3 attempts\)"),
        (whole(CONTENT[:-1]), "has a file of 511,999 bytes, not of 512,000"),
        (whole(CONTENT + b"!"), "has a file of 512,001 bytes, not of 512,000"),
        (whole(CONTENT[::-1]), "its SHA-256 is [0-9a-f]{64} instead of [0-9a-f]{64}"),
        (whole(b"<html>Sign in</html>", kind="text/html; charset=utf-8"), "web page instead of the file"),
        (status(302, Location="/bad"), "redirects without end"),
        (whole(cut=10, ranges=False), r"\(3 attempts\)"),
    ],
)  # fmt: skip
def test_the_next_address_is_taken_and_without_one_all_reasons_are_given(server, tmp_path, answer, reason):
    bad, good = server.give("/bad", answer), server.give("/good", whole())
    options = {"size": len(CONTENT), "sha256": SHA256, "attempts": 3, "pause": lambda _: None}
    assert download_file([bad, good], tmp_path / "a", **options).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=rf"(?s)^b could not be downloaded to .*/bad: .*{reason}.*Take a bus\.$"):
        download_file([bad], tmp_path / "b", hint="Take a bus.", **options)
    assert not (tmp_path / "b").exists()


def test_a_silent_server_is_given_up(server, tmp_path):
    url, good = server.give("/a", silence), server.give("/good", whole())
    assert download_file([url, good], tmp_path / "a", attempts=1, timeout=0.2).read_bytes() == CONTENT


def test_attempts_count_only_where_nothing_arrives(server, tmp_path):
    content = CONTENT * 13  # 6.6 MB, a megabyte or so at a time
    url = server.give("/a", *[whole(content, cut=MEGABYTE + BLOCK)] * 6, whole(content))
    assert download_file([url], tmp_path / "a", attempts=1, pause=lambda _: None).read_bytes() == content


def test_no_server_and_no_network(tmp_path):
    with pytest.raises(DownloadError, match=r"refused|Refused"):
        download_file(["http://127.0.0.1:9/a"], tmp_path / "a", attempts=1)
    with pytest.raises(DownloadError, match=r"its name is not known here .*is there a network"):
        download_file(["http://nowhere.invalid/a"], tmp_path / "a", pause=pytest.fail)


def test_hashes_are_kept_and_held_against_later_downloads(server, tmp_path):
    url, notes = server.give("/a", whole()), tmp_path / "hashes.json"
    download_file([url], tmp_path / "1", recorded=notes)
    assert read_json(notes) == {url: SHA256}
    server.give("/a", whole(CONTENT[::-1]))
    with pytest.raises(DownloadError, match=f"instead of {SHA256}"):
        download_file([url], tmp_path / "2", recorded=notes)


def test_a_full_disk_is_noticed_before_the_first_byte(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 9 * 10**5, 10**5))
    with pytest.raises(DownloadError, match=r"a needs 0\.5 MB in .*, where 0\.1 MB are free"):
        download_file([server.give("/a", whole())], tmp_path / "a")


def test_small_files_in_threads_leave_nothing_behind(server, tmp_path):
    good, bad = server.give("/a", whole()), server.give("/b", whole(cut=5, ranges=False))
    with requests.Session() as session:
        options = {"resume": False, "session": session, "shown": False, "attempts": 1}
        threads = [
            threading.Thread(target=download_file, args=([good], tmp_path / f"{i}"), kwargs=options) for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(DownloadError):
            download_file([bad], tmp_path / "b", **options)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["0", "1", "2", "3"]
    assert all(one.read_bytes() == CONTENT for one in tmp_path.iterdir())


def test_two_callers_of_one_file_share_the_download(server, tmp_path):
    url = server.give("/a", whole())
    threads = [threading.Thread(target=download_file, args=([url], tmp_path / "a")) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_the_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    server.answers["http://example.org/a"] = [whole()]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert download_file(["http://example.org/a"], tmp_path / "a").read_bytes() == CONTENT


def test_the_folder_for_downloads(monkeypatch, tmp_path):
    monkeypatch.setenv("MASKRIS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MASKRIS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "maskris"
