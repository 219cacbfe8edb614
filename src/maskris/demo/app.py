"""Open a page on which a model can be tried with photos and phrases."""

import errno
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskris.cli.common import default_model, say
from maskris.cli.options import ModelOptions

if TYPE_CHECKING:
    from maskris.demo.checks import Limits
    from maskris.inference.predictor import Predictor

PORTS = 100  # how many are tried

# What the browser may load: what this page itself serves. Gradio needs inline scripts and styles, and eval.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def demo(
    checkpoint: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    examples: Path | None = None,
    max_mb: float = 20.0,
    max_pixels: int = 25_000_000,
    model: ModelOptions,
) -> int:
    """Open a page on which a model can be tried with photos and phrases, until Ctrl-C.

    It listens on this machine only, unless --host names another address, and loads nothing from the internet. Needs the
    extra: pip install 'maskris[demo]'.

    Args:
        checkpoint: A run folder, a model folder, a name of `maskris models` or a Hub id; by default
            caris-refcoco-combined.
        host: Address to listen on; 0.0.0.0 opens the page to the whole network, without a password.
        port: Port to listen on; if it is taken, the next free one.
        examples: Folder of photos to offer as examples, photo.txt beside photo.jpg with one expression per line; by
            default scenes like those of `maskris quickstart`.
        max_mb: Largest file that visitors can upload, in megabytes.
        max_pixels: Largest photo, width times height.
        model: How it is run.
    """
    _require_gradio()
    from maskris.demo.checks import Limits
    from maskris.demo.examples import own_examples
    from maskris.demo.service import public_name
    from maskris.utils.process import StopSignals

    limits = Limits(max_mb, max_pixels)
    offered = None if examples is None else own_examples(examples)
    predictor = model.predictor(default_model() if checkpoint is None else checkpoint)
    with StopSignals() as stop, serving(predictor, limits, offered, host=host, port=free_port(host, port)) as address:
        say(f"{public_name(predictor.name)} is served at {address} (Ctrl-C ends it)")
        if host not in ("127.0.0.1", "localhost", "::1"):
            say("It is open to everybody who can reach this machine: there is no password, see docs/demo.md")
        wait_for(stop)
    return 0


@contextmanager
def serving(
    predictor: "Predictor",
    limits: "Limits | None" = None,
    examples: "list[tuple[Path, str]] | None" = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> Iterator[str]:
    """Serve the page while the context is open; gives its address.

    What visitors upload lies in a temporary folder, and so do copies of the examples; it is removed in the end.

    Args:
        predictor: Its model, device and precision are used.
        limits: On a visitor's request.
        examples: Photos with expressions, one per line; by default scenes are drawn.
        host: Address to listen on.
        port: Port to listen on, by default the first free one from 7860.

    Raises:
        ImportError: If Gradio is not installed.
        OSError: If no port is free.
    """
    _require_gradio()
    from fastapi.middleware import Middleware

    from maskris.demo.examples import copied_examples, drawn_examples
    from maskris.demo.page import STYLE, make_page, make_theme
    from maskris.demo.service import PredictionService

    port = free_port(host, 7860) if port is None else port
    service = PredictionService(predictor, limits)
    with tempfile.TemporaryDirectory(prefix="maskris-demo-") as folder, _environment(GRADIO_TEMP_DIR=folder):
        offered = drawn_examples(Path(folder)) if examples is None else copied_examples(examples, Path(folder))
        page = make_page(service, offered, model=f"{type(predictor.model).__name__}, {service.name}")
        try:
            page.launch(
                server_name=host,
                server_port=port,
                max_file_size=service.limits.bytes,
                theme=make_theme(),
                css_paths=STYLE,
                app_kwargs={"middleware": [Middleware(_with_headers)]},
                footer_links=[],
                share=False,
                ssr_mode=False,
                run_history=False,
                enable_monitoring=False,
                prevent_thread_lock=True,
                quiet=True,
            )
            yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
        finally:
            page.close(verbose=False)


def free_port(host: str, port: int) -> int:
    """The first free port from `port` on.

    Raises:
        ValueError: If there is no such host or port.
        OSError: If none of a hundred is free, or the system refuses.
    """
    if not 0 < port < 65536:
        raise ValueError(f"--port is a number from 1 to 65535, not {port}")
    last = min(port + PORTS, 65536)
    candidate = port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        for candidate in range(port, last):
            with socket.socket(family, socket.SOCK_STREAM) as attempt:
                try:
                    attempt.bind((host, candidate))
                    return candidate
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
    except OSError as error:
        why = error.strerror or error
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ValueError(f"--host {host}: this machine has no such address ({why})") from error
        message = f"Can't listen on {host}, port {candidate}: {why}; choose others with --host and --port"
        raise OSError(message) from error
    raise OSError(f"No port from {port} to {last - 1} is free on {host}; choose another with --port")


def wait_for(stop: Any) -> None:
    """Wait for SIGTERM or Ctrl-C."""
    while stop.received is None:
        time.sleep(0.2)


def _require_gradio() -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # or it calls home when it is imported
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError("The demo needs Gradio; run: pip install 'maskris[demo]'") from error


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables that Gradio reads while a page is made, and their old values afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _with_headers(app: Any) -> Any:
    """An ASGI app with more headers: the browser itself refuses whatever would load something from elsewhere."""

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        async def send_more(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await app(scope, receive, send_more)

    return respond
