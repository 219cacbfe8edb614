"""What ``gshapes`` says of several objects and of none, as gRefCOCO does."""

from collections import Counter
from collections.abc import Iterator
from itertools import permutations, product
from typing import NamedTuple

from maskris.data.shapes.phrases import (
    NUMBERS,
    RELATIONS,
    SIDES,
    Description,
    all_descriptions,
    is_on_side,
    is_related,
    members,
    names,
)
from maskris.data.shapes.scene import Scene, Thing

MOST = {"several": 3, "counting": 1, "no-target": 2}
"""The kinds, and how many expressions of each a scene has at most, all of different forms."""


class Group(NamedTuple):
    """A sentence, its kind and form, and the numbers of the objects it is true of, ascending."""

    kind: str
    form: str
    text: str
    things: tuple[int, ...]


def group_texts(scene: Scene) -> Iterator[Group]:
    """Everything that is true of several objects, and everything plausible that is true of none."""
    yield from _named(scene.things)
    yield from _placed(scene.things)
    yield from _joined(scene.things)
    yield from _equals(scene.things)
    yield from _absent(scene.things)


def _named(things: tuple[Thing, ...]) -> Iterator[Group]:
    for what, group in all_descriptions(things).items():
        needed = all(members(things, one) != group for one in what.shorter())
        if len(group) < 2 or what == Description() or not needed:
            continue
        starts = ["all", "both"] if len(group) == 2 else ["all"]
        starts += [NUMBERS[len(group) - 1]] if len(group) <= len(NUMBERS) else []
        for start in starts:
            yield Group("several", "named", f"{start} {what.plural()}", tuple(group))


def _places(things: tuple[Thing, ...]) -> Iterator[tuple[str, str, dict[int, bool | None]]]:
    """Form and phrase of every place that can be named, and of which objects it is true."""
    for side in SIDES:
        yield "side", f"on the {side}", {i: is_on_side(thing, side) for i, thing in enumerate(things)}
    for anchor, by in names(things):
        for relation in RELATIONS:
            holds = {i: is_related(thing, things[anchor], relation) for i, thing in enumerate(things) if i != anchor}
            yield "relation", f"{relation} {by.words()}", holds


def _placed(things: tuple[Thing, ...]) -> Iterator[Group]:
    """Those of a kind that are at a place, if others of it aren't; and none, if none are."""
    for (form, where, holds), (what, named) in product(_places(things), all_descriptions(things).items()):
        group = [i for i in named if i in holds]
        there = tuple(i for i in group if holds[i])
        if any(holds[i] is None for i in group):
            continue
        noun = "everything" if what == Description() else f"all {what.plural()}"
        needed = all(any(holds.get(i) and i not in named for i in members(things, one)) for one in what.shorter())
        if len(there) >= 2 and len(there) < len(group) and needed:
            yield Group("several", form, f"{noun} {where}", there)
        if group and not there and what != Description():
            if len(group) > 1:
                yield Group("no-target", form, f"{noun} {where}", ())
            # Of one object this is said only with its color, as where it is there; "circle on the left" of several
            # circles means the leftmost.
            if what.color if len(group) == 1 else form == "relation":
                yield Group("no-target", form, f"{what.words()} {where}", ())


def _joined(things: tuple[Thing, ...]) -> Iterator[Group]:
    for (one, first), (other, second) in permutations(names(things), 2):
        yield Group("several", "joined", f"{first.words()} and {second.words()}", tuple(sorted((one, other))))
    for one, name in names(things):
        rest = tuple(i for i in range(len(things)) if i != one)
        if len(rest) > 1:
            yield Group("several", "except", f"everything except the {name.words()}", rest)


def _equals(things: tuple[Thing, ...]) -> Iterator[Group]:
    """Those of a kind that are equal in something, if no more and no others are.

    Counting matters where others are equal, too: two are green, and three are red.
    """
    for attribute, what in product(("color", "shape"), all_descriptions(things)):
        found = _most_equal(things, what, attribute)
        if found is None:
            continue
        group, pairs = found
        if any((_most_equal(things, one, attribute) or [()])[0] == group for one in what.shorter()):
            continue
        text = f"{NUMBERS[len(group) - 1]} {what.plural()} of the same {attribute}"
        yield Group("counting" if pairs else "several", "equal", text, group)


def _most_equal(things: tuple[Thing, ...], what: Description, attribute: str) -> tuple[tuple[int, ...], bool] | None:
    """The most objects of a kind with the same color or shape, and whether there are others, of another one."""
    if getattr(what, attribute) is not None:
        return None
    group = members(things, what)
    (value, most), *rest = Counter(getattr(things[i], attribute) for i in group).most_common()
    second = rest[0][1] if rest else 0
    if not rest or not second < most or not 2 <= most <= len(NUMBERS):
        return None  # if all are equal, the noun is enough
    return tuple(i for i in group if getattr(things[i], attribute) == value), second > 1


def _absent(things: tuple[Thing, ...]) -> Iterator[Group]:
    """Combinations of attributes that don't occur, though they do in pairs, or alone if there are two."""
    values = [(None, *sorted({getattr(thing, name) for thing in things})) for name in ("shape", "color", "texture")]
    for shape, color, texture in product(*values):
        what = Description(shape, color, texture)
        said = len(what.shorter()) > 1 and (texture != "plain" or (color and shape))
        if said and not members(things, what) and all(members(things, one) for one in what.shorter()):
            yield Group("no-target", "named", what.words(), ())
            yield Group("no-target", "named", f"all {what.plural()}", ())
