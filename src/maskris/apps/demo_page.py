"""The page of the demo: which fields there are, where they stand and which event each of them causes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from maskris.apps.demo_answers import STEPS, Desk, Kind
from maskris.apps.demo_events import Events
from maskris.apps.demo_examples import Example
from maskris.apps.demo_html import footer, header
from maskris.apps.demo_photo import photo_field

STYLE = Path(__file__).with_name("demo.css")
FORGET = 600, 3600
"""Every so many seconds, files of visitors that are older than so many seconds are deleted."""
WAITING = 32
"""Most requests that wait for their turn; more are turned away."""
AT_ONCE = 4
"""Most requests worked on at once, while the network itself works for one of them."""


def make_page(desk: Desk, examples: Sequence[Example] = (), *, model: str = "") -> Any:
    """The demo as ``gradio.Blocks``, not launched yet.

    Args:
        desk: Answers the visitors.
        examples: Photos with expressions, offered below the fields.
        model: What stands beside the title.
    """
    import gradio

    limits = desk.limits
    with gradio.Blocks(title="maskris demo", analytics_enabled=False, delete_cache=FORGET) as page:
        gradio.HTML(header(model), elem_id="header")
        question = gradio.State(None)
        with gradio.Row(equal_height=False):
            with gradio.Column(scale=2, min_width=300, elem_id="ask"):
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
            with gradio.Column(scale=3, min_width=300, elem_id="answer"):
                notice = gradio.HTML(visible=False, elem_id="notice")
                picture = gradio.Image(
                    label="Found",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="overlay",
                    alt_text="The photo with what was found in colours",
                )
                table = gradio.HTML(visible=False, elem_id="found")
                threshold = gradio.Slider(
                    0,
                    (STEPS - 1) / STEPS,
                    value=0.5,
                    step=1 / STEPS,
                    label="Threshold",
                    info="Pixels with a probability above it belong to the mask",
                    elem_id="threshold",
                )
                with gradio.Row():
                    get_zip = gradio.Button("Download masks", interactive=False, size="md", elem_id="get-zip")
                    get_json = gradio.Button("Download JSON", interactive=False, size="md", elem_id="get-json")
                # A file is made when it is asked for: the visible button makes it, and then presses a hidden one.
                zip_file = gradio.DownloadButton(visible="hidden", elem_id="zip")
                json_file = gradio.DownloadButton(visible="hidden", elem_id="json")
        gradio.HTML(footer(limits), elem_id="footer")

        events = Events(desk, examples)
        results = [notice, picture, table, get_zip, get_json]
        quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        busily: dict[str, Any] = {"api_visibility": "private", "show_progress_on": picture}
        for start in (find.click, text.submit):
            start(events.find, [photo, text, threshold], [question, *results], **busily)
        offered.click(events.example, [offered, threshold], [photo, text, question, *results], **busily)
        photo.upload(events.photo, photo, [photo, question, *results], **quietly)
        photo.clear(partial(events.photo, None), None, [photo, question, *results], **quietly)
        threshold.change(events.threshold, [question, threshold], results, trigger_mode="always_last", **quietly)
        downloads: tuple[tuple[Any, Any, Kind], ...] = ((get_zip, zip_file, "zip"), (get_json, json_file, "json"))
        for button, file, kind in downloads:
            made = button.click(partial(events.download, kind=kind), [question, threshold], file, **quietly)
            made.success(None, js=f"() => document.querySelector('#{file.elem_id}').click()", **quietly)
    page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)
    return page


def make_theme() -> Any:
    """Colours and sizes; fonts are those of the visitor's system, so that none is fetched."""
    import gradio

    theme = gradio.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
        radius_size="md",
    )
    # Gradio's own is too pale to read: 2.6 : 1 on white, where WCAG wants 4.5 : 1.
    return theme.set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")
