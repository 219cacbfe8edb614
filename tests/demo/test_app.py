"""The command and its page without a browser; `test_demo_browser.py` looks at the page in one."""

import asyncio
import builtins
import errno
import json
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from colors import ColorWords
from PIL import Image

from maskris.data.shapes.language import vocabulary
from maskris.demo import app as app
from maskris.demo.checks import Limits
from maskris.demo.examples import drawn_examples, own_examples
from maskris.demo.page import Events, header
from maskris.demo.service import PredictionService
from maskris.inference.predictor import Predictor

gradio = pytest.importorskip("gradio")

HEAD = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "colors"
    ColorWords().save_pretrained(folder)
    return folder


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return PredictionService(Predictor(ColorWords()), Limits(pixels=10_000))


@pytest.fixture
def photo(tmp_path):
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[10:30, 10:30, 0] = 255
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def sent(path):
    return {"path": str(path), "name": path.name}


def test_the_command_serves_until_it_is_stopped(maskris, checkpoint, monkeypatch):
    seen = {}

    def look(stop):
        address = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(address) as response:
            seen["page"], seen["headers"] = response.read().decode(), response.headers
        request = urllib.request.Request(
            f"{address}/gradio_api/upload",
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            + b"0" * 150_000
            + b"\r\n--x--\r\n",
            {"Content-Type": "multipart/form-data; boundary=x"},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        seen["upload"] = caught.value.code
        with socket.socket() as other, pytest.raises(OSError, match=r"[Rr]efused|not available"):
            other.connect(("127.0.0.2", port))  # this machine by another address

    port = app.free_port("127.0.0.1", 17860)
    monkeypatch.setattr(app, "wait_for", look)
    code, out, err = maskris(
        "demo", checkpoint, "--model-class", "colors.ColorWords", "--port", port, "--max-mb", "0.1", "--device", "cpu"
    )
    assert (code, err) == (0, "")
    assert f"models/colors is served at http://127.0.0.1:{port}" in out.replace(checkpoint.parent.name, "models")
    assert "password" not in out
    assert "models0/colors" in seen["page"]
    assert str(checkpoint) not in seen["page"]
    assert "default-src 'self'" in seen["headers"]["Content-Security-Policy"]
    assert seen["upload"] == 413
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("own", [False, True])
def test_without_a_model_it_is_the_released_one(maskris, hub, tmp_path, monkeypatch, own):
    monkeypatch.chdir(tmp_path)
    if own:
        (tmp_path / "quickstart" / "maskris").mkdir(parents=True)
    monkeypatch.setattr(app, "wait_for", lambda stop: None)
    code, out, err = maskris("demo", "--port", app.free_port("127.0.0.1", 17860), "--device", "cpu")
    assert code == 0
    first, second = out.splitlines()
    hint = "; the one of `maskris quickstart` is quickstart/maskris" if own else ""
    assert first == f"No model was named, so it is caris-refcoco-combined (`maskris models` lists others{hint})"
    assert second.startswith("caris-refcoco-combined is served at http://127.0.0.1:")
    assert "(907 MB, license MIT)" in err


def test_without_gradio_it_names_the_extra(maskris, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **more):
        if name == "gradio":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert maskris("demo") == (1, "", "error: The demo needs Gradio; run: pip install 'maskris[demo]'\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "0"], "--port is a number from 1 to 65535, not 0"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: this machine has no such address"),
        (["--host", "192.0.2.1"], "--host 192.0.2.1: this machine has no such address"),  # of RFC 5737: nobody's
        (["--max-mb", "0"], "The limit on megabytes must be positive"),
        (
            ["--max-pixels", "200000000"],
            "The limit on pixels must be at most 178,956,970, not 200,000,000: Pillow opens",
        ),
        (["--examples", "nowhere"], "--examples nowhere: there is no such folder"),
    ],
)
def test_wrong_options_are_explained(maskris, checkpoint, words, said):
    code, _, err = maskris("demo", checkpoint, "--model-class", "colors.ColorWords", *words)
    assert code == 1
    assert err.startswith(f"error: {said}")


def test_the_next_free_port_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", app.free_port("127.0.0.1", 18860)))
        taken.listen()
        port = taken.getsockname()[1]
        assert app.free_port("127.0.0.1", port) > port


def test_only_a_taken_port_leads_to_the_next_one(monkeypatch):
    tried = []

    def forbidden(self, address):
        tried.append(address[1])
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    with pytest.raises(OSError, match=r"Can't listen on 127\.0\.0\.1, port 80: Permission denied; choose others"):
        app.free_port("127.0.0.1", 80)
    assert tried == [80]


def test_visitors_are_not_told_where_the_model_lies(checkpoint):
    predictor = Predictor.from_pretrained(checkpoint, "cpu", model_class=ColorWords)
    with app.serving(predictor, examples=[]) as address, urllib.request.urlopen(address) as response:
        page = response.read().decode()
    assert f"ColorWords, {checkpoint.parent.name}/colors" in page
    assert str(checkpoint.parent) not in page
    assert predictor.name == str(checkpoint), "the caller's predictor stays as it is"


def test_no_call_home(monkeypatch):
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    app._require_gradio()
    from gradio.analytics import analytics_enabled

    assert not analytics_enabled()


def test_nothing_of_gradio_is_written_beside_the_source(service):
    from maskris.demo.page import STYLE, make_page

    make_page(service)
    assert STYLE.is_file()
    assert [file.name for file in STYLE.parent.glob("*.pyi")] == ["__init__.pyi"]


def test_photos_are_not_fetched_from_addresses(service):
    from maskris.demo.page import photo_field

    field = photo_field()()
    for address in ("http://127.0.0.1:1/cat.png", "https://example.com/cat.png"):
        with pytest.raises(gradio.Error, match="not fetched from addresses"):
            asyncio.run(field.async_move_resource_to_block_cache(address))


