"""The page of the demo: its fields, the events that they cause, and the results as HTML."""

import tempfile
from abc import ABCMeta
from collections.abc import Sequence
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import Any

from maskris.demo.checks import RefusedError, read_photo, safe_name
from maskris.demo.examples import Example
from maskris.demo.service import STEPS, Kind, PredictionService, Request, Response
from maskris.inference.predictor import Prediction
from maskris.inference.visualize import PALETTE

STYLE = Path(__file__).with_name("demo.css")
FORGET = 600, 3600  # every so many seconds, files of visitors that are older than so many seconds are deleted
WAITING = 32  # most requests that wait for their turn; more are turned away
AT_ONCE = 4  # most requests worked on at once, while the network itself works for one of them

Sent = dict[str, str]
"""A visitor's file: its ``path`` on this machine, and the visitor's ``name`` for it, made harmless."""


def make_page(service: PredictionService, examples: Sequence[Example] = (), *, model: str = "") -> Any:
    """The demo as ``gradio.Blocks``, not launched yet.

    Args:
        service: Responds to the visitors.
        examples: Photos with expressions, offered below the fields.
        model: Name beside the title.
    """
    import gradio

    limits = service.limits
    with gradio.Blocks(title="maskris demo", analytics_enabled=False, delete_cache=FORGET) as page:
        gradio.HTML(header(model), elem_id="header")
        request = gradio.State(None)
        with gradio.Row(equal_height=False):
            with gradio.Column(scale=2, min_width=300, elem_id="request"):
                photo = photo_field()(
                    label="Photo", sources=["upload", "clipboard"], height=320, elem_id="photo", buttons=["fullscreen"]
                )
                text = gradio.Textbox(
                    label="Expressions, one per line",
                    placeholder="the man on the left\nhis dog",
                    lines=3,
                    max_lines=limits.expressions,
                    max_length=2 * limits.expressions * limits.characters,
                    elem_id="expressions",
                )
                find = gradio.Button("Find", variant="primary", elem_id="find")
                offered = gradio.Dataset(
                    components=[photo],
                    samples=[[str(path)] for path, _ in examples],
                    type="index",
                    label="Examples",
                    samples_per_page=max(1, len(examples)),
                    visible=bool(examples),
                    elem_id="examples",
                )
            with gradio.Column(scale=3, min_width=300, elem_id="response"):
                notice = gradio.HTML(visible=False, elem_id="notice")
                picture = gradio.Image(
                    label="Found",
                    elem_id="overlay",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    alt_text="The photo with what was found in colors",
                )
                table = gradio.HTML(visible=False, elem_id="found")
                info = "Pixels with a probability above it belong to the mask"
                threshold = gradio.Slider(
                    0, (STEPS - 1) / STEPS, 0.5, step=1 / STEPS, label="Threshold", info=info, elem_id="threshold"
                )
                with gradio.Row():
                    get_zip = gradio.Button("Download masks", interactive=False, size="md", elem_id="get-zip")
                    get_json = gradio.Button("Download JSON", interactive=False, size="md", elem_id="get-json")
                # A file is made when it is wanted: the visible button makes it, and then presses a hidden one.
                zip_file = gradio.DownloadButton(visible="hidden", elem_id="zip")
                json_file = gradio.DownloadButton(visible="hidden", elem_id="json")
        storage = "Photos stay on the machine that runs this page; their files are deleted after an hour."
        gradio.HTML(f"<p>{escape(str(limits))} {storage}</p>", elem_id="footer")

        events = Events(service, examples)
        results = [notice, picture, table, get_zip, get_json]
        quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        busily: dict[str, Any] = {"api_visibility": "private", "show_progress_on": picture}
        for start in (find.click, text.submit):
            start(events.find, [photo, text, threshold], [request, *results], **busily)
        offered.click(events.example, [offered, threshold], [photo, text, request, *results], **busily)
        photo.upload(events.photo, photo, [photo, request, *results], **quietly)
        photo.clear(partial(events.photo, None), None, [photo, request, *results], **quietly)
        threshold.change(events.threshold, [request, threshold], results, trigger_mode="always_last", **quietly)
        downloads: tuple[tuple[Any, Any, Kind], ...] = ((get_zip, zip_file, "zip"), (get_json, json_file, "json"))
        for button, file, kind in downloads:
            made = button.click(partial(events.download, kind=kind), [request, threshold], file, **quietly)
            made.success(None, js=f"() => document.querySelector('#{file.elem_id}').click()", **quietly)
    page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)
    return page


def make_theme() -> Any:
    """Colors and sizes; fonts are those of the visitor's system, so that none is fetched."""
    import gradio

    theme = gradio.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
        radius_size="md",
    )
    # Gradio's own are too pale to read: from 2 : 1 to 3.7 : 1, where WCAG wants 4.5 : 1.
    return theme.set(
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


@cache
def photo_field() -> Any:
    """A kind of ``gradio.Image`` whose value is `Sent`.

    Gradio's own would decode the file before it can be checked, and would fetch photos from any address that a request
    made by hand names.
    """
    import gradio

    def preprocess(self: Any, payload: Any) -> Sent | None:
        if payload is None or payload.path is None:
            return None
        return {"path": payload.path, "name": safe_name(payload.orig_name or Path(payload.path).name)}

    async def move_to_cache(self: Any, url_or_file_path: Any) -> str | None:
        if str(url_or_file_path).startswith(("http:", "https:")):
            raise gradio.Error("Photos are not fetched from addresses; upload the file", print_exception=False)
        moved: str | None = await gradio.Image.async_move_resource_to_block_cache(self, url_or_file_path)
        return moved

    methods = {
        "__doc__": photo_field.__doc__,
        "get_block_name": lambda self: "image",  # the browser's part is Gradio's
        "preprocess": preprocess,
        "async_move_resource_to_block_cache": move_to_cache,
    }
    # Not by a class statement, in which Gradio's metaclass would write a file page.pyi beside this one.
    return ABCMeta.__new__(type(gradio.Image), "PhotoField", (gradio.Image,), methods)


class Events:
    """The events of the page.

    All of them return the results last: the notice, the picture, the table, and whether each of the two downloads is
    offered. The request is kept with the visitor's session, so that the threshold moves for what was found, not for
    the present content of the fields.
    """

    def __init__(self, service: PredictionService, examples: Sequence[Example] = ()) -> None:
        self.service, self.examples = service, examples

    def photo(self, sent: Sent | None) -> list[Any]:
        """A photo was chosen or taken away: the photo, no request, and empty results or what is wrong."""
        import gradio

        try:
            if sent is not None:
                read_photo(Path(sent["path"]), sent["name"], self.service.limits)
        except RefusedError as refusal:
            return [None, None, *_results(refusal)]
        return [gradio.skip(), None, *_results()]

    def find(self, sent: Sent | None, text: str, threshold: float) -> list[Any]:
        """The request and its results."""
        try:
            if sent is None:
                raise RefusedError("Choose a photo first: drop one on the field, or take an example")
            request = self.service.request(Path(sent["path"]), sent["name"], text)
            return [request, *self._found(request, threshold)]
        except RefusedError as refusal:
            return [None, *_results(refusal)]

    def example(self, number: int, threshold: float) -> list[Any]:
        """Photo and expressions of an example, the request and its results."""
        path, text = self.examples[number]
        return [str(path), text, *self.find({"path": str(path), "name": path.name}, text, threshold)]

    def threshold(self, request: Request | None, threshold: float) -> list[Any]:
        """The results at another threshold."""
        import gradio

        if request is None:
            return [gradio.skip()] * 5
        try:
            return self._found(request, threshold)
        except RefusedError as refusal:
            return _results(refusal)

    def download(self, request: Request | None, threshold: float, kind: Kind) -> str:
        """Path of the file, within the folder from which Gradio serves.

        Raises:
            gradio.Error: For the visitor, if there is none.
        """
        import gradio

        try:
            if request is None:
                raise RefusedError("Find something first")
            return str(self.service.download(request, threshold, kind, _new_folder()))
        except RefusedError as refusal:
            raise gradio.Error(str(refusal), print_exception=False) from None

    def _found(self, request: Request, threshold: float) -> list[Any]:
        response = self.service.respond(request)
        predictions = response.predictions(threshold)
        # As a file of its own: Gradio would write the same picture over itself while a browser reads it.
        picture = _new_folder() / f"{Path(request.name).stem}_overlay.png"
        response.picture(predictions).save(picture, compress_level=1)
        return _results(picture=str(picture), table=found_table(response, predictions))


def _new_folder() -> Path:
    """Within the folder from which Gradio serves, and from which it deletes what is old."""
    from gradio.utils import get_upload_folder

    return Path(tempfile.mkdtemp(dir=get_upload_folder()))


def _results(refusal: RefusedError | None = None, picture: str | None = None, table: str = "") -> list[Any]:
    """New results; HTML without content takes no room."""
    import gradio

    notice = f'<div class="refusal" role="alert">{escape(str(refusal))}</div>' if refusal else ""
    downloads = gradio.update(interactive=picture is not None)
    blocks = [gradio.update(value=content, visible=bool(content)) for content in (notice, table)]
    return [blocks[0], picture, blocks[1], downloads, downloads]


def header(model: str) -> str:
    """Title, and what the page is for."""
    about = f' <span class="model">{escape(model)}</span>' if model else ""
    return (
        f"<h1>maskris{about}</h1><p>A photo and phrases in, the masks of what the phrases mean out. Choose a photo, "
        "write what to look for, and press <b>Find</b>.</p>"
    )


def found_table(response: Response, predictions: Sequence[Prediction]) -> str:
    """A table of what was found: color, expression, score, box and share of the photo."""
    rows = []
    for mask, prediction, color in zip(response.masks, predictions, PALETTE, strict=False):
        notes = [f"the model has never seen: {', '.join(mask.unknown)}"] if mask.unknown else []
        if mask.truncated:
            notes.append("too long for the model, which takes only the beginning")
        note = "".join(f"<small>{escape(text)}</small>" for text in notes)
        if prediction.box is None:
            values = '<td class="nothing" colspan="3">nothing at this threshold</td>'
        else:
            box = ", ".join(f"{value:.0f}" for value in prediction.box)
            values = f"<td>{prediction.score:.2f}</td><td>{box}</td><td>{prediction.mask.mean():.1%}</td>"
        what = f'<i style="background:{color}"></i><span>{escape(mask.expression)}{note}</span>'
        rows.append(f'<tr><th scope="row"><div>{what}</div></th>{values}</tr>')
    head = "<tr><th>expression</th><th>score</th><th>box (x, y, w, h)</th><th>share</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
