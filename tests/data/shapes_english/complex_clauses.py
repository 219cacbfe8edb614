"""Negation, counting, chains of relations, and a noun phrase with an article."""

from collections.abc import Callable

from data.shapes_english.grammar import (
    APART,
    COLORS,
    NOUN_PHRASE,
    NOUNS,
    NUMBERS,
    PLURAL_PHRASE,
    PLURALS,
    TEXTURES,
    Answer,
    NotUnderstoodError,
    ahead,
    named,
    on_the_side,
    rule,
    several,
    singular,
    the,
)

from maskris.data.shapes.scene import Scene

TIMES = {"once": 1, "twice": 2, "three times": 3, "four times": 4}


@rule("distractor", "the WHAT")
def _noun(scene: Scene, what: str) -> Answer:
    return named(scene, what), named(scene, what)


def _except(group: set[int], surely: set[int], maybe: set[int]) -> Answer:
    """All of a group but those; that they are excepted supposes that there are some."""
    if not surely & group:
        raise NotUnderstoodError("the negated thing is true of none, so why say it?")
    return group - maybe, group - surely


@rule("negation", f"the WHAT that is not (?P<word>{COLORS}|{TEXTURES})", f"the WHAT that is not a (?P<word>{NOUNS})")
def _not_so(scene: Scene, what: str, word: str) -> Answer:
    such = {i for i, t in enumerate(scene.things) if word in (t.color, t.texture, t.shape)}
    return _except(several(scene, what), such, such)


@rule("negation", "the WHAT that is not on the SIDE", "the WHAT not on the SIDE")
def _not_there(scene: Scene, what: str, side: str) -> Answer:
    group = several(scene, what)
    return _except(group, *on_the_side(scene, group, side))


@rule("negation", "the WHAT that is not WHERE the BY")
def _not_beside(scene: Scene, what: str, where: str, by: str) -> Answer:
    anchor = the(scene, by)
    distances = {i: ahead(scene, i, anchor, where) for i in several(scene, what)}  # nothing is beside itself
    surely = {i for i, d in distances.items() if d >= APART}
    return _except(set(distances), surely, {i for i, d in distances.items() if d > -APART})


@rule(
    "counting",
    f"the WHAT with exactly (?P<count>one) (?P<counted>{NOUN_PHRASE}) WHERE it",
    f"the WHAT with exactly (?P<count>two|three|four) (?P<counted>{PLURAL_PHRASE}) WHERE it",
)
def _with(scene: Scene, what: str, count: str, counted: str, where: str) -> Answer:
    wanted = NUMBERS[count]
    around = named(scene, singular(counted) if counted.split()[-1] in PLURALS else counted)
    surely, maybe = set(), set()
    for i in several(scene, what):
        distances = [ahead(scene, j, i, where) for j in around - {i}]
        least, most = sum(d >= APART for d in distances), sum(d > 0 for d in distances)
        surely |= {i} if least == most == wanted else set()
        maybe |= {i} if least <= wanted <= most else set()
    return surely, maybe


@rule("counting", f"the WHAT whose color occurs (?P<times>{'|'.join(TIMES)})")
def _color_occurs(scene: Scene, what: str, times: str) -> Answer:
    colors = [thing.color for thing in scene.things]
    found = {i for i in several(scene, what) if colors.count(colors[i]) == TIMES[times]}
    return found, found


@rule(
    "two-step",
    "WHAT WHERE MID THEN BY",
    "the WHAT WHERE the MID THEN the BY",
    *(
        f"the WHAT that lies {first} the MID that lies {second} the BY"
        for first in ("to the (?P<where>left of|right of)", "somewhere (?P<where>above|below)")
        for second in ("to the (?P<then>left of|right of)", "somewhere (?P<then>above|below)")
    ),
)
def _beside_one_beside(scene: Scene, what: str, where: str, mid: str, then: str, by: str) -> Answer:
    return _chain(scene, what, lambda i, j: ahead(scene, i, j, where), mid, then, by)


@rule(
    "two-step",
    "WHAT with the same color as the MID THEN BY",
    "the WHAT with the same color as the MID THEN the BY",
    "the WHAT that has the same color as the MID that lies to the (?P<then>left of|right of) the BY",
    "the WHAT that has the same color as the MID that lies somewhere (?P<then>above|below) the BY",
)
def _colored_as_one_beside(scene: Scene, what: str, mid: str, then: str, by: str) -> Answer:
    def same(i: int, j: int) -> int:
        return APART if scene.things[i].color == scene.things[j].color else -APART

    return _chain(scene, what, same, mid, then, by)


def _chain(scene: Scene, what: str, first: Callable[[int, int], int], mid: str, then: str, by: str) -> Answer:
    """The second step is about the noun before it; a generous reader grants that it may be about the first one."""
    anchor = the(scene, by)
    middles = {i: ahead(scene, i, anchor, then) for i in several(scene, mid) - {anchor}}
    if len(there := [i for i, d in middles.items() if d > 0]) != 1 or middles[there[0]] < APART:
        raise NotUnderstoodError(f"'the {mid} {then} the {by}' is not one object")
    middle = there[0]
    group = named(scene, what)
    surely = {i for i in group - {middle} if first(i, middle) >= APART}
    maybe = {i for i in group - {middle} if first(i, middle) > 0}
    beside = {i for i in group if any(first(i, j) > 0 for j in named(scene, mid) - {i})}
    about_both = {i for i in beside - {anchor} if ahead(scene, i, anchor, then) > 0}
    return surely, maybe | about_both
