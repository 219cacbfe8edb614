"""Procedural scenes of the embedded data set: objects, their layout and their pixels, in integer arithmetic.

All geometry lives on a grid of 1024 x 1024 units, so that a scene looks the same at every size, and nothing but
integers decides a pixel, so that every machine draws the same one.
"""

from dataclasses import dataclass

import numpy as np

from maskris.utils.rng import KeyedRandom

UNITS = 1024

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 49),
    "orange": (240, 140, 32),
    "yellow": (244, 211, 60),
    "green": (46, 160, 67),
    "cyan": (57, 197, 207),
    "blue": (44, 90, 214),
    "purple": (140, 68, 190),
    "pink": (240, 130, 185),
}

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "star")
TEXTURES = ("plain", "striped", "dotted")

# Corners of a stout five-pointed star of radius 1000, y downwards: the right half and its mirror image.
_HALF_STAR = [(0, -1000), (306, -421), (951, -309), (494, 161), (588, 809), (0, 520)]
_STAR = np.array([*_HALF_STAR, *((-x, y) for x, y in _HALF_STAR[-2:0:-1])])

MIN_VISIBLE = 0.75
"""An object shows at least this share of itself; scenes where one does not are drawn again."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        shape: One of `SHAPES`.
        color: One of `COLORS`.
        texture: One of `TEXTURES`.
        x: Center, in units from the left.
        y: Center, in units from the top.
        radius: Half its extent, in units.
    """

    shape: str
    color: str
    texture: str
    x: int
    y: int
    radius: int


@dataclass(frozen=True)
class Scene:
    """Objects from back to front, and the key of their background."""

    things: tuple[Thing, ...]
    key: tuple[int | str, ...]


def held_out_color(shape: str, texture: str) -> str:
    """The one color in which things of a shape and texture occur in the split ``combinations`` and in no other.

    These are 21 of the 168 combinations. A plain blue circle is held out, for example; plain red circles, striped blue
    circles and plain blue squares are not. Any two attributes occur together in training.
    """
    return tuple(COLORS)[(3 * SHAPES.index(shape) + 3 * TEXTURES.index(texture) + 5) % len(COLORS)]


def is_held_out(thing: Thing) -> bool:
    """Whether an object has a combination of attributes that training never shows; see `held_out_color`."""
    return thing.color == held_out_color(thing.shape, thing.texture)


