"""Chains of two relations: the square left of the circle above the star."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from maskris.data.shapes.phrases import RELATIONS, Description, all_descriptions, descriptions, is_related, names
from maskris.data.shapes.scene import Scene, Thing
from maskris.data.shapes.single_clause import LONG_RELATIONS

SAME_COLOR = "with the same color as"

Steps = list[list[bool | None]]
"""Of which objects a step from which other one is true, by row and column; ``None`` where it is barely."""


@dataclass(frozen=True)
class SecondStep:
    """A phrase of one step for an object that its noun alone does not name, such as ``circle above star``."""

    middle: int
    group: tuple[int, ...]  # all objects that the noun fits
    what: Description
    relation: str
    anchor: int
    by: Description


def two_step_texts(scene: Scene, number: int, variant: str, longer: bool = False) -> Iterator[str]:
    """Sentences about one object in which both steps are needed.

    Neither the first noun, nor the first noun with the first step, nor with the second one is true of the object alone;
    the second noun alone could be several objects. Whoever takes both steps to be about the first noun (the square that
    is left of the circle and above the star) finds no other object either.

    Args:
        scene: The objects.
        number: Of the one that is meant.
        variant: How it is said: briefly in ``shapes`` and ``gshapes``, at length in ``shapesg``, else in between.
        longer: Whether the first and the last noun may name more than is needed, so that the second noun alone needs
            its step.
    """
    groups, tables = all_descriptions(scene.things), _tables(scene.things)
    for second in _second_steps(scene.things, every_name=longer):
        for relation, first in tables.items():
            if number in (second.middle, second.anchor) or not first[number][second.middle]:
                continue
            for what in descriptions(scene.things[number]):
                if relation == SAME_COLOR and (what.color or second.what.color):
                    continue
                rivals = [i for i in groups[what] if i != number]
                after = tables[second.relation]
                if _is_clear(first, after, rivals, second) and (
                    longer or _needs_both(first, after, number, rivals, second)
                ):
                    yield _text(what, relation, second, variant)


@lru_cache(maxsize=8)
def _tables(things: tuple[Thing, ...]) -> dict[str, Steps]:
    tables: dict[str, Steps] = {
        relation: [[is_related(one, other, relation) for other in things] for one in things] for relation in RELATIONS
    }
    return tables | {SAME_COLOR: [[one.color == other.color for other in things] for one in things]}


@lru_cache(maxsize=8)
def _second_steps(things: tuple[Thing, ...], every_name: bool) -> list[SecondStep]:
    found, tables = [], _tables(things)
    for what, group in all_descriptions(things).items():
        if len(group) < 2:
            continue
        for anchor, by in names(things, every_name):
            for relation in RELATIONS:
                holds = {i: tables[relation][i][anchor] for i in group if i != anchor}
                if None not in holds.values() and sum(map(bool, holds.values())) == 1:
                    middle = next(i for i, h in holds.items() if h)
                    found.append(SecondStep(middle, tuple(group), what, relation, anchor, by))
    return found


def _is_clear(first: Steps, after: Steps, rivals: list[int], second: SecondStep) -> bool:
    """Whether both steps are not even nearly true of any other object that the noun fits."""
    for i in rivals:
        if i != second.middle and first[i][second.middle] is not False:
            return False
        about_both = i != second.anchor and after[i][second.anchor] is not False
        if about_both and any(first[i][j] is not False for j in second.group if j != i):
            return False
    return True


def _needs_both(first: Steps, after: Steps, number: int, rivals: list[int], second: SecondStep) -> bool:
    """Whether each step alone may be true of others, too."""
    others = [i for i in rivals if i != second.middle]
    if not any(first[i][j] is not False for i in others for j in second.group if j != i):
        return False
    return after[number][second.anchor] is not True or any(
        after[i][second.anchor] is not False for i in rivals if i != second.anchor
    )


def _text(what: Description, relation: str, second: SecondStep, variant: str) -> str:
    noun, middle, anchor = what.words(), second.what.words(), second.by.words()
    if variant == "shapesg":
        first = "has the same color as" if relation == SAME_COLOR else f"lies {LONG_RELATIONS[relation]}"
        return f"the {noun} that {first} the {middle} that lies {LONG_RELATIONS[second.relation]} the {anchor}"
    if variant == "shapesc":
        return f"the {noun} {relation} the {middle} {second.relation} the {anchor}"
    article = "the " if relation == SAME_COLOR else ""
    return f"{noun} {relation} {article}{middle} {second.relation} {anchor}"
