"""Expressions as text: what makes one invalid, and the exchange of left and right."""

import re


def invalid_text_reason(text: str) -> str | None:
    r"""Why a text can't be tokenized or written to a file, and what to do about it; ``None`` for a valid one.

    JSON writes 😀 as the pair ``\ud83d\ude00``, and reads either half without the other. Such a half also stands for
    a byte that is no UTF-8, where a text comes from the command line or the name of a file.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(text[error.start]).strip("'")
        return f"holds a lone surrogate ({half} in {ascii(text)[:60]}); write the whole character, in UTF-8"
    return None


_SIDES = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "lhs": "rhs", "LHS": "RHS"}
_SWAPPED = _SIDES | {other: side for side, other in _SIDES.items()}

# Whole words, and those that annotators make of them: leftmost, lefty, left-hand (two words), upperleft, bottomright.
_WORD = re.compile(
    r"(?<![^\W\d_])"  # no letter before
    r"(?P<before>(?:top|upper|bottom|lower|back|front|far|mid|middle|center|centre)?)"
    r"(?P<side>left|right|lhs|rhs)"
    r"(?P<after>(?:most|hand|handed|side|ward|wards|y|ie|ies|er|est|s)?)"
    r"(?![^\W\d_])",  # no letter after
    re.IGNORECASE,
)


def swap_sides(text: str) -> str:
    """Exchange left and right, word by word and in the case that they have; twice is as it was.

    Words are taken as they stand: the "right" of "right behind her" is exchanged too, though it names no side. What
    names one in other words (at 3 o'clock, east) stays.

    Example:
        >>> swap_sides("Lefty in the bottomright corner, left-hand side, bright shirt")
        'Righty in the bottomleft corner, right-hand side, bright shirt'
    """
    return _WORD.sub(lambda m: f"{m['before']}{_SWAPPED.get(m['side'], m['side'])}{m['after']}", text)
