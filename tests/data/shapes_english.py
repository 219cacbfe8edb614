"""A reader of the embedded data set's sentences, who has never seen how they were written.

It knows a few words and sentence forms and takes them at face value: what a sentence is true of is worked out from the
scene's objects alone. Words and forms that it doesn't know, and phrases that presuppose what isn't there, it refuses.

Nobody measures by eye, so every sentence is read twice. A strict reader grants only what is clear; a generous one
grants whatever might pass. A sentence is good if both find the same one object.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from maskris.data.shapes.scene import Scene, Thing, masks_of

TEXTURES = "plain|striped|dotted"
COLORS = "red|orange|yellow|green|cyan|blue|purple|pink"
NOUNS = "circle|square|triangle|diamond|cross|ring|star|thing"
SIDES = "left|right|top|bottom"
ORDINALS = {"second": 2, "third": 3, "fourth": 4}

MIDDLE, WIDTH = 512, 1024  # of the picture, in units
APART = 100  # clearly further to one side: a tenth of the picture
IN_ORDER = 60  # enough to see which comes first
CORNER, NEAR_CORNER = 360, 455  # reach of a corner for a strict and a generous reader

Answer = tuple[set[int], set[int]]


@dataclass(frozen=True)
class Reading:
    """What a sentence is true of: numbers of objects."""

    kind: str
    surely: set[int]  # for a strict reader
    maybe: set[int]  # for a generous one

    def means(self, number: int) -> bool:
        """Whether both readers find this one object."""
        return self.surely == self.maybe == {number}


class NotUnderstoodError(ValueError):
    """The sentence is not English as it is known here, or makes no sense of this scene."""


def read(scene: Scene, sentence: str) -> Reading:
    """What a sentence is true of."""
    readings = []
    for kind, pattern, meaning in RULES:
        if match := pattern.fullmatch(sentence):
            readings.append(Reading(kind, *meaning(scene, **match.groupdict())))
    if len(readings) != 1:
        raise NotUnderstoodError(f"{len(readings)} sentence forms fit {sentence!r}")
    return readings[0]


RULES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = []


def rule(kind: str, *forms: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a meaning for sentence forms; WHAT and BY stand for noun phrases, SIDE for a side of the picture."""

    def register(meaning: Callable[..., Answer]) -> Callable[..., Answer]:
        for form in forms:
            for name in ("WHAT", "BY"):
                form = form.replace(name, f"(?P<{name.lower()}>(?:(?:{TEXTURES}) )?(?:(?:{COLORS}) )?(?:{NOUNS}))")
            RULES.append((kind, re.compile(form.replace("SIDE", f"(?P<side>{SIDES})")), meaning))
        return meaning

    return register


def named(scene: Scene, phrase: str) -> set[int]:
    """Objects with all the attributes of a noun phrase."""
    words = phrase.split()
    return {
        number
        for number, thing in enumerate(scene.things)
        if all(word in (thing.texture, thing.color, thing.shape, "thing") for word in words)
    }


def the(scene: Scene, phrase: str) -> int:
    """The one object with that name."""
    found = named(scene, phrase)
    if len(found) != 1:
        raise NotUnderstoodError(f"'the {phrase}' could be {len(found)} objects")
    return found.pop()


def several(scene: Scene, phrase: str, least: int = 2) -> set[int]:
    """Objects to compare with each other."""
    found = named(scene, phrase)
    if len(found) < least:
        raise NotUnderstoodError(f"{least} of '{phrase}' are needed, {len(found)} are there")
    return found


def inwards(thing: Thing, side: str) -> int:
    """How far an object's centre is from a side of the picture."""
    return {"left": thing.x, "right": WIDTH - thing.x, "top": thing.y, "bottom": WIDTH - thing.y}[side]


@cache
def looks(shape: str, radius: int) -> tuple[int, int]:
    """Pixels and longer side of an object drawn alone, at double size so that no pixel more or less matters."""
    alone = Scene((Thing(shape, "red", "plain", MIDDLE, MIDDLE, 2 * radius),), (0,))
    ys, xs = np.nonzero(masks_of(alone, 256)[0])
    return len(ys), int(max(np.ptp(ys), np.ptp(xs))) + 1


def clearly_larger(one: Thing, other: Thing) -> bool:
    """There is a third more of it, and it is no shorter."""
    (area, length), (others_area, others_length) = looks(one.shape, one.radius), looks(other.shape, other.radius)
    return 3 * area >= 4 * others_area and length >= others_length


