"""Short and long sentences about one object."""

from itertools import pairwise

from data.shapes_english.grammar import (
    APART,
    CORNER,
    IN_ORDER,
    MIDDLE,
    NEAR_CORNER,
    ORDINALS,
    Answer,
    NotUnderstoodError,
    ahead,
    clearly_larger,
    inwards,
    named,
    rule,
    several,
    the,
)

from maskris.data.shapes.scene import Scene


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
    "WHAT WHERE BY",
    "the WHAT that lies to the (?P<where>left of|right of) the BY",
    "the WHAT that lies somewhere (?P<where>above|below) the BY",
)
def _relation(scene: Scene, what: str, where: str, by: str) -> Answer:
    anchor = the(scene, by)
    distances = {i: ahead(scene, i, anchor, where) for i in named(scene, what) - {anchor}}
    return {i for i, d in distances.items() if d >= APART}, {i for i, d in distances.items() if d > 0}


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
