"""The demo's texts as HTML; whatever comes from a visitor is escaped."""

from collections.abc import Sequence
from html import escape

from maskris.apps.demo_answers import Answer
from maskris.apps.demo_checks import Limits, RefusedError
from maskris.inference.overlay import PALETTE
from maskris.inference.predictor import Prediction


def header(model: str) -> str:
    """Title, and what the page is for."""
    about = f' <span class="model">{escape(model)}</span>' if model else ""
    return (
        f"<h1>maskris{about}</h1><p>A photo and phrases in, the masks of what the phrases mean out. Choose a photo, "
        "write what to look for, and press <b>Find</b>.</p>"
    )


def footer(limits: Limits) -> str:
    """What may be sent, and what becomes of it."""
    return (
        f"<p>{escape(str(limits))} Photos stay on the machine that runs this page; their files are deleted after an "
        "hour.</p>"
    )


def complaint(refusal: RefusedError) -> str:
    """A refusal as the page shows it."""
    return f'<div class="complaint" role="alert">{escape(str(refusal))}</div>'


def findings(answer: Answer, predictions: Sequence[Prediction]) -> str:
    """A table of what was found: colour, expression, score, box and share of the photo."""
    rows = []
    for layer, prediction, colour in zip(answer.layers, predictions, PALETTE, strict=False):
        notes = []
        if layer.unknown:
            notes.append(f"the model has never seen: {', '.join(layer.unknown)}")
        if layer.truncated:
            notes.append("too long for the model, which read only the beginning")
        note = "".join(f"<small>{escape(text)}</small>" for text in notes)
        height, width = prediction.mask.shape
        if prediction.box is None:
            values = '<td class="nothing" colspan="3">nothing at this threshold</td>'
        else:
            box = ", ".join(f"{value:.0f}" for value in prediction.box)
            share = prediction.mask.sum() / (height * width)
            values = f"<td>{prediction.score:.2f}</td><td>{box}</td><td>{share:.1%}</td>"
        what = f'<i style="background:{colour}"></i><span>{escape(layer.expression)}{note}</span>'
        rows.append(f'<tr><th scope="row"><div>{what}</div></th>{values}</tr>')
    head = "<tr><th>expression</th><th>score</th><th>box (x, y, w, h)</th><th>share</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
