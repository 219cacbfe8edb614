"""Worse sentences: words dropped or masked, typos, another order, no places, synonyms.

A sentence is what stands between blanks. At least one word is always kept, and the shares are exact:
``round(share * words)``, at most all but one. What happens to a sentence depends on the seed and the numbers of its
referent and expression alone; a higher share does the same to more words.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar

from maskris.batch import Batch
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.evaluation.perturbation import Origin
from maskris.utils.rng import KeyedRandom

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
    """Whether a word is an ordinal number, such as ``second``, ``last`` or ``3rd``."""
    return _ORDINAL.fullmatch(bare(word)) is not None


def count_relations(text: str) -> int:
    """The number of relations in an expression, such as ``left of`` or ``holding``.

    Example:
        >>> count_relations("man on the left with a bag next to the red car")
        2
    """
    return len(_RELATION.findall(" ".join(text.split())))


def bare(word: str) -> str:
    """A word in lower case without the punctuation around it."""
    return word.strip(".,;:!?\"'()[]").lower()


@dataclass(frozen=True)
class TextPerturbation(ABC):
    """A change of the words of every expression; pictures stay as they are.

    Attributes:
        seed: Another seed draws anew.
    """

    name: ClassVar[str]
    seed: int = field(default=0, kw_only=True)

    @abstractmethod
    def change(self, words: list[str], rng: KeyedRandom) -> list[str]:
        """The words that take the place of `words`, which are at least one."""

    def read(self, expression: str, ref_id: int, number: int) -> str:
        """The sentence in the place of an expression: the expression itself, blanks included, if nothing changes."""
        words = expression.split()
        changed = self.change(words, self._rng(ref_id, number)) if words else words
        return expression if changed == words else " ".join(changed)

    def unsupported_reason(self, tokenizer: ExpressionTokenizer) -> str | None:
        """Why sentences for a tokenizer can't be changed in this way; ``None`` if they can."""
        return None

    def __call__(self, batch: Batch, origin: Origin) -> Batch:
        """The batch with other tokens."""
        known = zip(origin.expressions, origin.ref_ids, origin.numbers, strict=True)
        tokens = origin.tokenizer([self.read(text, int(ref_id), int(number)) for text, ref_id, number in known])
        return replace(batch, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)

    def _rng(self, ref_id: int, number: int) -> KeyedRandom:
        return KeyedRandom(self.seed, self.name, ref_id, number)


