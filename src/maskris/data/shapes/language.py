"""Expressions of the embedded data set: every one is true of exactly one object, by a clear margin."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

from maskris.data.shapes.scene import COLORS, SHAPES, TEXTURES, UNITS, Scene, Thing
from maskris.utils.rng import KeyedRandom

CLEAR = UNITS // 10
"""Two objects are clearly left, right, above or below of each other from this distance of their centers."""

LARGER = 6, 5
"""One object is clearly larger than another from this ratio of their radii, and its square of their areas."""

COLORFUL = 75
"""How often, in per cent, a color is named where it can be, also where the phrase is unambiguous without."""

KINDS = {"attribute": 4, "location": 4, "comparison": 2, "relation": 3, "ordinal": 1}
"""The kinds of expressions and their relative frequency where several are possible."""

VARIANTS = ("shapes", "shapes+", "shapesg")
"""Short, with location words; without any; long sentences: as RefCOCO, RefCOCO+ and RefCOCOg differ."""

_SIDES = {"left": ("x", 1), "right": ("x", -1), "top": ("y", 1), "bottom": ("y", -1)}
_RELATIONS = {
    "left of": ("x", 1, "to the left of"),
    "right of": ("x", -1, "to the right of"),
    "above": ("y", 1, "somewhere above"),
    "below": ("y", -1, "somewhere below"),
}
_ORDINALS = ("second", "third", "fourth")  # the first and the last are a matter of location

_FILLED = {"circle": 79, "square": 77, "triangle": 44, "diamond": 50, "cross": 64, "ring": 63, "star": 38}
"""How much of the square around it a shape fills, in per cent."""


@dataclass(frozen=True)
class Expression:
    """A sentence, its kind and the number of the one object it is true of."""

    text: str
    kind: str
    thing: int


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


def expressions(scene: Scene, variant: str, rng: KeyedRandom, most: int = 3) -> list[Expression]:
    """Up to `most` expressions of different kinds for every object that has any, in the order of the objects.

    Args:
        scene: The objects.
        variant: One of `VARIANTS`.
        rng: Chooses among all that are true.
        most: Most expressions for one object.
    """
    chosen = []
    for number in range(len(scene.things)):
        by_kind: dict[str, list[str]] = {}
        color = scene.things[number].color
        for expression in _candidates(scene, number, variant):
            by_kind.setdefault(expression.kind, []).append(expression.text)
        kinds = [kind for kind in KINDS if kind in by_kind]
        for _ in range(min(most, len(kinds))):
            kind = rng.pick([kind for kind in kinds for _ in range(KINDS[kind])])
            kinds.remove(kind)
            texts = sorted(set(by_kind[kind]))
            if rng.below(100) < COLORFUL:
                texts = [text for text in texts if color in text.split()] or texts
            chosen.append(Expression(rng.pick(texts), kind, number))
    return chosen


def vocabulary() -> list[str]:
    """Every word that can occur, sorted."""
    glue = (
        "thing the of in on from to that with has same color as side corner picture all lies can be seen you see "
        "somewhere above below furthest counted largest smallest bigger smaller"
    )
    return sorted({*glue.split(), *SHAPES, *COLORS, *TEXTURES, *_SIDES, *_ORDINALS})


def _descriptions(thing: Thing) -> Iterator[Description]:
    """All noun phrases that are true of an object, from the shortest."""
    for texture, color, shape in product((None, thing.texture), (None, thing.color), (None, thing.shape)):
        if texture != "plain" or (color and shape):  # that an object is plain is said last of all
            yield Description(shape, color, texture)


def _candidates(scene: Scene, number: int, variant: str) -> Iterator[Expression]:
    """Everything of a variant that is true of one object alone."""
    makers = [("attribute", _attribute), ("comparison", _comparison), ("relation", _same_color)]
    if variant != "shapes+":
        makers += [("location", _location), ("relation", _relation), ("ordinal", _ordinal)]
    for description in _descriptions(scene.things[number]):
        group = [i for i, thing in enumerate(scene.things) if description.fits(thing)]
        for kind, maker in makers:
            for sentence, *phrases in maker(scene, number, description, group):
                for text in [f"the {sentence}"] if variant == "shapesg" else phrases:
                    yield Expression(text, kind, number)


# Of each kind first a long expression without its article, then short ones that say the same about object `number`;
# `group` holds the objects that fit the description, this one among them.
_Texts = Iterator[tuple[str, ...]]


def _attribute(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    if len(group) == 1 and what != Description():
        yield f"{what.words()} that can be seen in the picture", what.words()


def _comparison(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    own, noun = scene.things[number], what.words()
    others = [scene.things[i] for i in group if i != number]
    for larger, most, more in ((True, "largest", "bigger"), (False, "smallest", "smaller")):
        if others and all(_larger(own, other) if larger else _larger(other, own) for other in others):
            of_two = [f"{more} {noun}"] if len(others) == 1 else []
            yield f"{most} {noun} of all that can be seen in the picture", f"{most} {noun}", *of_two


def _larger(one: Thing, other: Thing) -> bool:
    """Whether one object is clearly larger; a star is not, if it is only wider than a circle."""
    above, below = LARGER
    areas = [_FILLED[thing.shape] * thing.radius**2 for thing in (one, other)]
    return below * one.radius >= above * other.radius and below**2 * areas[0] >= above**2 * areas[1]


def _location(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    noun, others = what.words(), [i for i in group if i != number]
    for side, (axis, sign) in _SIDES.items():
        own = sign * getattr(scene.things[number], axis)
        # One of its kind is on a side if the picture's middle is clearly elsewhere.
        rivals = [sign * getattr(scene.things[i], axis) for i in others] or [sign * UNITS // 2]
        if (others or what.color) and all(rival - own >= CLEAR for rival in rivals):
            # It may be the leftmost of its kind, and yet on the right.
            where = f"lies furthest to the {side} in" if others else f"you can see on the {side} side of"
            yield f"{noun} that {where} the picture", f"{side} {noun}", f"{noun} on the {side}"
    corner = _corner(scene.things[number], UNITS * 7 // 20)
    if corner and others and not any(_corner(scene.things[i], UNITS * 9 // 20) == corner for i in others):
        yield f"{noun} that lies in the {corner} corner of the picture", f"{noun} in the {corner} corner"


def _corner(thing: Thing, reach: int) -> str | None:
    vertical = "top" if thing.y < reach else "bottom" if thing.y > UNITS - reach else None
    horizontal = "left" if thing.x < reach else "right" if thing.x > UNITS - reach else None
    return f"{vertical} {horizontal}" if vertical and horizontal else None


def _anchors(scene: Scene, number: int) -> Iterator[tuple[int, Description]]:
    """Other objects with the shortest phrase that names each of them alone."""
    for i, thing in enumerate(scene.things):
        if i != number:
            for description in _descriptions(thing):
                if description != Description() and sum(map(description.fits, scene.things)) == 1:
                    yield i, description
                    break


def _relation(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    if len(group) == 1 and what.color is None:
        return  # the noun alone would do
    for anchor, by in _anchors(scene, number):
        for relation, (axis, sign, long_relation) in _RELATIONS.items():
            place = sign * getattr(scene.things[anchor], axis)
            distance = {i: place - sign * getattr(scene.things[i], axis) for i in group if i != anchor}
            # The others must not stand on that side at all.
            if distance[number] >= CLEAR and all(d <= 0 for i, d in distance.items() if i != number):
                noun, other = what.words(), by.words()
                yield f"{noun} that lies {long_relation} the {other}", f"{noun} {relation} {other}"


def _same_color(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    if len(group) == 1 or what.color is not None:
        return
    for anchor, by in _anchors(scene, number):
        same = [i for i in group if i != anchor and scene.things[i].color == scene.things[anchor].color]
        if by.color is None and same == [number]:
            phrase = f"the same color as the {by.words()}"
            yield f"{what.words()} that has {phrase}", f"{what.words()} with {phrase}"


def _ordinal(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    for side, (axis, sign) in _SIDES.items():
        ordered = sorted(group, key=lambda i: sign * getattr(scene.things[i], axis))
        places = [getattr(scene.things[i], axis) for i in ordered]
        if len(group) < 3 or min(abs(a - b) for a, b in pairwise(places)) < CLEAR * 3 // 5:
            continue
        for ordinal, i in zip(_ORDINALS, ordered[1:-1], strict=False):
            if i == number:
                phrase = f"{ordinal} {what.words()}"
                yield f"{phrase} counted from the {side} side of the picture", f"{phrase} from the {side}"
