"""The contact sheet that compares models: photo, truth and predictions of many expressions in one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from maskris.inference.image import ImageSource, load_image
from maskris.inference.visualize import (
    INK,
    MUTED,
    PALETTE,
    as_planes,
    inner_edge,
    line_height,
    resized_mask,
    spotlight,
    wrap,
    write,
)  # fmt: skip

_TRUTH, _RULE, _MISSING = "#111827", "#c3c8d0", "#f3f4f6"


@dataclass(frozen=True)
class Panel:
    """One expression of a contact sheet.

    Attributes:
        image: The photo.
        expression: The phrase.
        predictions: Name of a model to its ``[h, w]`` mask, of the upright photo's size.
        truth: ``[h, w]`` mask of the referent, if known.
        iou: Name of a model to its IoU; computed from the masks where it is missing and the truth is known.
    """

    image: ImageSource
    expression: str
    predictions: Mapping[str, np.ndarray]
    truth: np.ndarray | None = None
    iou: Mapping[str, float] = field(default_factory=dict)


def overview(panels: Sequence[Panel], columns: int = 2, *, title: str | None = None, cell: int = 192) -> Image.Image:
    """A contact sheet: for every panel the photo, the truth and each model's mask with its IoU.

    Masks are drawn as spotlights: the referent keeps its colors and all else fades. On predictions a thin dark line
    is the edge of the truth. Small scenes are enlarged by whole numbers, so that their pixels stay square and crisp.

    Args:
        panels: At least one. Models stand in the order in which they first occur.
        columns: Panels side by side.
        title: Above everything.
        cell: Width and greatest height of one picture in pixels; all else grows with it.

    Returns:
        An RGB image on white.

    Raises:
        ValueError: If there is no panel, a mask is not of its photo's size, or `columns` or `cell` is too small.
    """
    if not panels:
        raise ValueError("An overview needs at least one panel")
    if columns < 1 or cell < 32:
        raise ValueError(f"An overview needs columns >= 1 and cell >= 32, not {columns} and {cell}")
    sheet = _Sheet(panels, min(columns, len(panels)), cell)
    rows = [sheet.row(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    blocks = [*([sheet.title(title)] if title else []), sheet.header(), *rows]
    space = round(0.7 * sheet.margin)
    height = sum(block.height + space for block in blocks) - space
    figure = Image.new("RGB", (sheet.width + 2 * sheet.margin, height + 2 * sheet.margin), "white")
    y = sheet.margin
    for block in blocks:
        figure.paste(block, (sheet.margin, y))
        y += block.height + space
    return figure


class _Sheet:
    """Measures that all blocks of the figure share, and the blocks."""

    def __init__(self, panels: Sequence[Panel], columns: int, cell: int) -> None:
        models = list(dict.fromkeys(name for panel in panels for name in panel.predictions))
        self.colors = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(models)}
        self.has_truth = any(panel.truth is not None for panel in panels)
        self.columns, self.cell = columns, cell
        self.size = max(9, round(cell * 0.1))  # of text
        self.line = line_height(self.size)
        self.gap = max(3, round(cell * 0.04))  # between pictures
        self.margin = round(cell * 0.2)  # around the figure and between panels
        pictures = 1 + self.has_truth + len(models)
        self.panel_width = pictures * cell + (pictures - 1) * self.gap
        self.width = columns * self.panel_width + (columns - 1) * self.margin

    def title(self, title: str) -> Image.Image:
        size = round(1.5 * self.size)
        lines = wrap(title, size, self.width)
        block = self._block(len(lines) * line_height(size))
        write(ImageDraw.Draw(block), (0, 0), lines, size, INK, "la")
        return block

    def header(self) -> Image.Image:
        """Names of the columns over rules in the colors of their outlines."""
        heads = {"Input": _RULE, **({"Ground truth": _TRUTH} if self.has_truth else {}), **self.colors}
        names = {head: wrap(head, self.size, self.cell) for head in heads}
        lines, rule = max(map(len, names.values())), max(2, self.cell // 64)
        block = self._block(lines * self.line + self.gap + rule)
        draw = ImageDraw.Draw(block)
        for panel in range(self.columns):
            for i, (head, color) in enumerate(heads.items()):
                x, y = self._left(panel, i), (lines - len(names[head])) * self.line
                write(draw, (x + self.cell / 2, y), names[head], self.size, INK, "ma")
                draw.rectangle((x, block.height - rule, x + self.cell - 1, block.height - 1), fill=color)
        return block

    def row(self, panels: Sequence[Panel]) -> Image.Image:
        """Expressions above, pictures below them, numbers under the pictures."""
        texts = [wrap(f"\u201c{panel.expression}\u201d", self.size, self.panel_width) for panel in panels]
        pictures = [self._pictures(panel) for panel in panels]
        top = max(map(len, texts)) * self.line + self.gap // 2
        tallest = max(tiles[0].height for tiles in pictures)
        numbered = any(_iou(panel, model) is not None for panel in panels for model in self.colors)
        block = self._block(top + tallest + (self.gap // 2 + self.line if numbered else 0))
        draw = ImageDraw.Draw(block)
        for number, (panel, text, tiles) in enumerate(zip(panels, texts, pictures, strict=True)):
            y = top - self.gap // 2 - len(text) * self.line  # a short expression stands close to its pictures
            write(draw, (self._left(number), y), text, self.size, INK, "la")
            for i, tile in enumerate(tiles):
                block.paste(tile, (self._left(number, i) + (self.cell - tile.width) // 2, top))
            for i, model in enumerate(self.colors, 1 + self.has_truth):
                if (iou := _iou(panel, model)) is not None:
                    place = (self._left(number, i) + self.cell / 2, top + tiles[0].height + self.gap // 2)
                    write(draw, place, [f"IoU {iou:.2f}"], self.size, MUTED, "ma")
        return block

    def _block(self, height: int) -> Image.Image:
        return Image.new("RGB", (self.width, height), "white")

    def _left(self, panel: int, picture: int = 0) -> int:
        return panel * (self.panel_width + self.margin) + picture * (self.cell + self.gap)

    def _pictures(self, panel: Panel) -> list[Image.Image]:
        photo = load_image(panel.image)
        scale = min(self.cell / photo.width, self.cell / photo.height)
        scale = int(scale) if scale >= 2 else scale
        # Drawn twice as large and then reduced, which smooths the edges.
        double = (2 * max(1, round(photo.width * scale)), 2 * max(1, round(photo.height * scale)))
        large = photo.resize(double, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
        edge = max(2, round(self.cell / 40))

        def outlined(mask: np.ndarray | None, color: str) -> tuple[Image.Image, np.ndarray | None]:
            if mask is None:
                return Image.new("RGB", double, _MISSING), None
            resized = resized_mask(as_planes(mask, (photo.height, photo.width))[0], double)
            return spotlight(large, resized, color, edge), resized

        tile, truth = outlined(panel.truth, _TRUTH)
        tiles = [large, tile] if self.has_truth else [large]
        for name, color in self.colors.items():
            tile, mask = outlined(panel.predictions.get(name), color)
            if truth is not None and mask is not None:
                pixels = np.array(tile)
                pixels[inner_edge(truth, 2) & ~inner_edge(mask, edge)] = ImageColor.getrgb(_TRUTH)
                tile = Image.fromarray(pixels)
            tiles.append(tile)
        return [tile.reduce(2) for tile in tiles]


def _iou(panel: Panel, model: str) -> float | None:
    if model in panel.iou:
        return panel.iou[model]
    if model not in panel.predictions or panel.truth is None:
        return None
    prediction, truth = panel.predictions[model] != 0, panel.truth != 0
    union = int((prediction | truth).sum())
    return int((prediction & truth).sum()) / union if union else 1.0  # nothing there and nothing found