@rule("attribute", "WHAT", "the WHAT that can be seen in the picture")
def _attribute(scene: Scene, what: str) -> Answer:
    return named(scene, what), named(scene, what)


@rule(
    "comparison",
    "(?P<how>largest|smallest|bigger|smaller) WHAT",
    "the (?P<how>largest|smallest) WHAT of all that can be seen in the picture",
)
def _comparison(scene: Scene, how: str, what: str) -> Answer:
    group = several(scene, what)
    if how in ("bigger", "smaller") and len(group) != 2:
        raise NotUnderstoodError(f"'{how}' is said of two, not of {len(group)}")

    def beats(i: int, j: int) -> bool:
        first, second = (i, j) if how in ("largest", "bigger") else (j, i)
        return clearly_larger(scene.things[first], scene.things[second])

    surely = {i for i in group if all(beats(i, j) for j in group - {i})}
    return surely, {i for i in group if not any(beats(j, i) for j in group)}


@rule("location", "the WHAT that lies furthest to the SIDE in the picture")
def _furthest(scene: Scene, what: str, side: str) -> Answer:
    places = {i: inwards(scene.things[i], side) for i in several(scene, what)}
    first, second = sorted(places.values())[:2]
    maybe = {i for i, place in places.items() if place < first + APART}
    return (maybe if second - first >= APART else set()), maybe


@rule("location", "the WHAT that you can see on the SIDE side of the picture")
def _on_the_side(scene: Scene, what: str, side: str) -> Answer:
    places = {i: inwards(scene.things[i], side) for i in named(scene, what)}
    return {i for i, p in places.items() if p <= MIDDLE - APART}, {i for i, p in places.items() if p < MIDDLE}


@rule("location", "SIDE WHAT", "WHAT on the SIDE")
def _side(scene: Scene, what: str, side: str) -> Answer:
    """People say 'left man' of the leftmost of several, wherever they stand, and of one only if he is on the left."""
    return (_furthest if len(named(scene, what)) > 1 else _on_the_side)(scene, what, side)


@rule(
    "location",
    "WHAT in the (?P<vertical>top|bottom) (?P<horizontal>left|right) corner",
    "the WHAT that lies in the (?P<vertical>top|bottom) (?P<horizontal>left|right) corner of the picture",
)
def _corner(scene: Scene, what: str, vertical: str, horizontal: str) -> Answer:
    away = {
        i: max(inwards(scene.things[i], vertical), inwards(scene.things[i], horizontal)) for i in named(scene, what)
    }
    return {i for i, d in away.items() if d <= CORNER}, {i for i, d in away.items() if d <= NEAR_CORNER}


@rule(
    "relation",
    "WHAT (?P<where>left of|right of|above|below) BY",
    "the WHAT that lies to the (?P<where>left of|right of) the BY",
    "the WHAT that lies somewhere (?P<where>above|below) the BY",
)
def _relation(scene: Scene, what: str, where: str, by: str) -> Answer:
    side = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}[where]
    anchor = the(scene, by)
    ahead = {
        i: inwards(scene.things[anchor], side) - inwards(scene.things[i], side)
        for i in named(scene, what)
        if i != anchor
    }
    return {i for i, d in ahead.items() if d >= APART}, {i for i, d in ahead.items() if d > 0}


@rule("relation", "WHAT with the same color as the BY", "the WHAT that has the same color as the BY")
def _same_color(scene: Scene, what: str, by: str) -> Answer:
    anchor = the(scene, by)
    same = {i for i in named(scene, what) - {anchor} if scene.things[i].color == scene.things[anchor].color}
    return same, same


@rule(
    "ordinal",
    f"(?P<nth>{'|'.join(ORDINALS)}) WHAT from the SIDE",
    f"the (?P<nth>{'|'.join(ORDINALS)}) WHAT counted from the SIDE side of the picture",
)
def _ordinal(scene: Scene, nth: str, what: str, side: str) -> Answer:
    group = several(scene, what, ORDINALS[nth])
    place = {i: inwards(scene.things[i], side) for i in group}
    row = sorted(group, key=place.__getitem__)
    if min(place[b] - place[a] for a, b in pairwise(row)) < IN_ORDER:
        return set(), group
    return {row[ORDINALS[nth] - 1]}, {row[ORDINALS[nth] - 1]}
