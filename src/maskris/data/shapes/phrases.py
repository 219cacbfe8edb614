"""Noun phrases of the embedded data set, and what is clear enough to be said of places and sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from maskris.data.shapes.scene import UNITS, Thing

CLEAR = UNITS // 10
"""Two objects are clearly left, right, above or below of each other from this distance of their centers."""

LARGER = 6, 5
"""One object is clearly larger than another from this ratio of their radii, and its square of their areas."""

SIDES = {"left": ("x", 1), "right": ("x", -1), "top": ("y", 1), "bottom": ("y", -1)}
"""The axis of a side, and in which direction it ascends from there."""

RELATIONS = {"left of": ("x", 1), "right of": ("x", -1), "above": ("y", 1), "below": ("y", -1)}
"""The axis of a relation, and in which direction it ascends from the first object to the second."""

NUMBERS = ("one", "two", "three", "four")

_FILLED = {"circle": 79, "square": 77, "triangle": 44, "diamond": 50, "cross": 64, "ring": 63, "star": 38}
"""How much of the square around it a shape fills, in per cent."""


@dataclass(frozen=True)
class Description:
    """Attributes that a noun phrase names; ``None`` for those it leaves open."""

    shape: str | None = None
    color: str | None = None
    texture: str | None = None

    def fits(self, thing: Thing) -> bool:
        """Whether the object has all the attributes named."""
        return (
            self.shape in (None, thing.shape)
            and self.color in (None, thing.color)
            and self.texture in (None, thing.texture)
        )

    def words(self) -> str:
        """The noun phrase without article, such as ``striped red circle``."""
        return " ".join(word for word in (self.texture, self.color, self.shape or "thing") if word)

    def plural(self) -> str:
        """The same of several objects, such as ``striped red crosses``."""
        singular = self.words()
        return singular + ("es" if singular.endswith("s") else "s")

    def shorter(self) -> "list[Description]":
        """The descriptions with one attribute less; none of a mere thing."""
        return [replace(self, **{name: None}) for name, value in vars(self).items() if value is not None]


def descriptions(thing: Thing) -> Iterator[Description]:
    """All noun phrases that are true of an object, from the shortest."""
    for texture, color, shape in product((None, thing.texture), (None, thing.color), (None, thing.shape)):
        if texture != "plain" or (color and shape):  # that an object is plain is said last of all
            yield Description(shape, color, texture)


@lru_cache(maxsize=8)
def all_descriptions(things: tuple[Thing, ...]) -> dict[Description, list[int]]:
    """Every noun phrase that is true of any object of a scene, with the numbers of all those objects."""
    every = dict.fromkeys(what for thing in things for what in descriptions(thing))
    return {what: members(things, what) for what in every}


def members(things: Sequence[Thing], what: Description) -> list[int]:
    """The numbers of the objects that a noun phrase fits."""
    return [i for i, thing in enumerate(things) if what.fits(thing)]


@lru_cache(maxsize=8)
def names(things: tuple[Thing, ...], every: bool = False) -> list[tuple[int, Description]]:
    """Objects with the shortest phrase that names each of them alone, or with `every` such phrase."""
    found = []
    for i, thing in enumerate(things):
        unique = [d for d in descriptions(thing) if d != Description() and len(members(things, d)) == 1]
        found += [(i, description) for description in (unique if every else unique[:1])]
    return found


def is_larger(one: Thing, other: Thing) -> bool:
    """Whether one object is clearly larger; a star is not, if it is only wider than a circle."""
    above, below = LARGER
    areas = [_FILLED[thing.shape] * thing.radius**2 for thing in (one, other)]
    return below * one.radius >= above * other.radius and below**2 * areas[0] >= above**2 * areas[1]


def is_on_side(thing: Thing, side: str) -> bool | None:
    """Whether an object is on a side of the picture; ``None`` if it is too near to the middle to tell."""
    axis, sign = SIDES[side]
    inwards = sign * (getattr(thing, axis) - UNITS // 2)
    return None if abs(inwards) < CLEAR else inwards < 0


def is_related(thing: Thing, anchor: Thing, relation: str) -> bool | None:
    """Whether an object is left of, right of, above or below another one; ``None`` if it is so by a little only."""
    axis, sign = RELATIONS[relation]
    distance = sign * (getattr(anchor, axis) - getattr(thing, axis))
    return None if 0 < distance < CLEAR else distance > 0
