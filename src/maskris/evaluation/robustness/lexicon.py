"""The words that the text side knows: places in the picture, ordinals, relations and a few synonyms. English only.

Words are taken as they stand: the "right" of "right behind her" counts as a place. This file is light.
"""

import re

_PLACES = (
    "top|topmost|upper|uppermost|bottom|bottommost|lower|lowest|middle|mid|center|centre|central|"
    "front|frontmost|foreground|back|background|rear|far|farthest|furthest|near|nearest|close|closest|"
    "corner|edge|side|sideline|outermost"
)
# left and right, and what annotators make of them: leftmost, lefty, upperleft, lhs.
_SIDES = (
    "(?:top|upper|bottom|lower|back|front|far|mid|middle|center|centre)?(?:left|right|lhs|rhs)"
    "(?:most|hand|handed|side|ward|wards|y|er|est)?"
)
_LOCATION = re.compile(f"(?:{_SIDES}|{_PLACES})", re.IGNORECASE)

_ORDINAL = re.compile(
    r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|\d+(?:st|nd|rd|th))", re.IGNORECASE
)

_RELATION = re.compile(
    r"(?<!\w)(?:to the left of|to the right of|left of|right of|in front of|in back of|on top of|next to|close to|"
    r"closest to|nearest to|across from|sitting on|sitting in|standing on|standing in|lying on|leaning on|"
    r"same(?: \w+)? as|near|beside|by|behind|between|among|above|below|beneath|under|underneath|over|inside|outside|"
    r"against|opposite|around|along|facing|touching|holding|wearing|riding|carrying|pulling|pushing|eating|with|without|"
    # "on the left" is a place, "on the chair" a relation.
    rf"on(?! (?:(?:the|my|our|your|far|very) )*(?:{_SIDES}|{_PLACES})(?!\w)))(?!\w)",
    re.IGNORECASE,
)

SYNONYMS: dict[str, tuple[str, ...]] = {
    "man": ("guy", "male"), "men": ("guys", "males"), "guy": ("man",), "guys": ("men",), "dude": ("guy", "man"),
    "woman": ("lady", "female"), "women": ("ladies", "females"), "lady": ("woman",), "ladies": ("women",),
    "kid": ("child",), "kids": ("children",), "child": ("kid",), "children": ("kids",), "boy": ("lad",),
    "baby": ("infant",), "person": ("individual",), "people": ("persons",), "couch": ("sofa",), "sofa": ("couch",),
    "tv": ("television",), "television": ("tv",), "phone": ("cellphone",), "cellphone": ("phone",),
    "bike": ("bicycle",), "bicycle": ("bike",), "motorcycle": ("motorbike",), "motorbike": ("motorcycle",),
    "car": ("automobile",), "truck": ("lorry",), "plane": ("airplane",), "airplane": ("plane",), "bus": ("coach",),
    "cup": ("mug",), "mug": ("cup",), "plate": ("dish",), "bag": ("sack",), "luggage": ("baggage",), "hat": ("cap",),
    "cap": ("hat",), "pants": ("trousers",), "jacket": ("coat",), "coat": ("jacket",), "glasses": ("spectacles",),
    "picture": ("photo", "image"), "photo": ("picture",), "image": ("picture",), "thing": ("object", "item"),
    "object": ("thing", "item"), "circle": ("disc",), "ring": ("hoop",), "square": ("box",), "diamond": ("rhombus",),
    "cross": ("plus",), "small": ("little",), "little": ("small",), "big": ("large",), "large": ("big",),
    "bigger": ("larger",), "larger": ("bigger",), "biggest": ("largest",), "largest": ("biggest",),
    "smaller": ("tinier",), "smallest": ("tiniest",), "gray": ("grey",), "grey": ("gray",), "purple": ("violet",),
    "violet": ("purple",), "blond": ("blonde",), "blonde": ("blond",), "striped": ("stripy",), "dotted": ("spotted",),
    "plain": ("solid",), "above": ("over",), "below": ("under",), "under": ("below", "beneath"), "near": ("by",),
    "beside": ("by",), "holding": ("carrying",), "sitting": ("seated",), "looking": ("gazing",),
}  # fmt: skip
"""Words that mean much the same; none of them is a place."""

KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Rows of letters, each row half a key to the right of the one above."""


def is_location(word: str) -> bool:
    """Whether a word names a place in the picture, such as ``left``, ``bottomright,`` or ``Middle``."""
    return _LOCATION.fullmatch(bare(word)) is not None


def is_ordinal(word: str) -> bool:
    """Whether a word counts, such as ``second``, ``last`` or ``3rd``."""
    return _ORDINAL.fullmatch(bare(word)) is not None


def count_relations(text: str) -> int:
    """How often an expression relates something to something else.

    Example:
        >>> count_relations("man on the left with a bag next to the red car")
        2
    """
    return len(_RELATION.findall(" ".join(text.split())))


def bare(word: str) -> str:
    """A word in lower case without the punctuation around it."""
    return word.strip(".,;:!?\"'()[]").lower()
