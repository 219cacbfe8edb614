import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskris.utils.text import swap_sides

WORDS = st.sampled_from(
    ["left", "Right", "LEFT", "lEfT", "leftmost", "lefty", "right-hand", "Lefties", "bottomright", "upper", "most",
     "bright", "upright", "cleft", "rhs", "man", " ", "-", ", ", "2", "\u017f", "\u0131", "é", "_", "'s"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(WORDS).map("".join), st.lists(WORDS).map(" ".join)))
def test_twice_is_as_it_was(text):
    assert swap_sides(swap_sides(text)) == text


@given(st.lists(WORDS).map(" ".join))
def test_only_sides_change(text):
    def rest(sentence):
        return re.sub("left|right|lhs|rhs", "?", sentence, flags=re.IGNORECASE)

    assert rest(swap_sides(text)) == rest(text)


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("the man on the left", "the man on the right"),
        ("right guy, not left guy", "left guy, not right guy"),
        ("Left of the RIGHT one", "Right of the LEFT one"),
        ("leftmost zebra; rightmost zebra", "rightmost zebra; leftmost zebra"),
        ("Lefty", "Righty"),
        ("righties", "lefties"),
        ("left-hand side, right hand", "right-hand side, left hand"),
        ("lefthand rightside leftward rightwards", "righthand leftside rightward leftwards"),
        ("topleft bottomRIGHT upper-left farright", "topright bottomLEFT upper-right farleft"),
        ("the boy's left's", "the boy's right's"),
        ("centreleft centerRIGHT", "centreright centerLEFT"),
        ("lhs", "rhs"),
        ("left2 (right)", "right2 (left)"),
        ("bright copyright upright cleft righteous leftover leftovers", None),
        ("cat", None),
        ("", None),
    ],
)
def test_words(text, swapped):
    assert swap_sides(text) == (text if swapped is None else swapped)
