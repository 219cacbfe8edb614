"""A real browser for pages that people will open: headless Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",  # continuous integration runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL = ("127.0.0.1", "localhost", "::1")


def find_chromium() -> str:
    """Path of the browser; without one the test is skipped, or fails if MASKRIS_REQUIRE_BROWSER is set."""
    path = os.environ.get("MASKRIS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        reason = "Chromium was not found: install it (apt-get install chromium) or name it in MASKRIS_CHROMIUM"
        if os.environ.get("MASKRIS_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def chromium() -> "Iterator[Browser]":
    """A browser for all tests of a file.

    Not for the whole session: while it lives, an event loop counts as running and `asyncio.run` fails everywhere else.
    """
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: "Browser") -> "Iterator[Page]":
    """A fresh page, 1280 x 900; the test fails if it asks another machine for anything, or if a script of it fails."""
    strangers: list[str] = []
    failures: list[str] = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.on("request", lambda request: strangers.append(request.url) if is_remote(request.url) else None)
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield page
    context.close()
    assert not strangers, f"the page asks other machines: {strangers}"
    assert not failures, f"scripts of the page fail: {failures}"


def is_remote(url: str) -> bool:
    """Whether a request leaves this machine."""
    parts = urlsplit(url)
    return parts.scheme not in ("data", "blob", "file", "about") and parts.hostname not in LOCAL
