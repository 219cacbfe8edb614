"""Expressions of the embedded data set: every one is true of exactly what it is said of, by a clear margin."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from maskris.data.shapes.complex_clauses import TIMES, complex_texts
from maskris.data.shapes.groups import MOST, Group, group_texts
from maskris.data.shapes.phrases import NUMBERS, SIDES, Description
from maskris.data.shapes.scene import COLORS, SHAPES, TEXTURES, Scene, is_held_out
from maskris.data.shapes.single_clause import ORDINALS, single_target_texts
from maskris.data.shapes.two_steps import two_step_texts
from maskris.utils.rng import KeyedRandom

VARIANTS = ("shapes", "shapes+", "shapesg", "shapesc", "gshapes")
"""Short, with location words; without any; long sentences: as RefCOCO, RefCOCO+ and RefCOCOg differ. Then complex
language about one object; and short phrases for one object, several or none, as gRefCOCO has them."""

ALIKE = ("shapesc", "gshapes")
"""Variants over scenes whose objects share attributes, so that there is something to be told apart."""

KINDS = {
    "attribute": 4,
    "location": 4,
    "comparison": 2,
    "relation": 3,
    "ordinal": 1,
    "negation": 3,
    "counting": 3,
    "two-step": 12,
    "distractor": 12,
    "several": 3,
    "no-target": 2,
}
"""The kinds of expressions, and their relative frequency where several are possible about one object."""

LONGEST = {"shapes": 10, "shapes+": 10, "shapesg": 15, "shapesc": 12, "gshapes": 8}
"""Most words of a sentence; those of the split ``longer`` have more. Of ``shapes+`` there are none."""

COLORFUL = 75
"""How often, in per cent, a color is named where it can be, also where the phrase is unambiguous without."""

PER_OBJECT = {"shapes": 3, "shapes+": 3, "shapesg": 3, "shapesc": 2, "gshapes": 1}
"""Most expressions for one object, all of different kinds."""


@dataclass(frozen=True)
class Expression:
    """A sentence, its kind and the numbers of the objects it is true of, ascending; none if it is true of none."""

    text: str
    kind: str
    things: tuple[int, ...]


def expressions(
    scene: Scene, variant: str, rng: KeyedRandom, most: int | None = None, split: str = "train"
) -> list[Expression]:
    """Some expressions of different kinds for every object that has any, then those of several and of none.

    Args:
        scene: The objects.
        variant: One of `VARIANTS`.
        rng: Chooses among all that are true.
        most: Most expressions for one object; by default as in `PER_OBJECT`.
        split: In ``combinations`` all targets have a combination of attributes that other splits lack; in ``longer``
            the sentences have more than `LONGEST` words.
    """
    chosen = []
    most = PER_OBJECT[variant] if most is None else most
    for number in range(len(scene.things)):
        by_kind: dict[str, list[str]] = {}
        color = scene.things[number].color
        for expression in _single(scene, number, variant, split):
            by_kind.setdefault(expression.kind, []).append(expression.text)
        kinds = [kind for kind in KINDS if kind in by_kind]
        for _ in range(min(most, len(kinds))):
            kind = rng.pick([kind for kind in kinds for _ in range(KINDS[kind])])
            kinds.remove(kind)
            texts = sorted(set(by_kind[kind]))
            if variant != "shapesc" and rng.below(100) < COLORFUL:
                texts = [text for text in texts if color in text.split()] or texts
            chosen.append(Expression(rng.pick(texts), kind, (number,)))
    groups = list(_groups(scene, variant, split))
    for kind, times in MOST.items():
        forms = sorted({group.form for group in groups if group.kind == kind})
        for form in rng.sample(forms, min(times, len(forms))):
            *_, text, things = rng.pick(sorted(group for group in groups if (group.kind, group.form) == (kind, form)))
            chosen.append(Expression(text, kind, things))
    return chosen


def candidates(scene: Scene, variant: str, split: str = "train") -> Iterator[Expression]:
    """Everything of a variant that `expressions` chooses from."""
    for number in range(len(scene.things)):
        yield from _single(scene, number, variant, split)
    for kind, _, text, things in _groups(scene, variant, split):
        yield Expression(text, kind, things)


def vocabulary() -> list[str]:
    """Every word that can occur in any variant, sorted."""
    glue = (
        "thing the of in on from to that with has same color as side corner picture all lies can be seen you see "
        "somewhere above below furthest counted largest smallest bigger smaller "
        "is not a exactly it whose occurs both everything except and shape"
    )
    plurals = (Description(shape).plural() for shape in (None, *SHAPES))
    times = " ".join(TIMES).split()
    return sorted({*glue.split(), *SHAPES, *COLORS, *TEXTURES, *SIDES, *ORDINALS, *NUMBERS, *times, *plurals})


def _single(scene: Scene, number: int, variant: str, split: str) -> Iterator[Expression]:
    """All that can be said of one object alone in a split."""
    longer = split == "longer"
    if split == "combinations" and not is_held_out(scene.things[number]):
        return
    if variant == "shapesc":
        found = complex_texts(scene, number, longer)
    else:
        found = single_target_texts(scene, number, "shapes" if variant == "gshapes" else variant)
    texts = list(found)
    if longer and variant not in ("shapesc", "shapes+"):
        texts += product(["two-step"], two_step_texts(scene, number, variant, longer=True))
    for kind, text in texts:
        if _fits_length(text, variant, split):
            yield Expression(text, kind, (number,))


def _groups(scene: Scene, variant: str, split: str) -> Iterator[Group]:
    """All that can be said of several objects and of none in a split."""
    for group in group_texts(scene) if variant == "gshapes" else ():
        held_out = [is_held_out(scene.things[i]) for i in group.things]
        if _fits_length(group.text, variant, split) and (split != "combinations" or (held_out and all(held_out))):
            yield group


def _fits_length(text: str, variant: str, split: str) -> bool:
    return (len(text.split()) > LONGEST[variant]) == (split == "longer")
