"""`Protocol`: the five decisions behind a published number, on which the literature disagrees.

This module is light: it imports neither torch nor pyarrow, so that the command line can list the presets at once.
"""

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

Resolution = Literal["input", "original"]
Binarization = Literal["argmax", "threshold"]
Comparison = Literal[">=", ">"]
EmptyTarget = Literal["miss", "hit", "exclude"]


@dataclass(frozen=True)
class Protocol:
    """How predictions become numbers; printed in every report, because without it a number means nothing.

    Attributes:
        name: Name of the preset, or your own.
        resolution: ``"input"`` compares at the model's input size against the target resized to the nearest pixel
            (distorted where the model stretches its images); ``"original"`` brings the probabilities back to the
            photo's size and compares with the mask as annotated.
        binarization: ``"argmax"`` takes a pixel where the referent is likelier than the background (a tie is
            background); ``"threshold"`` where its probability is above `threshold`.
        threshold: Probability in (0, 1); only used by ``"threshold"``.
        comparison: Whether an IoU of exactly X counts for Pr@X.
        empty_target: Expressions that refer to nothing. ``"miss"``: their IoU is 0 whatever is predicted.
            ``"hit"`` (gRefCOCO): an empty prediction has IoU 1, any other 0, and Pr@X and box accuracy are taken over
            the expressions with a referent. ``"exclude"``: they are left out of every number but N-acc.
        thresholds: The X of Pr@X.
        minimum_pixels: A prediction of fewer pixels counts as empty (50 for gRefCOCO).

    Raises:
        ValueError: If a value is unknown or out of range.
    """

    name: str = "custom"
    resolution: Resolution = "input"
    binarization: Binarization = "argmax"
    threshold: float = 0.5
    comparison: Comparison = ">="
    empty_target: EmptyTarget = "miss"
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    minimum_pixels: int = 0

    def __post_init__(self) -> None:
        """Check the values (they may come from a command line)."""
        for key, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and (value := getattr(self, key)) not in (allowed := get_args(kind)):
                raise ValueError(f"Protocol {self.name!r}: {key} must be one of {', '.join(allowed)}, not {value!r}")
        object.__setattr__(self, "thresholds", tuple(self.thresholds))
        for value in (self.threshold, *self.thresholds):
            if not 0 < value < 1:
                raise ValueError(f"Protocol {self.name!r}: a threshold lies between 0 and 1, not {value}")
            if exact(value).denominator > 1_000_000:
                raise ValueError(f"Protocol {self.name!r}: give thresholds with at most six decimals, not {value}")
        if len(set(self.thresholds)) < len(self.thresholds):
            raise ValueError(f"Protocol {self.name!r}: thresholds {self.thresholds} name a value twice")
        if self.minimum_pixels < 0:
            raise ValueError(f"Protocol {self.name!r}: minimum_pixels must not be negative, not {self.minimum_pixels}")

    @classmethod
    def of(cls, protocol: "Protocol | str") -> "Protocol":
        """A protocol, or one of `PRESETS` by its name.

        Raises:
            ValueError: If there is no such preset.
        """
        if isinstance(protocol, Protocol):
            return protocol
        if protocol not in PRESETS:
            known = ", ".join(PRESETS)
            raise ValueError(f"Unknown protocol {protocol!r}; choose one of {known}, or make a Protocol(...)")
        return PRESETS[protocol]

    def describe(self, size: tuple[int, int] | None = None, *, given: bool = False) -> str:
        """The decisions in one sentence.

        Args:
            size: Height and width of the model's input, if known.
            given: Whether masks were given, so that no probabilities were cut.
        """
        where = "original size" if self.resolution == "original" else "model input size"
        if size is not None and self.resolution == "input":
            where = f"{where} {size[0]} x {size[1]}"
        how = "argmax" if self.binarization == "argmax" else f"probability > {self.threshold:g}"
        how = "masks as given" if given else how
        empty = {
            "miss": "expressions without referent count as misses",
            "hit": "an empty prediction for an expression without referent counts as IoU 1",
            "exclude": "expressions without referent are left out",
        }[self.empty_target]
        least = f"; predictions under {self.minimum_pixels} pixels are empty" if self.minimum_pixels else ""
        return f"{self.name}: {where}, {how}, Pr@X is IoU {self.comparison} X; {empty}{least}"

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON types; `from_dict` is the inverse."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Protocol":
        """The inverse of `to_dict`.

        Raises:
            ValueError: If a key is unknown.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"Unknown protocol keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(**values)


def exact(value: float) -> Fraction:
    """The fraction that a person means by a decimal: 0.7 is 7/10, not the nearest binary number."""
    return Fraction(str(value))


PRESETS: dict[str, Protocol] = {
    # CARIS and MaskRIS print Pr@0.5, 0.7 and 0.9 only; their NaN for an empty union is a miss here, as it is for their
    # Pr@X.
    "maskris": Protocol("maskris"),
    # LAVT: the same at 480 px; an empty union is 0 in the official code.
    "lavt": Protocol("lavt"),
    # What most papers on large language models report: hard masks at the photo's size.
    "original": Protocol("original", resolution="original"),
    # CRIS and ETRIS: at the photo's size, a fixed threshold of 0.35, strictly greater.
    "cris": Protocol("cris", resolution="original", binarization="threshold", threshold=0.35, comparison=">"),
    # gRefCOCO (GRES): gIoU, cIoU, N-acc and T-acc; fewer than 50 pixels are no target. Published at 480 px.
    "grefcoco": Protocol("grefcoco", empty_target="hit", thresholds=(0.7, 0.8, 0.9), minimum_pixels=50),
}
PRESETS["grefcoco-original"] = replace(PRESETS["grefcoco"], name="grefcoco-original", resolution="original")
"""The published protocols and gRefCOCO's at the photo's size; `docs/evaluation.md` compares them."""


class PublishedInput(NamedTuple):
    """What the published evaluation under a protocol gives its model."""

    size: int | None
    """Side of the square that photos and masks are stretched to; ``None`` where masks are compared at their own."""
    text: str
    """Which of the sentences of a data set: ``"sent"`` (cleaned) or ``"raw"`` (as typed)."""


PUBLISHED_INPUTS = {
    "maskris": PublishedInput(448, "sent"),
    "lavt": PublishedInput(480, "raw"),
    "cris": PublishedInput(None, "sent"),
    "grefcoco": PublishedInput(480, "raw"),
}
"""By preset: model and data decide what an evaluation really reads; `Evaluation.notes` names the differences."""
