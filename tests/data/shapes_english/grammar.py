"""A reader of the embedded data set's sentences, who has never seen how they were written.

It knows a few words and sentence forms and takes them at face value: what a sentence is true of is worked out from the
scene's objects alone. Words and forms that it doesn't know, and phrases that presuppose what isn't there, it refuses.

Nobody measures by eye, so every sentence is read twice. A strict reader grants only what is clear; a generous one
grants whatever might pass. A sentence is good if both find the same objects.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from maskris.data.shapes.scene import Scene, Thing, masks_of

TEXTURES = "plain|striped|dotted"
COLORS = "red|orange|yellow|green|cyan|blue|purple|pink"
NOUNS = "circle|square|triangle|diamond|cross|ring|star|thing"
SIDES = "left|right|top|bottom"
ORDINALS = {"second": 2, "third": 3, "fourth": 4}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}

MIDDLE, WIDTH = 512, 1024  # of the picture, in units
APART = WIDTH // 10  # clearly further to one side
IN_ORDER = 60  # enough to see which comes first
CORNER, NEAR_CORNER = 360, 455  # reach of a corner for a strict and a generous reader

Answer = tuple[set[int], set[int]]


@dataclass(frozen=True)
class Reading:
    """What a sentence is true of: numbers of objects."""

    kind: str
    surely: set[int]  # for a strict reader
    maybe: set[int]  # for a generous one

    def means(self, *numbers: int) -> bool:
        """Whether both readers find these objects and no other."""
        return self.surely == self.maybe == set(numbers)


class NotUnderstoodError(ValueError):
    """The sentence is not English as it is known here, or makes no sense of this scene."""


def read(scene: Scene, sentence: str) -> Reading:
    """What a sentence is true of; what is true of nothing is of a kind of its own."""
    readings = []
    for kind, pattern, meaning in RULES:
        if match := pattern.fullmatch(sentence):
            said = match.groupdict()
            surely, maybe = meaning(scene, **said)
            kind = kind(scene, **said) if callable(kind) else kind
            readings.append(Reading(kind if maybe else "no-target", surely, maybe))
    if len(readings) != 1:
        raise NotUnderstoodError(f"{len(readings)} sentence forms fit {sentence!r}")
    return readings[0]


Kind = str | Callable[..., str]

RULES: list[tuple[Kind, re.Pattern[str], Callable[..., Answer]]] = []

NOUN_PHRASE = f"(?:(?:{TEXTURES}) )?(?:(?:{COLORS}) )?(?:{NOUNS})"
PLURALS = {("crosses" if noun == "cross" else f"{noun}s"): noun for noun in NOUNS.split("|")}
PLURAL_PHRASE = f"(?:(?:{TEXTURES}) )?(?:(?:{COLORS}) )?(?:{'|'.join(PLURALS)})"


def rule(kind: Kind, *forms: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a meaning for sentence forms.

    WHAT, MID and BY stand for noun phrases, MANY for one in the plural, SIDE for a side of the picture, WHERE and THEN
    for relations.
    """
    relations = "left of|right of|above|below"
    parts = {name: f"(?P<{name.lower()}>{NOUN_PHRASE})" for name in ("WHAT", "MID", "BY")}
    parts |= {"MANY": f"(?P<many>{PLURAL_PHRASE})", "SIDE": f"(?P<side>{SIDES})"}
    parts |= {name: f"(?P<{name.lower()}>{relations})" for name in ("WHERE", "THEN")}

    def register(meaning: Callable[..., Answer]) -> Callable[..., Answer]:
        for form in forms:
            pattern = re.sub(r"\b[A-Z]+\b", lambda name: parts.get(name[0], name[0]), form)
            RULES.append((kind, re.compile(pattern), meaning))
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


def singular(phrase: str) -> str:
    """The noun phrase of which this is the plural."""
    *attributes, noun = phrase.split()
    return " ".join([*attributes, PLURALS[noun]])


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


def on_the_side(scene: Scene, group: set[int], side: str) -> Answer:
    """Those of a group that are on a side of the picture; whatever is near the middle may be on both."""
    places = {i: inwards(scene.things[i], side) for i in group}
    return {i for i, p in places.items() if p <= MIDDLE - APART}, {i for i, p in places.items() if p < MIDDLE + APART}


def ahead(scene: Scene, number: int, anchor: int, where: str) -> int:
    """How far an object is left of another one, right of it, above it or below it; negative on the other side."""
    side = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}[where]
    return inwards(scene.things[anchor], side) - inwards(scene.things[number], side)


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