def test_a_bad_photo_is_told_at_once_and_taken_away(service, photo):
    events = Events(service)
    kept, request, *results = events.photo(sent(photo))
    assert kept == gradio.skip()
    assert (request, results[0]["value"], results[0]["visible"]) == (None, "", False)
    photo.write_text("no photo")
    gone, request, notice, *_ = events.photo(sent(photo))
    assert (gone, request) == (None, None)
    assert notice["visible"]
    assert "scene.png is not a photo that can be read here" in notice["value"]
    assert events.photo(None)[2]["value"] == ""


def test_finding(service, photo):
    request, notice, picture, table, zip_button, json_button = Events(service).find(
        sent(photo), "red\n<b>blue</b>", 0.5
    )
    assert (request.name, request.expressions) == ("scene.png", ("red", "<b>blue</b>"))
    assert not notice["visible"]
    assert picture.endswith("scene_overlay.png")
    assert Image.open(picture).size == (512, 512)
    assert "<span>red</span></div></th><td>1.00</td><td>10, 10, 20, 20</td><td>9.8%</td>" in table["value"]
    assert "&lt;b&gt;blue&lt;/b&gt;<small>the model has never seen: &lt;b&gt;blue&lt;/b&gt;</small>" in table["value"]
    assert "nothing at this threshold" in table["value"]
    assert zip_button["interactive"]
    assert json_button["interactive"]


@pytest.mark.parametrize(
    ("has_photo", "text", "said"),
    [(False, "red", "Choose a photo first"), (True, " ", "Say what to look for"), (True, "x" * 201, "at most 200")],
)
def test_what_is_missing_is_told(service, photo, has_photo, text, said):
    request, notice, picture, table, button, _ = Events(service).find(sent(photo) if has_photo else None, text, 0.5)
    assert (request, picture) == (None, None)
    assert said in notice["value"]
    assert 'role="alert"' in notice["value"]
    assert not table["visible"]
    assert not button["interactive"]


def test_the_threshold_moves_for_what_was_found(service, photo):
    events = Events(service)
    assert events.threshold(None, 0.5) == [gradio.skip()] * 5
    request = events.find(sent(photo), "red", 0.5)[0]
    asked = service.predictor.model.asked
    assert "9.8%" in events.threshold(request, 0.9)[2]["value"]
    assert service.predictor.model.asked == asked


def test_downloads_are_told_about_too(service, photo):
    events = Events(service)
    with pytest.raises(gradio.Error, match="Find something first"):
        events.download(None, 0.5, "zip")
    request = events.find(sent(photo), "red", 0.5)[0]
    assert events.download(request, 0.5, "json").endswith("scene_prediction.json")
    photo.unlink()
    with pytest.raises(gradio.Error, match="no longer here"):
        events.download(request, 0.5, "zip")


def test_drawn_examples_are_always_the_same_and_speak_of_what_is_in_them(tmp_path):
    first, again = (drawn_examples(tmp_path, number=4, size=64) for _ in range(2))
    assert first == again
    assert len({text for _, text in first}) == 4
    known = set(vocabulary())
    for path, text in first:
        assert Image.open(path).size == (64, 64)
        assert 1 <= len(text.splitlines()) <= 3
        assert set(text.split()) <= known


def test_own_examples_with_their_expressions(tmp_path):
    for name in ("b.jpg", "a.PNG"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "b.txt").write_text("the man\n\n his dog \n")
    (tmp_path / "notes.md").write_text("no photo")
    assert own_examples(tmp_path) == [(tmp_path / "a.PNG", ""), (tmp_path / "b.jpg", "the man\nhis dog")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no photo in this folder"):
        own_examples(tmp_path / "empty")


def ask_page(address, elem_id, values):
    """What an event of the page answers, as a browser asks for it."""
    with urllib.request.urlopen(f"{address}/config") as response:
        config = json.load(response)
    [component] = [one["id"] for one in config["components"] if one["props"].get("elem_id") == elem_id]
    [event] = [one["id"] for one in config["dependencies"] if one["targets"] and one["targets"][0][0] == component]
    body = {"data": values, "fn_index": event, "trigger_id": component, "session_hash": "visitor"}
    join = urllib.request.Request(
        f"{address}/gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(join).close()
    with urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash=visitor", timeout=60) as lines:
        for line in lines:
            message = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    return None


@pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")  # what it still uses of pandas
def test_examples_come_from_anywhere_and_nothing_else_of_their_folder_is_served(service, photo, tmp_path, monkeypatch):
    for name in ("a", "b", "work", "temporary"):
        (tmp_path / name).mkdir()
    offered = [(photo.rename(tmp_path / "a" / "scene.png"), "red")]
    offered.append((Path(shutil.copy(offered[0][0], tmp_path / "b")), "blue"))
    (tmp_path / "a" / "private.png").write_bytes(offered[0][0].read_bytes())
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))  # from here and below Gradio takes any file
    with app.serving(service.predictor, examples=offered) as address:
        for number, (path, text) in enumerate(offered):
            answer = ask_page(address, "examples", [number, 0.5])
            assert answer["success"], answer
            shown, words, *_ = answer["output"]["data"]
            assert (shown["orig_name"], words) == ("scene.png", text)
            with urllib.request.urlopen(f"{address}/gradio_api/file={shown['path']}") as response:
                assert response.read() == path.read_bytes()
        for hidden in (offered[0][0], tmp_path / "a" / "private.png"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{address}/gradio_api/file={hidden}")
            assert caught.value.code == 403
    assert not list((tmp_path / "temporary").iterdir())


def test_names_are_escaped():
    assert "<i>x</i>" not in header("<i>x</i>")
