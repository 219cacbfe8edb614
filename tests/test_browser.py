"""The fixtures of `browser.py`: what counts as another machine, and what happens where there is no browser."""

import pytest
from browser import find_chromium, is_remote


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("http://127.0.0.1:7860/", False),
        ("http://localhost/a", False),
        ("http://[::1]:80/", False),
        ("file:///tmp/a.html", False),
        ("data:text/plain,a", False),
        ("blob:http://127.0.0.1/x", False),
        ("https://fonts.googleapis.com/css2", True),
        ("//cdn.example.com/a.js", True),
        ("ws://example.com/", True),
    ],
)
def test_what_leaves_this_machine(url, remote):
    assert is_remote(url) is remote


def test_without_a_browser_tests_are_skipped_but_fail_where_it_is_required(monkeypatch):
    monkeypatch.delenv("MASKRIS_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("MASKRIS_REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Chromium was not found"):
        find_chromium()
    monkeypatch.setenv("MASKRIS_REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="Chromium was not found"):
        find_chromium()
    monkeypatch.setenv("MASKRIS_CHROMIUM", "/opt/chromium")
    assert find_chromium() == "/opt/chromium"
