"""What happens on the page of the demo: every event takes what fields hold, and returns what they hold next."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskris.apps.demo_answers import Desk, Kind, Question
from maskris.apps.demo_checks import RefusedError, read_photo
from maskris.apps.demo_examples import Example
from maskris.apps.demo_html import complaint, findings
from maskris.apps.demo_photo import Sent


class Events:
    """The events of the page.

    All of them return the results last: the notice, the picture, the table, and whether each of the two downloads can
    be asked for. The question that the results answer is kept with the visitor's session, so that the threshold moves
    for what was found, not for what stands in the fields meanwhile.

    Args:
        desk: Answers the visitors.
        examples: Photos with expressions.
    """

    def __init__(self, desk: Desk, examples: Sequence[Example] = ()) -> None:
        self.desk = desk
        self.examples = examples

    def photo(self, sent: Sent | None) -> list[Any]:
        """A photo was chosen or taken away: the photo, no question, and empty results or what is wrong."""
        import gradio

        try:
            if sent is not None:
                read_photo(Path(sent["path"]), sent["name"], self.desk.limits)
        except RefusedError as refusal:
            return [None, None, *_results(complaint(refusal))]
        return [gradio.skip(), None, *_results()]

    def find(self, sent: Sent | None, text: str, threshold: float) -> list[Any]:
        """The question and its results."""
        try:
            if sent is None:
                raise RefusedError("Choose a photo first: drop one on the field, or take an example")
            question = self.desk.question(Path(sent["path"]), sent["name"], text)
            return [question, *self._found(question, threshold)]
        except RefusedError as refusal:
            return [None, *_results(complaint(refusal))]

    def example(self, number: int, threshold: float) -> list[Any]:
        """Photo and expressions of an example, the question and its results."""
        path, text = self.examples[number]
        return [str(path), text, *self.find({"path": str(path), "name": path.name}, text, threshold)]

    def threshold(self, question: Question | None, threshold: float) -> list[Any]:
        """The results at another threshold."""
        import gradio

        if question is None:
            return [gradio.skip()] * 5
        try:
            return self._found(question, threshold)
        except RefusedError as refusal:
            return _results(complaint(refusal))

    def download(self, question: Question | None, threshold: float, kind: Kind) -> str:
        """Path of the file, within the folder from which Gradio serves.

        Raises:
            gradio.Error: What the page is to tell.
        """
        import gradio

        try:
            if question is None:
                raise RefusedError("Find something first")
            return str(self.desk.download(question, threshold, kind, _new_folder()))
        except RefusedError as refusal:
            raise gradio.Error(str(refusal), print_exception=False) from None

    def _found(self, question: Question, threshold: float) -> list[Any]:
        answer = self.desk.ask(question)
        predictions = answer.predictions(threshold)
        # As a file of its own: Gradio would write the same picture over itself while a browser reads it.
        picture = _new_folder() / f"{Path(question.name).stem}_overlay.png"
        answer.picture(predictions).save(picture, compress_level=1)
        return _results(picture=str(picture), table=findings(answer, predictions))


def _new_folder() -> Path:
    """Within the folder from which Gradio serves, and from which it deletes what is old."""
    from gradio.utils import get_upload_folder

    return Path(tempfile.mkdtemp(dir=get_upload_folder()))


def _results(notice: str = "", picture: str | None = None, table: str = "") -> list[Any]:
    """New results; HTML without content takes no room."""
    import gradio

    downloads = gradio.update(interactive=picture is not None)
    blocks = [gradio.update(value=content, visible=bool(content)) for content in (notice, table)]
    return [blocks[0], picture, blocks[1], downloads, downloads]
