"""A server in the place of the Hub and of Google Drive, with folders for repositories."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import close_session

COMMIT = "0" * 39 + "1"
PAGE = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"


@dataclass
class FakeHub:
    """Where it is, what it serves and what was asked.

    Attributes:
        address: Of the server.
        repositories: Folders of files, by owner/name.
        drive: Files by their ids on Google Drive; a file that is missing is answered with a web page.
        asked: Methods and paths, in order.
    """

    address: str
    repositories: dict[str, Path] = field(default_factory=dict)
    drive: dict[str, Path] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def fetched(self, name: str) -> int:
        """How often a file was sent."""
        return sum(line.startswith("GET ") and name in line for line in self.asked)


@contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[FakeHub]:
    """Serve, with `huggingface_hub` and the addresses of Google Drive led here, and empty caches in a folder."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            hub.asked.append(f"{self.command} {unquote(self.path)}")
            address = urlsplit(unquote(self.path))
            parts = address.path.strip("/").split("/")
            if parts[0] == "download":
                file = hub.drive.get(parse_qs(address.query)["id"][0])
                if file is None:
                    self._send(200, PAGE, body, {"Content-Type": "text/html; charset=utf-8"})
                else:
                    self._send(200, file.read_bytes(), body)
            elif parts[0] == "api":
                name = next((one for one in hub.repositories if "/".join(parts[2:]).startswith(f"{one}/")), "")
                self._list(name, parts[2 + len(name.split("/")) :], body)
            else:
                cut = parts.index("resolve")
                folder = hub.repositories.get("/".join(parts[:cut]))
                if folder is None:
                    self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})
                elif not (file := folder.joinpath(*parts[cut + 2 :])).is_file():
                    self._send(404, b"", body, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                else:
                    content = file.read_bytes()
                    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
                    if asked := self.headers.get("Range"):
                        start = int(asked.removeprefix("bytes=").removesuffix("-"))
                        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                        hub.asked[-1] += f" from {start}"
                        content = content[start:]
                    self._send(206 if asked else 200, content, body, headers)

        def _list(self, name: str, rest: list[str], body: bool) -> None:
            folder = hub.repositories.get(name)
            if folder is None:
                self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})
                return
            if rest[:1] == ["tree"] and len(rest) > 2:  # a folder in it, such as that of chat templates
                self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
                return
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            names = [path.relative_to(folder).as_posix() for path in files]
            if rest[:1] == ["tree"]:
                listed: object = [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
                    for name, path in zip(names, files, strict=True)
                ]
            else:
                listed = {"id": name, "modelId": name, "sha": COMMIT, "siblings": [{"rfilename": one} for one in names]}
            self._send(200, json.dumps(listed).encode(), body, {"Content-Type": "application/json"})

        def _send(self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = FakeHub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.address)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)  # it keeps the address
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr("maskris.models.weights.released_files.DRIVE", hub.address + "/download?id={}&confirm=t")
    monkeypatch.setenv("MASKRIS_CACHE", str(cache / "maskris"))
    try:
        yield hub
    finally:
        close_session()  # or it would go on with what answered here
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with published files in small: ``CARIS`` and ``bert`` as on the Hub, two of LAVT as on Google Drive."""
    from models.published import write_caris, write_lavt, write_vocabulary  # here, as every run of the tests reads this

    folder = tmp_path_factory.mktemp("published")
    write_caris(folder / "CARIS" / "standard" / "refcoco.pth")
    write_caris(folder / "CARIS" / "combined" / "refcocom.pth", seed=1)
    write_lavt(folder / "lavt.pth", one=False)
    write_lavt(folder / "lavt_one.pth", one=True)
    write_vocabulary(folder / "bert")
    return folder


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A server with all of `published`, and empty caches."""
    with fake_hub(monkeypatch, tmp_path / "caches") as hub:
        hub.repositories = {"saliu/CARIS": published / "CARIS", "bert-base-uncased": published / "bert"}
        hub.drive = {
            "13D-OeEOijV8KTC3BkFP-gOJymc6DLwVT": published / "lavt.pth",
            "1xFMEXr6AGU97Ypj1yr8oo00uObbeIQvJ": published / "lavt_one.pth",
        }
        yield hub
