"""Masks as colours on a photo, pixel by pixel."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor

from maskris.inference.image import ImageSource, load_image

Colour = str | tuple[int, int, int]
"""A name or hex code that PIL knows, or red, green and blue in [0, 255]."""

Masks = np.ndarray | Sequence[np.ndarray]
"""One mask ``[h, w]``, or several ``[N, h, w]``; nonzero means inside."""

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442")
"""Colours that stay apart for colour-blind eyes (Okabe and Ito, 2008)."""


def overlay(
    image: ImageSource,
    masks: Masks,
    colors: Sequence[Colour] | None = None,
    alpha: float = 0.5,
    outline: bool = True,
) -> Image.Image:
    """Colour masks on a photo; pixels outside all masks keep their values.

    Args:
        image: The photo, as `load_image` understands it.
        masks: ``[N, h, w]`` or ``[h, w]``, of the size of the upright photo. Later ones lie above earlier ones.
        colors: One per mask; by default `PALETTE`, again from its start when it ends.
        alpha: Opacity of the colour in [0, 1].
        outline: Draw the inner edge of each mask in its full colour, as wide as the photo's size calls for.

    Returns:
        A new RGB image of the photo's size.

    Raises:
        ValueError: If sizes or numbers don't fit, a colour is unknown, or `alpha` lies outside [0, 1].
    """
    photo = load_image(image)
    planes = as_planes(masks, (photo.height, photo.width))
    colours = colours_for(len(planes), colors)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is an opacity in [0, 1], not {alpha}")
    pixels = np.array(photo, dtype=np.float32)  # [h, w, 3]
    for plane, colour in zip(planes, colours, strict=True):
        pixels[plane] += alpha * (np.array(colour, dtype=np.float32) - pixels[plane])
    if outline:  # after all fills, so that no mask buries the edge of another
        width = max(1, round(max(photo.size) / 200))
        for plane, colour in zip(planes, colours, strict=True):
            pixels[inner_edge(plane, width)] = colour
    return Image.fromarray(pixels.round().astype(np.uint8))


def spotlight(photo: Image.Image, mask: np.ndarray, colour: Colour, width: int = 2) -> Image.Image:
    """A photo that fades outside a mask, with the mask's edge in a colour; inside, every pixel keeps its own.

    Unlike `overlay` it leaves the referent its colours, which matter where expressions speak of colours.

    Args:
        photo: RGB.
        mask: ``[h, w]`` bool, of the photo's size.
        colour: Of the edge.
        width: Of the edge in pixels, drawn inwards.

    Returns:
        A new RGB image of the photo's size.
    """
    pixels = np.array(photo, dtype=np.float32)  # [h, w, 3]
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    faded = 0.55 * grey[..., None] + 0.45 * pixels  # half of the colour,
    faded = 255 - 0.4 * (255 - faded)  # and a veil of white
    pixels[~mask] = faded[~mask]
    pixels[inner_edge(mask, width)] = colours_for(1, [colour])[0]
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def as_planes(masks: Masks, size: tuple[int, int]) -> list[np.ndarray]:
    """Masks as a list of ``[h, w]`` bool arrays.

    Raises:
        ValueError: If one is not of height and width `size`.
    """
    array = [masks] if isinstance(masks, np.ndarray) and masks.ndim == 2 else masks
    planes = [np.asarray(mask) != 0 for mask in array]
    for i, plane in enumerate(planes):
        if plane.shape != size:
            raise ValueError(
                f"Mask {i + 1} is of size {list(plane.shape)}, but the upright photo has {list(size)} (height, width)"
            )
    return planes


def colours_for(number: int, colours: Sequence[Colour] | None = None) -> list[tuple[int, int, int]]:
    """`number` colours as RGB: those given, or the palette over and over.

    Raises:
        ValueError: If fewer are given, or PIL doesn't know one.
    """
    if colours is None:
        colours = [PALETTE[i % len(PALETTE)] for i in range(number)]
    if isinstance(colours, str) or len(colours) != number:
        raise ValueError(f"colors needs one colour per mask: {number}, not {colours!r}")
    rgb = [ImageColor.getrgb(colour) if isinstance(colour, str) else tuple(colour) for colour in colours]
    return [(c[0], c[1], c[2]) for c in rgb]


def inner_edge(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a ``[h, w]`` bool mask that are within `width` of its outside or the photo's border."""
    edge = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return edge
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # a small mask on a large photo is quick
    inside = np.pad(mask[part], 1)
    for step in range(width):  # 4 and 8 neighbours in turn: the line is as wide on slopes as on straight edges
        shrunk = inside.copy()
        shrunk[1:] &= inside[:-1]
        shrunk[:-1] &= inside[1:]
        across = shrunk.copy() if step % 2 else inside
        shrunk[:, 1:] &= across[:, :-1]
        shrunk[:, :-1] &= across[:, 1:]
        inside = shrunk
    edge[part] = mask[part] & ~inside[1:-1, 1:-1]
    return edge
