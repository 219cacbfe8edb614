"""The pictures of a report: each expression with its photo, the truth and what the models found."""

from maskris.evaluation.page.chart import STYLES
from maskris.evaluation.page.document import Document
from maskris.evaluation.page.html import Html, data_uri, tag
from maskris.evaluation.page.report import Example, Gallery, Picture, Report


def gallery(report: Report, page: Document, shown: Gallery) -> Html | None:
    """A figure of examples; nothing where there are none."""
    if not shown.examples:
        return None
    marks = [tag("li", tag("span", "edge of the truth", class_="key truth"))]
    models = sorted({picture.model for one in shown.examples for picture in one.pictures if picture.model is not None})
    for i in models:
        name = f"prediction of {report.subjects[i].name}" if len(report.subjects) > 1 else "edge of the prediction"
        marks.append(tag("li", tag("span", name, class_=f"key s{i % STYLES}")))
    examples = tag("div", *map(_example, shown.examples), class_="examples")
    return page.figure(shown.caption, tag("ul", *marks, class_="legend"), examples, above=True)


def _example(example: Example) -> Html:
    asked = tag("p", "\u201c", example.expression, "\u201d", class_="asked")
    number = len(example.pictures)  # side by side; on narrow screens, an even number stands two by two
    style = f"--wide: {number}; --narrow: {2 if number % 2 == 0 else 3}"
    tiles = tag("div", *map(_tile, example.pictures), class_="tiles", style=style)
    return tag("div", asked, tag("p", example.note, class_="note"), tiles, class_="example")


def _tile(picture: Picture) -> Html:
    width, height = picture.size
    image = tag("img", src=data_uri(picture.jpeg, "image/jpeg"), alt=picture.alt, width=width, height=height)
    mark = None if picture.model is None else f"key s{picture.model % STYLES}"
    number = None if picture.iou is None else tag("span", f"IoU {picture.iou:.2f}", class_="muted")
    return tag("div", image, tag("span", picture.label, class_=mark), " ", number, class_="tile")
