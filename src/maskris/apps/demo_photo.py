"""The demo's field for a photo: Gradio's, but strangers' files come through untouched and addresses are refused."""

from abc import ABCMeta
from functools import cache
from pathlib import Path
from typing import Any

from maskris.apps.demo_checks import safe_name

Sent = dict[str, str]
"""A visitor's file: its ``path`` on this machine, and the harmless ``name`` that the visitor knows it by."""


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

    # Not by a class statement, in which Gradio's metaclass would write a file demo_photo.pyi beside this one.
    return ABCMeta.__new__(
        type(gradio.Image),
        "PhotoField",
        (gradio.Image,),
        {
            "__doc__": photo_field.__doc__,
            "get_block_name": lambda self: "image",  # the browser's part is Gradio's
            "preprocess": preprocess,
            "async_move_resource_to_block_cache": move_to_cache,
        },
    )
