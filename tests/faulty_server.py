"""A local server that does wrong what servers and networks do wrong."""

import contextlib
import http.server
import threading

import pytest

CONTENT = bytes(range(256)) * 2000  # half a megabyte


class FaultyServer:
    """Answers by path: functions of the request, one for each request in turn, the last for ever."""

    def __init__(self):
        self.answers, self.requests = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
                answers = outer.answers[self.path]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                with contextlib.suppress(ConnectionError):
                    answer(self)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def give(self, path, *answers):
        self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.server.server_port}{path}"


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    faulty = FaultyServer()
    yield faulty
    faulty.server.shutdown()
    faulty.server.server_close()


def whole(content=CONTENT, ranges=True, etag='"1"', cut=None, length=None, kind="application/zip"):
    """The file, or with `ranges` what is asked for of it; `cut` bytes arrive before the connection ends."""

    def answer(request):
        asked = request.headers.get("Range") if ranges else None
        if asked and request.headers.get("If-Range") not in (None, etag):
            asked = None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and start >= len(content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = content[start:]
        request.send_response(206 if asked else 200)
        if asked:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if etag:
            request.send_header("ETag", etag)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        request.wfile.write(body if cut is None else body[:cut])

    return answer


def status(code, **headers):
    def answer(request):
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer
