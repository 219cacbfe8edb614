"""Files from the Hub, with an answer at once where there is no network."""

from pathlib import Path

import requests
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError

from maskris.utils.download import DownloadError, download_file


def hub_file(repository: str, name: str, folder: Path | None = None) -> Path:
    """A file of a repository on the Hub, from the Hub's cache or fetched.

    ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and ``HF_TOKEN`` mean what they mean everywhere.

    Args:
        repository: Such as ``"owner/name"``.
        name: Path of the file in it.
        folder: Where to put it if it isn't in the cache yet, instead of there. Such a download goes on where another
            process was stopped (those of `huggingface_hub` begin anew), and is held against the Hub's SHA-256.

    Raises:
        DownloadError: If it can't be had.
    """
    try:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached) if folder is not None else Path(hf_hub_download(repository, name))
        # Asks once. hf_hub_download would ask six times, for half a minute where there is no network.
        about = get_hf_file_metadata(url := hf_hub_url(repository, name))
        if folder is None:
            return Path(hf_hub_download(repository, name))
        sha256 = about.etag if about.etag and len(about.etag) == 64 else None  # of small files, it is Git's hash
        with requests.Session() as session:
            if token := get_token():  # requests doesn't pass it on to another host
                session.headers["Authorization"] = f"Bearer {token}"
            return download_file([url], folder / name, size=about.size, sha256=sha256, session=session)
    except DownloadError:
        raise
    except Exception as error:  # also those of the Hub's HTTP library, whichever that is
        where = f"{repository}/{name} can't be had from the Hub ({constants.ENDPOINT})"
        raise DownloadError(f"{where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or you have no access to it"
    if isinstance(error, RemoteEntryNotFoundError):
        return "there is no such file in it"
    told = " ".join(str(error.__cause__ or error).split())
    return told.partition(" For more information check:")[0]  # about what a status of HTTP is
