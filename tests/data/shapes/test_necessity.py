"""Of complex sentences every part is needed: without it, a reader finds something else, or nothing certain."""

import re
from collections import Counter

import pytest
from data.shapes_english import NotUnderstoodError, ahead, named, read
from data.shapes_english.grammar import COLORS, NOUNS, PLURALS, TEXTURES
from data.shapes_scenes import scenes_of

from maskris.data.shapes.language import candidates

ATTRIBUTES = set(f"{COLORS}|{TEXTURES}|{NOUNS}".split("|")) - {"thing"} | set(PLURALS) - {"things"}


@pytest.fixture(scope="module")
def told():
    """Everything that can be said in training, testA and testB, by variant and kind."""
    by_kind = {}
    for variant in ("shapesc", "gshapes"):
        for scene in scenes_of(variant, 25, ("train", "testA", "testB"), seed=11):
            for expression in candidates(scene, variant):
                by_kind.setdefault((variant, expression.kind), []).append((scene, expression))
    return by_kind


def still(scene, text, expression):
    """Whether a sentence is understood as another one is."""
    try:
        return read(scene, text).means(*expression.things)
    except NotUnderstoodError:
        return False


def shortened(text):
    """The sentence with one attribute less, for each of them: a color or texture is left out, a shape is a thing.

    That something is plain is never said without its color and shape.
    """
    words = text.split()
    for i, word in enumerate(words):
        if word in ATTRIBUTES and words[i - 1] != "a":
            thing = ["things"] if word in PLURALS else ["thing"] if word in NOUNS.split("|") else []
            shorter = " ".join([*words[:i], *thing, *words[i + 1 :]])
            if not re.search(rf"\bplain (?!(?:{COLORS}) (?!thing))", shorter):
                yield shorter


def plain_noun(text):
    """The attributes and noun behind the first article."""
    return re.match(rf"the ((?:{TEXTURES} )?.*?(?:{NOUNS}))\b", text)[1]


@pytest.mark.parametrize(
    ("variant", "kind"),
    [("shapesc", "negation"), ("shapesc", "counting"), ("shapesc", "distractor"), ("gshapes", "counting")],
)
def test_every_attribute_is_needed(told, variant, kind):
    shorter = 0
    for scene, expression in told[variant, kind]:
        for text in shortened(expression.text):
            shorter += 1
            assert not still(scene, text, expression), (expression, text)
    assert shorter > (5 if kind == "counting" and variant == "gshapes" else 40)


def test_the_negation_is_needed(told):
    for scene, expression in told["shapesc", "negation"]:
        assert " not " in expression.text
        group = named(scene, plain_noun(expression.text))
        assert set(expression.things) < group
        what = expression.text.split(" not ")[1]
        for affirmative in (what, what.removeprefix("a ")):
            noun = f"{plain_noun(expression.text)} {affirmative}"
            assert not still(scene, noun, expression)


def test_negation_and_affirmation_share_out_the_objects(told):
    """What is negated is true of all others that the noun fits."""
    checked = 0
    for scene, expression in told["shapesc", "negation"]:
        if match := re.search(r" that is not (?:a )?(\w+)$", expression.text):
            others = named(scene, plain_noun(expression.text)) - set(expression.things)
            assert others
            assert others == others & named(scene, f"{match[1]}")
            checked += 1
    assert checked > 100


def test_the_count_is_needed(told):
    found = set()
    for scene, expression in told["shapesc", "counting"]:
        assert len(named(scene, plain_noun(expression.text))) > 1
        if match := re.search(r" with exactly (\w+) (.*) (left of|right of|above|below) it", expression.text):
            count, counted, where = match.groups()
            counted = " ".join(PLURALS.get(word, word) for word in counted.split())
            (number,) = expression.things
            others = named(scene, plain_noun(expression.text)) - {number}
            # "The circle with squares above it" may be another one.
            assert any(ahead(scene, j, i, where) > 0 for i in others for j in named(scene, counted) - {i})
            found.add(count)
    assert found == {"one", "two", "three", "four"}


def test_both_steps_are_needed(told):
    pattern = re.compile(
        rf"the ((?:\w+ ){{0,2}}(?:{NOUNS})) (left of|right of|above|below|with the same color as) "
        rf"the ((?:\w+ ){{0,2}}(?:{NOUNS})) (left of|right of|above|below) the ((?:\w+ ){{0,2}}(?:{NOUNS}))"
    )
    steps = Counter()
    for scene, expression in told["shapesc", "two-step"]:
        what, first, middle, second, anchor = pattern.fullmatch(expression.text).groups()
        (number,) = expression.things
        assert len(named(scene, middle)) > 1
        assert len(named(scene, what)) > 1
        # "The square left of a circle" may be another square, "the square above the star" too.
        assert not still(scene, f"{what} {second} {anchor}", expression)
        assert any(near(scene, i, j, first) for i in named(scene, what) - {number} for j in named(scene, middle) - {i})
        steps[first] += 1
    assert min(steps[step] for step in ("left of", "right of", "above", "below")) > 10


def near(scene, i, j, step):
    if step == "with the same color as":
        return scene.things[i].color == scene.things[j].color
    return ahead(scene, i, j, step) > 0


def test_of_longer_sentences_the_second_step_is_needed():
    for variant in ("shapes", "shapesc"):
        for scene in scenes_of(variant, 20, ("longer",)):
            for expression in candidates(scene, variant, "longer"):
                if expression.kind == "two-step":
                    middle = re.split(r" (?:left of|right of|above|below|with the same color as) ", expression.text)[1]
                    assert len(named(scene, middle.removeprefix("the "))) > 1


def test_of_three_attributes_each_has_a_rival_that_shares_the_two_others(told):
    for scene, expression in told["shapesc", "distractor"]:
        own = scene.things[expression.things[0]]
        for name in ("shape", "color", "texture"):
            shared = [other for other in ("shape", "color", "texture") if other != name]
            rivals = [t for t in scene.things if t != own and all(getattr(t, o) == getattr(own, o) for o in shared)]
            assert rivals
            assert all(getattr(t, name) != getattr(own, name) for t in rivals)


def test_words_about_several_are_needed(told):
    for scene, expression in told["gshapes", "several"]:
        if not re.search(" and |except", expression.text):
            head, *place = re.split("(?= on the | left of| right of| above| below)", expression.text)
            for text in shortened(head):
                assert not still(scene, " ".join([text, *place]).replace("  ", " "), expression)
            if place:
                assert not still(scene, head, expression)


def test_what_is_not_there_is_plausible(told):
    """Every word is about something in the scene; without one of the attributes there would be something."""
    starts = Counter()
    for scene, expression in told["gshapes", "no-target"]:
        there = {word for thing in scene.things for word in (thing.shape, thing.color, thing.texture)}
        words = {PLURALS.get(word, word) for word in expression.text.split()}
        assert words & ATTRIBUTES <= there
        starts[expression.text.split()[0] == "all"] += 1
        if not re.search("on the|left of|right of|above|below", expression.text):
            for text in shortened(expression.text.removeprefix("all ")):
                noun = " ".join(PLURALS.get(word, word) for word in text.split())
                assert named(scene, noun)
    assert min(starts[True], starts[False]) > 100