def make_scene(seed: int, split: str, number: int, objects: tuple[int, int] = (3, 5), *, alike: bool = False) -> Scene:
    """Scene `number` of a split: a function of its arguments alone.

    In the split ``combinations`` about half of the objects, and at least one, have a combination of attributes that is
    held out from all other splits (`held_out_color`).

    Args:
        seed: Seed of the data set.
        split: Name of the split.
        number: Which scene, from 0.
        objects: Fewest and most objects.
        alike: Whether many objects share two attributes, or all three, with another one, so that short phrases are
            ambiguous: in two of three scenes all do, in the third two of five.
    """
    key = (seed, "alike" if alike else "shapes", split, number)
    rng = KeyedRandom(*key)
    unseen = split == "combinations"
    count = rng.between(objects[0], objects[1] + 1)
    smallest, largest = (120, 220) if objects[1] <= 5 else (100, 180) if objects[1] <= 6 else (80, 150)
    similar = rng.pick((40, 100, 100)) if alike else 0
    for _ in range(200):
        # Few shapes in one scene, so that the noun alone is seldom enough.
        shapes = rng.sample(SHAPES, min(3, count))
        things: list[Thing] = []
        for _ in range(60):
            radius = rng.between(smallest, largest)
            x, y = (rng.between(radius, UNITS - radius) for _ in range(2))
            apart = all((x - t.x) ** 2 + (y - t.y) ** 2 > ((radius + t.radius) * 4 // 5) ** 2 for t in things)
            # Half of all are plain, a quarter striped.
            shape, color, texture = rng.pick(shapes), rng.pick(tuple(COLORS)), rng.pick(("plain", *TEXTURES))
            if things and similar and rng.below(100) < similar:
                shape, color, texture = _similar_look(rng, things)
            # The first of those that are alike is the one that others resemble.
            anew = unseen and ((alike and not things) or rng.below(3 if alike else 2) == 0)
            held_out = held_out_color(shape, texture)
            if anew:
                color = held_out
            elif color == held_out:
                # Another color without another draw: a scene without such an object stays as it is.
                color = tuple(COLORS)[(tuple(COLORS).index(color) + 1 + (x + y) % (len(COLORS) - 1)) % len(COLORS)]
            if apart:
                things.append(Thing(shape, color, texture, x, y, radius))
            if len(things) == count:
                break
        if alike:
            things = rng.sample(things, len(things))  # or else the first would be behind the others
        if len(things) == count and _all_visible(things) and unseen == any(map(is_held_out, things)):
            return Scene(tuple(things), key)
    raise RuntimeError(f"No layout was found for scene {key}; this is a bug")


def _similar_look(rng: KeyedRandom, things: list[Thing]) -> tuple[str, str, str]:
    """The shape, color and texture of an object that is there, with another value of one of them.

    The second, third and fourth object differ from the first in shape, color and texture; further ones from any, and
    every other one not even in that.
    """
    like = things[0] if len(things) <= 3 else rng.pick(things)
    look = [like.shape, like.color, like.texture]
    anew = (len(things) - 1) % 3
    if len(things) <= 3 or rng.below(2):
        look[anew] = rng.pick([value for value in (SHAPES, tuple(COLORS), TEXTURES)[anew] if value != look[anew]])
    return look[0], look[1], look[2]


def _all_visible(things: list[Thing]) -> bool:
    full = [_inside(thing, 64) for thing in things]
    return all(visible.sum() >= MIN_VISIBLE * whole.sum() for visible, whole in zip(_visible(full), full, strict=True))


def masks_of(scene: Scene, size: int) -> list[np.ndarray]:
    """The visible pixels of every object: ``[size, size]`` bool each, disjoint."""
    return _visible([_inside(thing, size) for thing in scene.things])


def render(scene: Scene, size: int) -> np.ndarray:
    """The picture: ``[size, size, 3]`` uint8."""
    picture = _background(scene, size)
    for thing in scene.things:
        inside = _inside(thing, size)
        picture[inside] = _paint(thing, size)[inside]
    return picture.astype(np.uint8)


def _visible(full: list[np.ndarray]) -> list[np.ndarray]:
    visible: list[np.ndarray] = []
    covered = np.zeros_like(full[0])
    for inside in reversed(full):
        visible.append(inside & ~covered)
        covered |= inside
    return visible[::-1]


def _offsets(thing: Thing, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centers relative to the object's, in units: ``[1, size]`` and ``[size, 1]``."""
    centers = (2 * np.arange(size, dtype=np.int64) + 1) * UNITS // (2 * size)
    return (centers - thing.x)[None, :], (centers - thing.y)[:, None]


def _inside(thing: Thing, size: int) -> np.ndarray:
    dx, dy = _offsets(thing, size)
    r = thing.radius
    ax, ay = np.abs(dx), np.abs(dy)
    squared = dx * dx + dy * dy
    inside: np.ndarray
    if thing.shape == "circle":
        inside = squared <= r * r
    elif thing.shape == "ring":
        inside = (squared <= r * r) & (5 * squared >= r * r)
    elif thing.shape == "square":
        inside = 8 * np.maximum(ax, ay) <= 7 * r
    elif thing.shape == "diamond":
        inside = ax + ay <= r
    elif thing.shape == "cross":
        inside = (5 * np.minimum(ax, ay) <= 2 * r) & (np.maximum(ax, ay) <= r)
    elif thing.shape == "triangle":
        inside = (4 * dy <= 3 * r) & (7 * ax <= 4 * (dy + r))
    else:
        inside = _in_star(dx * 1000, dy * 1000, r)
    return inside


def _in_star(dx: np.ndarray, dy: np.ndarray, radius: int) -> np.ndarray:
    """Even-odd rule over the edges of the star, without a division."""
    inside = np.zeros(np.broadcast_shapes(dx.shape, dy.shape), dtype=bool)
    for (x1, y1), (x2, y2) in zip(_STAR * radius, np.roll(_STAR, -1, axis=0) * radius, strict=True):
        crosses = (y1 > dy) != (y2 > dy)
        left = (dx - x1) * (y2 - y1) < (x2 - x1) * (dy - y1)
        inside ^= crosses & (left if y2 > y1 else (dx - x1) * (y2 - y1) > (x2 - x1) * (dy - y1))
    return inside


def _paint(thing: Thing, size: int) -> np.ndarray:
    dx, dy = np.broadcast_arrays(*_offsets(thing, size))
    color = np.array(COLORS[thing.color], dtype=np.int64)
    period = max(8, thing.radius * 2 // 3)
    if thing.texture == "striped":
        marked = (dx + dy + 8 * UNITS) % period < period // 2
    elif thing.texture == "dotted":
        u, v = (dx + 8 * UNITS) % period - period // 2, (dy + 8 * UNITS) % period - period // 2
        marked = 9 * (u * u + v * v) <= period * period
    else:
        marked = np.zeros(dx.shape, dtype=bool)
    dark = color * 2 // 5  # of the same hue, so that a texture does not turn one color into another
    shade = np.clip(256 - dy * 32 // thing.radius, 208, 288)[..., None]  # lit from above, by an eighth
    painted: np.ndarray = np.minimum(np.where(marked[..., None], dark, color) * shade // 256, 255)
    return painted


def _background(scene: Scene, size: int) -> np.ndarray:
    """A gradient between two grayish tones with blotches and grain."""
    rng = KeyedRandom(*scene.key, "background")
    first, second = rng.array(70, 216, (2, 3)) // 2 + rng.array(30, 90, (2, 1))
    direction = rng.array(-2, 3, (2,))
    ramp = np.arange(size, dtype=np.int64)
    weight = ramp[None, :, None] * direction[0] + ramp[:, None, None] * direction[1]
    weight = weight - weight.min()
    span = max(1, int(weight.max()))
    picture = np.asarray(first + (second - first) * weight // span)
    blotches = np.kron(rng.array(-14, 15, (8, 8)), np.ones((-(-size // 8),) * 2, dtype=np.int64))
    grain = np.kron(rng.array(-7, 8, (64, 64)), np.ones((-(-size // 64),) * 2, dtype=np.int64))
    noisy: np.ndarray = np.clip(picture + (blotches[:size, :size] + grain[:size, :size])[..., None], 0, 255)
    return noisy
