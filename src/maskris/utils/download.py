"""Downloads that go on where they broke off: several addresses, retries, checked lengths and hashes."""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import requests
from filelock import FileLock

from maskris.utils.files import read_json, sha256_of, stand_in, write_json
from maskris.utils.progress import show_progress
from maskris.utils.runstore import lock_folder

MEGABYTE = 1_000_000
_BLOCK = 1 << 16  # what a broken connection costs at most
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # answers that may be another one a moment later
_LONGEST_PAUSE = 60.0


class DownloadError(OSError):
    """A file could not be had; the message names every address with its reason."""


class _Refused(Exception):  # noqa: N818 (an answer, not an error of ours)
    """An address that will not give the file, however often it is asked."""


class _Interrupted(Exception):  # noqa: N818
    """A transfer that broke off; `wait` is how long the server asks to be left alone."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def cache_folder() -> Path:
    """The folder for what maskris downloads: ``$MASKRIS_CACHE``, else ``maskris`` in the user's cache folder."""
    if own := os.environ.get("MASKRIS_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "maskris"


def download_file(
    urls: Sequence[str],
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    recorded: Path | None = None,
    label: str | None = None,
    hint: str = "",
    attempts: int = 5,
    timeout: float = 30.0,
    shown: bool = True,
    resume: bool = True,
    session: requests.Session | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Download a file from the first of several addresses that gives it whole.

    The bytes go to ``<name>.partial`` beside it, which a later call goes on from, and get their name when length and
    hash are right. A server that doesn't know ranges begins anew. Proxies of the environment are used.

    Args:
        urls: Addresses of the same file, the preferred one first.
        path: Where to; a file that is there already is checked, and not downloaded again.
        size: Its bytes, if known exactly.
        sha256: Its hexadecimal SHA-256, if known.
        recorded: JSON file that keeps the SHA-256 of a file for which none is known: noted at the first download, held
            against later ones.
        label: Name for people; by default the file's.
        hint: What else the user can do, for the message of an error.
        attempts: Tries in a row at one address that bring no more than a megabyte each.
        timeout: Longest silence of a server, in seconds.
        shown: Show the progress.
        resume: Keep what arrived for a later call. Processes that download to one folder then wait for each other; many
            small files at once are better without it.
        session: Connections to use again, for many small files.
        pause: How to wait between attempts.

    Returns:
        `path`.

    Raises:
        DownloadError: If no address gives the file, the disk is too full, or a file at `path` is another one.
    """
    label = label or path.name
    path.parent.mkdir(parents=True, exist_ok=True)
    own = "" if resume else f".{os.getpid()}.{threading.get_ident()}"
    partial = path.with_name(f"{path.name}{own}.partial")
    failures = []
    with (
        lock_folder(path.parent, timeout=-1) if resume else nullcontext(),
        nullcontext(session) if session else requests.Session() as connections,
    ):
        sha256 = sha256 or (noted_sha256(recorded, urls[0]) if recorded else None)
        if path.exists():  # perhaps since a moment ago, by another process
            if wrong := _wrong(path, size, sha256):
                advice = " ".join(filter(None, ("Move it away, and try again.", hint)))
                told = f"{path} is there already, but is not {label}: {wrong}. {advice}"
                raise DownloadError(stand_in(path) or told)
            return path
        for url in urls:
            transfer = _Transfer(connections, url, partial, size, sha256, timeout, resume)
            try:
                wrong = transfer.run(label, attempts, shown, pause)
                if not wrong:
                    transfer.validator.unlink(missing_ok=True)
                    break
                failures.append(f"  {url}: {wrong}")
            except (_Refused, _Interrupted) as error:
                failures.append(f"  {url}: {error}")
            if not resume:
                transfer.forget()  # nothing of it is kept, for another address either
        else:
            kept = partial.stat().st_size if partial.exists() else 0
            goes_on = f"The same command goes on after {kept / MEGABYTE:,.1f} MB" if kept else "Try again later"
            advice = " ".join(part for part in (f"{goes_on}.", hint) if part)
            raise DownloadError("\n".join([f"{label} could not be downloaded to {path}:", *failures, advice]))
        if recorded and not sha256:
            note_sha256(recorded, urls[0], sha256_of(partial))
        partial.replace(path)
    return path


class _Transfer:
    """The transfer of one file from one address."""

    def __init__(
        self,
        session: requests.Session,
        url: str,
        partial: Path,
        size: int | None,
        sha256: str | None,
        timeout: float,
        resume: bool,
    ) -> None:
        self.session, self.url, self.partial, self.timeout = session, url, partial, timeout
        self.size, self.sha256 = size, sha256
        self.validator = partial.with_name(f"{partial.name}.json")  # of which version the partial file is
        self.keeps_validator = resume  # else no later call goes on, and many small files need none beside them
        self.resumed = False

    def forget(self) -> None:
        """Begin anew."""
        self.partial.unlink(missing_ok=True)
        self.validator.unlink(missing_ok=True)
        self.resumed = False

    def run(self, label: str, attempts: int, shown: bool, pause: Callable[[float], None]) -> str | None:
        """Fetch the file and return what is wrong with it; `_Refused` or `_Interrupted` if the address has none."""
        self._fetch(label, attempts, shown, pause)
        wrong = _wrong(self.partial, self.size, self.sha256)
        if wrong and self.resumed:  # perhaps its beginning was of another version
            self.forget()
            self._fetch(label, attempts, shown, pause)
            wrong = _wrong(self.partial, self.size, self.sha256)
        if wrong:
            self.forget()
        return wrong

    def _fetch(self, label: str, attempts: int, shown: bool, pause: Callable[[float], None]) -> None:
        failed = 0
        while True:
            before = self._done()
            try:
                return self._receive(label, shown)
            except requests.TooManyRedirects as error:
                raise _Refused("it redirects without end") from error
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                reason = _innermost(error)
                if isinstance(reason, socket.gaierror):  # no network at all; waiting rarely helps
                    raise _Refused(f"its name is not known here ({reason}); is there a network?") from error
                problem = _Interrupted(str(reason) or type(reason).__name__)
            except requests.RequestException as error:
                raise _Refused(str(_innermost(error))) from error
            except _Interrupted as error:
                problem = error
            failed = 0 if self._done() - before >= MEGABYTE else failed + 1
            if failed >= attempts:
                raise _Interrupted(f"{problem} ({attempts} attempts)")
            pause(min(_LONGEST_PAUSE, problem.wait if problem.wait is not None else 2.0 ** (failed - 1)))

    def _done(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _receive(self, label: str, shown: bool) -> None:
        start = self._done()
        headers = {"Accept-Encoding": "identity", "User-Agent": f"maskris/{version('maskris')}"}
        if start:
            if self.size is not None and start == self.size:
                return
            known = read_json(self.validator) if self.validator.exists() else {}
            unchanged = known.get("validator") if known.get("url") == self.url else None
            if unchanged or self.sha256:
                headers["Range"] = f"bytes={start}-"
                if unchanged:
                    headers["If-Range"] = unchanged
        with self.session.get(self.url, headers=headers, stream=True, timeout=(10, self.timeout)) as response:
            if response.status_code == 416 and "Range" in headers:
                if response.headers.get("Content-Range") == f"bytes */{start}":
                    self.resumed = True
                    return
                self.forget()
                raise _Interrupted("it has less of the file than is here already", wait=0.0)
            if response.status_code in _PASSING:
                wait = response.headers.get("Retry-After", "")
                reason = f"{response.status_code} {response.reason}"
                raise _Interrupted(reason, float(wait) if wait.isdecimal() else None)
            if response.status_code not in (200, 206):
                raise _Refused(f"{response.status_code} {response.reason}")
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise _Refused("it answers with a web page instead of the file")
            if response.status_code == 206:
                if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    self.forget()
                    raise _Interrupted("it sent another part of the file than was asked for")
                self.resumed = True
            else:
                start = 0
            self._store(response, start, label, shown)

    def _store(self, response: requests.Response, start: int, label: str, shown: bool) -> None:
        length = response.headers.get("Content-Length", "")
        plain = not response.headers.get("Content-Encoding")
        total = start + int(length) if length.isdecimal() and plain else None
        if self.size is not None and total is not None and total != self.size:
            raise _Refused(f"it has a file of {total:,} bytes, not of {self.size:,}")
        total = self.size if total is None else total
        free = shutil.disk_usage(self.partial.parent).free
        if total is not None and free < total - start:
            raise DownloadError(
                f"{label} needs {(total - start) / MEGABYTE:,.1f} MB in {self.partial.parent}, where "
                f"{free / MEGABYTE:,.1f} MB are free"
            )
        validator = response.headers.get("ETag", "")
        if not validator or validator.startswith("W/"):  # a weak one doesn't promise the same bytes
            validator = response.headers.get("Last-Modified", "")
        if self.keeps_validator:
            write_json(self.validator, {"url": self.url, "validator": validator})
        megabytes = None if total is None else -(-total // MEGABYTE)
        done = start
        with (
            self.partial.open("r+b" if start else "wb") as file,
            show_progress(label, megabytes, done=start // MEGABYTE, unit="MB", shown=shown) as bar,
        ):
            file.seek(start)
            for block in response.iter_content(_BLOCK):
                done += len(block)
                if total is not None and done > total:
                    raise _Refused(f"it sends more than the {total:,} bytes that it should have")
                try:
                    file.write(block)
                except OSError as error:
                    raise DownloadError(f"{label} can't be written to {self.partial}: {error.strerror}") from error
                if (more := done // MEGABYTE - bar.done) > 0:
                    bar.advance(more)
        if total is not None and done < total:
            raise _Interrupted(f"it broke off after {done:,} of {total:,} bytes")


def _wrong(file: Path, size: int | None, sha256: str | None) -> str | None:
    """What is wrong with a whole file, if anything is."""
    found = file.stat().st_size
    if size is not None and found != size:
        return f"it has {found:,} bytes instead of {size:,}"
    if sha256 and (hashed := sha256_of(file)) != sha256.lower():
        return f"its SHA-256 is {hashed} instead of {sha256.lower()}"
    return None


def _innermost(error: BaseException) -> BaseException:
    """The reason of a failed request, without the objects that requests wraps it in."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def noted_sha256(recorded: Path, url: str) -> str | None:
    """The SHA-256 that was noted for an address in the file `recorded`."""
    value = read_json(recorded).get(url) if recorded.exists() else None
    return value if isinstance(value, str) else None


def note_sha256(recorded: Path, url: str, sha256: str) -> None:
    """Note the SHA-256 of what an address gave, to hold later downloads against it."""
    recorded.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(recorded.with_name(f"{recorded.name}.lock")):
        values = read_json(recorded) if recorded.exists() else {}
        write_json(recorded, {**values, url: sha256})
