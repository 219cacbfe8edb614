"""Phrases about several objects; in the plural, and never about one."""

from collections import Counter

from data.shapes_english.grammar import (
    APART,
    NUMBERS,
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


def _plural(surely: set[int], maybe: set[int]) -> Answer:
    if len(surely) == 1 or len(maybe) == 1:
        raise NotUnderstoodError("the plural is said of one")
    return surely, maybe


@rule("several", "all MANY")
def _all(scene: Scene, many: str) -> Answer:
    group = named(scene, singular(many))
    return _plural(group, group)


@rule("several", f"(?P<count>both|{'|'.join(NUMBERS)}) MANY")
def _so_many(scene: Scene, count: str, many: str) -> Answer:
    group = several(scene, singular(many))
    if len(group) != NUMBERS.get(count, 2):
        raise NotUnderstoodError(f"there are {len(group)}, not {count}")
    return group, group


@rule("several", "all MANY on the SIDE", "everything on the SIDE")
def _all_there(scene: Scene, side: str, many: str = "things") -> Answer:
    return _plural(*on_the_side(scene, several(scene, singular(many)), side))


@rule("several", "all MANY WHERE BY", "everything WHERE BY")
def _all_beside(scene: Scene, where: str, by: str, many: str = "things") -> Answer:
    anchor = the(scene, by)
    distances = {i: ahead(scene, i, anchor, where) for i in several(scene, singular(many)) - {anchor}}
    return _plural({i for i, d in distances.items() if d >= APART}, {i for i, d in distances.items() if d > 0})


@rule("several", "WHAT and BY")
def _and(scene: Scene, what: str, by: str) -> Answer:
    pair = {the(scene, what), the(scene, by)}
    return _plural(pair, pair)


@rule("several", "everything except the BY")
def _except(scene: Scene, by: str) -> Answer:
    rest = set(range(len(scene.things))) - {the(scene, by)}
    return _plural(rest, rest)


def _how_equal(scene: Scene, count: str, many: str, attribute: str) -> str:
    """Counting is needed where others are equal too, but fewer."""
    sizes = Counter(getattr(scene.things[i], attribute) for i in named(scene, singular(many)))
    return "counting" if sorted(sizes.values())[-2] > 1 else "several"


@rule(_how_equal, f"(?P<count>{'|'.join(NUMBERS)}) MANY of the same (?P<attribute>color|shape)")
def _equal(scene: Scene, count: str, many: str, attribute: str) -> Answer:
    group = several(scene, singular(many), 3)
    sizes = Counter(getattr(scene.things[i], attribute) for i in group)
    (value, most), *others = sizes.most_common()
    if most != NUMBERS[count] or not others or others[0][1] == most or most < 2:
        raise NotUnderstoodError(f"{dict(sizes)} have the same {attribute}")
    found = {i for i in group if getattr(scene.things[i], attribute) == value}
    return found, found
