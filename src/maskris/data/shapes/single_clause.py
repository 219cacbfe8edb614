"""What is said in the variants that differ as RefCOCO, RefCOCO+ and RefCOCOg do: of one object, in one clause."""

from collections.abc import Iterator
from itertools import pairwise

from maskris.data.shapes.phrases import (
    CLEAR,
    SIDES,
    Description,
    descriptions,
    is_larger,
    is_related,
    members,
    names,
)
from maskris.data.shapes.scene import UNITS, Scene, Thing

ORDINALS = ("second", "third", "fourth")  # the first and the last are a matter of location

LONG_RELATIONS = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "somewhere above",
    "below": "somewhere below",
}
"""How long sentences say it."""


def single_target_texts(scene: Scene, number: int, variant: str) -> Iterator[tuple[str, str]]:
    """Kind and text of everything that ``shapes``, ``shapes+`` or ``shapesg`` can say of one object alone."""
    makers = [("attribute", _attribute), ("comparison", _comparison), ("relation", _same_color)]
    if variant != "shapes+":
        makers += [("location", _location), ("relation", _relation), ("ordinal", _ordinal)]
    for description in descriptions(scene.things[number]):
        group = members(scene.things, description)
        for kind, maker in makers:
            for sentence, *phrases in maker(scene, number, description, group):
                for text in [f"the {sentence}"] if variant == "shapesg" else phrases:
                    yield kind, text


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
        if others and all(is_larger(own, other) if larger else is_larger(other, own) for other in others):
            of_two = [f"{more} {noun}"] if len(others) == 1 else []
            yield f"{most} {noun} of all that can be seen in the picture", f"{most} {noun}", *of_two


def _location(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    noun, others = what.words(), [i for i in group if i != number]
    for side, (axis, sign) in SIDES.items():
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


def _relation(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    if len(group) == 1 and what.color is None:
        return  # the noun alone would do
    for anchor, by in names(scene.things):
        if anchor == number:
            continue
        for relation, long_relation in LONG_RELATIONS.items():
            holds = {i: is_related(scene.things[i], scene.things[anchor], relation) for i in group if i != anchor}
            # The others must not stand on that side at all.
            if holds[number] and all(h is False for i, h in holds.items() if i != number):
                noun, other = what.words(), by.words()
                yield f"{noun} that lies {long_relation} the {other}", f"{noun} {relation} {other}"


def _same_color(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    if len(group) == 1 or what.color is not None:
        return
    for anchor, by in names(scene.things):
        same = [i for i in group if i != anchor and scene.things[i].color == scene.things[anchor].color]
        if anchor != number and by.color is None and same == [number]:
            phrase = f"the same color as the {by.words()}"
            yield f"{what.words()} that has {phrase}", f"{what.words()} with {phrase}"


def _ordinal(scene: Scene, number: int, what: Description, group: list[int]) -> _Texts:
    for side, (axis, sign) in SIDES.items():
        ordered = sorted(group, key=lambda i: sign * getattr(scene.things[i], axis))
        places = [getattr(scene.things[i], axis) for i in ordered]
        if len(group) < 3 or min(abs(a - b) for a, b in pairwise(places)) < CLEAR * 3 // 5:
            continue
        for ordinal, i in zip(ORDINALS, ordered[1:-1], strict=False):
            if i == number:
                phrase = f"{ordinal} {what.words()}"
                yield f"{phrase} counted from the {side} side of the picture", f"{phrase} from the {side}"
