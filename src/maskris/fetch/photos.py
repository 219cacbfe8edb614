"""Single photos, several at once: each is whole and of the annotated size, or its name and the reason are reported."""

import re
import shutil
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import requests
from requests.adapters import HTTPAdapter

from maskris.data.readers.validation import ImageProblem, image_size
from maskris.fetch.referents import Photo
from maskris.utils.download import DownloadError, download_file
from maskris.utils.progress import show_progress

CONNECTIONS = 8
"""Photos that are fetched at once."""

_HOPELESS = 20  # failures in a row, after which the rest is not tried
_DAMAGED = "it can't be decoded"


@dataclass
class PhotoReport:
    """What came of fetching photos.

    Attributes:
        folder: Where they are.
        fetched: How many were downloaded, extracted or copied.
        there: How many were there before.
        failed: Names of the others, with reasons.
    """

    folder: Path
    fetched: int = 0
    there: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def fetch_photos(
    photos: Collection[Photo], folder: Path, addresses: Sequence[str], *, source: Path | None = None, shown: bool = True
) -> PhotoReport:
    """Fetch single photos; what is there, whole and of the right size, is kept, so that the same call goes on.

    Args:
        photos: Which.
        folder: Where to.
        addresses: Of one photo, with ``{number}`` for the twelve digits in its name, the preferred one first.
        source: Folder with photos to copy, under the same names, before any is downloaded.
        shown: Show the progress.

    Returns:
        How many were fetched, and each failure.

    Raises:
        DownloadError: If so many fail in a row that the others would too.
    """
    report, in_a_row = PhotoReport(folder), 0
    with requests.Session() as session, ThreadPoolExecutor(CONNECTIONS) as pool:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        jobs = {pool.submit(_fetch, photo, folder, addresses, source, session): photo.image for photo in sorted(photos)}
        try:
            with show_progress("photos", len(jobs), unit="photos", shown=shown) as bar:
                for job in as_completed(jobs):
                    try:
                        report.there += job.result() == "there"
                        report.fetched += job.result() == "fetched"
                        in_a_row = 0
                    except _Failed as error:
                        report.failed.append((jobs[job], str(error)))
                        in_a_row += 1
                    if in_a_row >= _HOPELESS:
                        last = "\n".join(f"  {name}: {reason}" for name, reason in report.failed[-3:])
                        done = report.there + report.fetched
                        raise DownloadError(
                            f"{in_a_row} photos in a row could not be fetched, the last ones:\n{last}\n"
                            f"{done:,} of {len(jobs):,} are in {folder}; the same command fetches the others"
                        )
                    bar.advance()
        finally:
            pool.shutdown(cancel_futures=True)
    report.failed.sort()
    return report


class _Failed(Exception):  # noqa: N818 (an outcome)
    """Why there is no photo."""


def _fetch(
    photo: Photo, folder: Path, addresses: Sequence[str], source: Path | None, session: requests.Session
) -> Literal["fetched", "there"]:
    path = folder / photo.image
    if path.exists():
        problem = _problem(path, photo)
        if problem is None:
            return "there"
        if problem != _DAMAGED:  # it may be somebody's work; what can't be decoded is of no use to anybody
            raise _Failed(f"{problem}; move {path} away")
    arriving = path.with_name(f".{path.name}.arriving")
    arriving.unlink(missing_ok=True)
    number = re.search(r"(\d{12})\.jpg$", photo.image)
    urls = [address.format(number=number[1]) for address in addresses] if number else []
    copies = [source / photo.image, source / folder.name / photo.image] if source else []
    reasons: list[str] = []
    try:
        ways: list[Path | str] = [*filter(Path.is_file, copies), *urls]
        for one in ways:
            if isinstance(one, Path):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(one, arriving)
            else:
                try:
                    download_file([one], arriving, attempts=3, resume=False, shown=False, session=session)
                except DownloadError as error:
                    told = [line.strip() for line in str(error).splitlines() if line.startswith("  ")]
                    reasons += told or [str(error)]
                    continue
            if (problem := _problem(arriving, photo)) is None:
                arriving.replace(path)
                return "fetched"
            reasons.append(f"{one}: {problem}")
            arriving.unlink()
    finally:
        arriving.unlink(missing_ok=True)
    raise _Failed("; ".join(reasons) or "there is no address for such a name")


def _problem(file: Path, photo: Photo) -> str | None:
    size = image_size(file, decode=True)
    if isinstance(size, ImageProblem):
        return _DAMAGED
    if size != (photo.height, photo.width):
        return f"it has {size[1]} x {size[0]} pixels, but is annotated as {photo.width} x {photo.height}"
    return None
