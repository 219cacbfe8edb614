"""What ``shapesc`` says of one object: negation, counting, two steps, and attributes of which each is needed."""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from maskris.data.shapes.phrases import (
    NUMBERS,
    RELATIONS,
    SIDES,
    Description,
    all_descriptions,
    descriptions,
    is_on_side,
    is_related,
    members,
    names,
)
from maskris.data.shapes.scene import Scene, Thing
from maskris.data.shapes.two_steps import two_step_texts

TIMES = ("once", "twice", "three times", "four times")

_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def complex_texts(scene: Scene, number: int, longer: bool = False) -> Iterator[tuple[str, str]]:
    """Kind and text of everything that is true of one object alone; `longer` as for `two_step_texts`."""
    for what in descriptions(scene.things[number]):
        shorter = [set(_endings(scene, number, one)) for one in what.shorter()]
        for kind, ending in _endings(scene, number, what):
            if not any((kind, ending) in endings for endings in shorter):  # or else an attribute would be idle
                yield kind, f"the {what.words()}{ending}"
    for text in two_step_texts(scene, number, "shapesc", longer):
        yield "two-step", text


def _endings(scene: Scene, number: int, what: Description) -> Iterator[tuple[str, str]]:
    """Kind and what may follow a noun phrase, so that the whole is true of one object of those that the noun fits."""
    others = [i for i in members(scene.things, what) if i != number]
    if others:
        yield from (("negation", ending) for ending in _negations(scene, number, what, others))
        yield from (("counting", ending) for ending in _counts_around(scene, number, others))
        yield from (("counting", ending) for ending in _color_counts(scene, number, what, others))
    elif None not in vars(what).values() and all(len(members(scene.things, one)) > 1 for one in what.shorter()):
        yield "distractor", ""  # for each attribute there is another object that has the other two


def _negations(scene: Scene, number: int, what: Description, others: list[int]) -> Iterator[str]:
    """What all others are, and this one is not."""
    own, rivals = scene.things[number], [scene.things[i] for i in others]
    for attribute, article in (("color", ""), ("texture", ""), ("shape", "a ")):
        values = {getattr(thing, attribute) for thing in rivals}
        if getattr(what, attribute) is None and len(values) == 1 and getattr(own, attribute) not in values:
            yield f" that is not {article}{values.pop()}"
    for side in SIDES:
        if is_on_side(own, side) is False and all(is_on_side(thing, side) for thing in rivals):
            yield f" that is not on the {side}"
            yield f" not on the {side}"
    for anchor, by in names(scene.things):
        if anchor == number or anchor in others:
            continue
        for relation in RELATIONS:
            stands = scene.things[anchor]
            # It must be clearly on the other side.
            if is_related(own, stands, _OPPOSITE[relation]) and all(is_related(t, stands, relation) for t in rivals):
                yield f" that is not {relation} the {by.words()}"


def _counts_around(scene: Scene, number: int, others: list[int]) -> Iterator[str]:
    """How many there are of something on one side of an object, if some are there for another one too."""
    of_things = set()  # what is said of mere things already, which come first
    for counted, relation, counts in _surroundings(scene.things):
        count, unclear = counts[number]
        if unclear or not 1 <= count <= len(NUMBERS) or (relation, count) in of_things:
            continue
        different = all(not counts[i][0] <= count <= sum(counts[i]) for i in others)
        if different and any(counts[i][0] for i in others):
            if counted == Description():
                of_things.add((relation, count))
            noun = counted.words() if count == 1 else counted.plural()
            yield f" with exactly {NUMBERS[count - 1]} {noun} {relation} it"


@lru_cache(maxsize=8)
def _surroundings(things: tuple[Thing, ...]) -> list[tuple[Description, str, list[tuple[int, int]]]]:
    """What can be counted, on which side, and around each object how many are clearly and how many are barely there."""
    found = []
    for counted, group in all_descriptions(things).items():
        if sum(value is not None for value in vars(counted).values()) > 1:
            continue
        for relation in RELATIONS:
            counts = []
            for i, thing in enumerate(things):
                holds = [is_related(things[j], thing, relation) for j in group if j != i]
                counts.append((holds.count(True), holds.count(None)))
            found.append((counted, relation, counts))
    return found


def _color_counts(scene: Scene, number: int, what: Description, others: list[int]) -> Iterator[str]:
    """How often its color occurs in the scene."""
    counts = Counter(thing.color for thing in scene.things)
    times = counts[scene.things[number].color]
    if what.color is None and times <= len(TIMES) and all(counts[scene.things[i].color] != times for i in others):
        yield f" whose color occurs {TIMES[times - 1]}"
