"""Examples of the demo: drawn scenes that need no download, or the user's own photos."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from maskris.data.shapes.language import expressions
from maskris.data.shapes.scene import make_scene, render
from maskris.utils.rng import KeyedRandom

Example = tuple[Path, str]
"""A photo and its expressions, one per line."""

MOST = 12
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def drawn_examples(folder: Path, number: int = 6, size: int = 256) -> list[Example]:
    """Draw scenes of the embedded data set that no split of it holds, with one expression for each of three objects.

    Args:
        folder: Gets one PNG per scene.
        number: How many.
        size: Height and width in pixels.
    """
    examples = []
    for i in range(number):
        scene = make_scene(0, "demo", i)
        Image.fromarray(render(scene, size)).save(path := folder / f"scene_{i + 1}.png")
        texts: dict[tuple[int, ...], str] = {}  # the first about each object
        for expression in expressions(scene, "shapes", KeyedRandom(*scene.key, "expressions")):
            texts.setdefault(expression.things, expression.text)
        examples.append((path, "\n".join(list(texts.values())[:3])))
    return examples


def own_examples(folder: Path) -> list[Example]:
    """The first photos of a folder in the order of their names; ``photo.txt`` beside ``photo.jpg`` holds expressions.

    Raises:
        ValueError: If there is no such folder or no photo in it.
    """
    if not folder.is_dir():
        raise ValueError(f"--examples {folder}: there is no such folder")
    photos = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())
    if not photos:
        raise ValueError(f"--examples {folder}: there is no photo in this folder ({', '.join(ENDINGS)})")
    return [(photo, "\n".join(_lines(photo.with_suffix(".txt")))) for photo in photos[:MOST]]


def copied_examples(examples: Sequence[Example], folder: Path) -> list[Example]:
    """The same examples in the folder from which the page is served, so that no other folder has to be opened for it.

    Args:
        examples: They may come from anywhere, and photos of several folders may have the same name.
        folder: Gets a folder for each photo.
    """
    copies = []
    for number, (photo, text) in enumerate(examples, start=1):
        (place := folder / f"example_{number}").mkdir()
        copies.append((Path(shutil.copyfile(photo, place / photo.name)), text))
    return copies


def _lines(path: Path) -> Iterator[str]:
    if path.is_file():
        yield from filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines()))