@dataclass(frozen=True)
class _WordShare(TextPerturbation):
    """A change of a share of the words.

    Attributes:
        share: Of the words of each expression.

    Raises:
        ValueError: If `share` is outside [0, 1].
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 <= self.share <= 1:
            raise ValueError(f"The share of the words lies between 0 and 1, not {self.share}")

    def chosen(self, words: int, rng: KeyedRandom) -> list[int]:
        """Places of the words that are chosen, at least one of them not; in order."""
        return sorted(rng.sample(range(words), words)[: min(round(self.share * words), words - 1)])


@dataclass(frozen=True)
class DroppedWords(_WordShare):
    """A share of the words is missing."""

    name: ClassVar[str] = "words-dropped"

    def change(self, words: list[str], rng: KeyedRandom) -> list[str]:
        """Without the chosen words."""
        gone = set(self.chosen(len(words), rng))
        return [word for i, word in enumerate(words) if i not in gone]


@dataclass(frozen=True)
class MaskedWords(_WordShare):
    """Every token of a share of the words is the tokenizer's mask token, as MaskRIS hides words in training."""

    name: ClassVar[str] = "words-masked"

    def change(self, words: list[str], rng: KeyedRandom) -> list[str]:
        """With ``[MASK]``, which stands in results for the mask token of the model's input."""
        gone = set(self.chosen(len(words), rng))
        return ["[MASK]" if i in gone else word for i, word in enumerate(words)]

    def unsupported_reason(self, tokenizer: ExpressionTokenizer) -> str | None:
        """A tokenizer has no mask token, or does not say which word a token comes from."""
        if tokenizer.mask_id is None:
            return "the tokenizer has no mask token"
        if not tokenizer.tokenizer.is_fast:
            return "the tokenizer does not say which word a token comes from"
        return None

    def __call__(self, batch: Batch, origin: Origin) -> Batch:
        """The batch with mask tokens.

        Raises:
            ValueError: If the tokenizer has none.
        """
        reason, mask_id = self.unsupported_reason(origin.tokenizer), origin.tokenizer.mask_id
        if reason is not None or mask_id is None:
            raise ValueError(f"Words can't be masked: {reason}")
        input_ids = batch.input_ids.clone()
        encoded = origin.tokenizer.tokenizer(
            list(origin.expressions), split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        lengths = batch.attention_mask.sum(1).tolist()
        for n, (text, spans) in enumerate(zip(origin.expressions, encoded, strict=True)):
            places = [match.span() for match in re.finditer(r"\S+", text)]
            rng = self._rng(int(origin.ref_ids[n]), int(origin.numbers[n]))
            gone = [places[i] for i in self.chosen(len(places), rng)] if places else []
            # A sentence that was cut ends with the end token, in the place of one of a word.
            kept = spans[: lengths[n] - 1] if len(spans) > lengths[n] else spans
            for i, (start, end) in enumerate(kept):  # special tokens span nothing
                if any(start < last and end > first for first, last in gone) and end > start:
                    input_ids[n, i] = mask_id
        return replace(batch, input_ids=input_ids)


@dataclass(frozen=True)
class Typos(_WordShare):
    """A share of the words has one typo: two letters swapped, one missing, one doubled, or one of a neighboring key.

    Words of fewer than three letters are spared, so that short sentences may have fewer typos than the share says.
    """

    name: ClassVar[str] = "typos"

    def change(self, words: list[str], rng: KeyedRandom) -> list[str]:
        """With typos in the chosen words."""
        order = rng.sample(range(len(words)), len(words))
        long = [i for i in order if sum(map(str.isalpha, words[i])) >= 3]
        wrong = {i: _mistype(words[i], rng) for i in long[: round(self.share * len(words))]}
        return [wrong.get(i, word) for i, word in enumerate(words)]


@dataclass(frozen=True)
class ShuffledWords(TextPerturbation):
    """The words in a random order, another one wherever the words allow it."""

    name: ClassVar[str] = "words-shuffled"

    def change(self, words: list[str], rng: KeyedRandom) -> list[str]:
        """In another order."""
        shuffled = rng.sample(words, len(words))
        while shuffled == words and len(set(words)) > 1:
            shuffled = rng.sample(words, len(words))
        return shuffled


@dataclass(frozen=True)
class NoLocationWords(TextPerturbation):
    """Without the words that name a place in the picture (`is_location`); unchanged if none would be left."""

    name: ClassVar[str] = "no-location"

    def change(self, words: list[str], rng: KeyedRandom) -> list[str]:
        """Without places."""
        return [word for word in words if not is_location(word)] or words


@dataclass(frozen=True)
class Synonyms(TextPerturbation):
    """Every word that has one is replaced by a synonym (`SYNONYMS`), in lower case."""

    name: ClassVar[str] = "synonyms"

    def change(self, words: list[str], rng: KeyedRandom) -> list[str]:
        """With synonyms."""
        known = [SYNONYMS.get(bare(word)) for word in words]
        pairs = zip(words, known, strict=True)
        return [word.lower().replace(bare(word), rng.pick(others)) if others else word for word, others in pairs]


def _mistype(word: str, rng: KeyedRandom) -> str:
    """A word of three letters or more with one typo."""
    letters = [i for i, letter in enumerate(word) if letter.isalpha()]
    makers = [_swap, _omit, _hit_neighbor, _double]
    first = rng.below(len(makers))
    wrongs = (maker(word, rng.sample(letters, len(letters))) for maker in [*makers[first:], *makers[:first]])
    return next(wrong for wrong in wrongs if wrong != word)  # doubling always succeeds


def _swap(word: str, places: list[int]) -> str:
    for i in places:
        if word[i + 1 : i + 2].isalpha() and word[i] != word[i + 1]:
            return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return word


def _omit(word: str, places: list[int]) -> str:
    return word[: places[0]] + word[places[0] + 1 :]


def _double(word: str, places: list[int]) -> str:
    return word[: places[0]] + word[places[0]] + word[places[0] :]


def _hit_neighbor(word: str, places: list[int]) -> str:
    for row in KEYBOARD:
        if (at := row.find(word[places[0]].lower())) >= 0:
            return word[: places[0]] + row[at + 1 if at + 1 < len(row) else at - 1] + word[places[0] + 1 :]
    return word
