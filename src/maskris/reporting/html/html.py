"""`tag`: HTML and SVG whose every text is escaped, because text becomes `Html` in no other way than through it."""

import base64
from html import escape

_VOID = frozenset({"br", "col", "img", "link", "meta"})


class Html(str):
    """Markup that is finished; every other string is text and will be escaped."""

    __slots__ = ()


Content = str | float | None
"""What may stand in an element: `Html` as it is, other strings escaped, numbers as Python writes them, None not."""


def join(*parts: Content) -> Html:
    """Parts one after the other, all that is not `Html` escaped."""
    return Html("".join(_safe(part) for part in parts))


def tag(name: str, /, *children: Content, **attributes: str | float | bool | None) -> Html:
    """An element.

    Args:
        name: Such as ``"td"``.
        *children: Its contents, as for `join`.
        **attributes: Underscores stand for dashes, and a last one keeps a Python word apart: ``class_``,
            ``aria_label``. ``True`` is an attribute without a value; ``None`` and ``False`` leave it out.

    Raises:
        ValueError: If an element that can't have contents is given some.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        if children:
            raise ValueError(f"<{name}> can't have contents")
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that needs no file and no network.

    Args:
        content: Of the file.
        kind: Its media type, such as ``"image/jpeg"``.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _safe(part: Content) -> str:
    if part is None:
        return ""
    return part if isinstance(part, Html) else escape(str(part))
