"""`Protocol`: the decisions behind a published number, on which the literature disagrees.

This module is light: it imports neither torch nor pyarrow, so that the command line can list the presets at once.
"""

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

Resolution = Literal["input", "original"]
Binarization = Literal["argmax", "threshold", "peak", "range"]
Map = Literal["probability", "score"]
Enlargement = Literal["input", "direct"]
AllNegative = Literal["empty", "whole"]
Comparison = Literal[">=", ">"]
EmptyTarget = Literal["miss", "hit", "exclude"]


@dataclass(frozen=True)
class Protocol:
    """How predictions become numbers; printed in every report, because without it a number means nothing.

    What is cut into a mask is the *map* of an expression. Of the foreground logit s (of two channels the difference, of
    one the channel itself), the map is ``sigmoid(s)`` or s itself, brought to `resolution`. Its *peak* is its highest
    value, of equal ones the first in reading order.

    Attributes:
        name: Name of the preset, or your own.
        resolution: ``"input"`` compares at the model's input size against the target resized to the nearest pixel
            (distorted where the model stretches its images); ``"original"`` brings the probabilities back to the
            photo's size and compares with the mask as annotated.
        binarization: ``"argmax"`` takes a pixel where the referent is likelier than the background (a tie is
            background), which is a score above 0; ``"threshold"`` where its probability is above `threshold`;
            ``"peak"`` where the map is above this share of its peak; ``"range"`` where it is at least this far from its
            lowest to its highest value, ``(m - min) / (max - min + 1e-9) >= threshold``.
        threshold: In (0, 1); not used by ``"argmax"``.
        comparison: Whether an IoU of exactly X counts for Pr@X.
        empty_target: Expressions that refer to nothing. ``"miss"``: their IoU is 0 whatever is predicted.
            ``"hit"`` (gRefCOCO): an empty prediction has IoU 1, any other 0, and Pr@X and box accuracy are taken over
            the expressions with a referent. ``"exclude"``: they are left out of every number but N-acc.
        thresholds: The X of Pr@X.
        minimum_pixels: A prediction of fewer pixels counts as empty (50 for gRefCOCO).
        map: ``"probability"``, sigmoid(s) in (0, 1), means the same for every model. ``"score"``, s itself, is for
            networks whose output is an unbounded similarity, of which a sigmoid would flatten the peaks; ``"peak"``
            then cuts ReLU(s), since a share of a positive peak is positive.
        enlarge: How maps come to the photo's size. ``"input"``: first to the model's input as the model does it, then
            to the photo; ``"direct"``: from the model's stride in one bilinear step, for models that stretch photos.
        align_corners: Whether the step to the photo aligns the corners; after a letterbox it doesn't matter.
        all_negative: What a score map without any value above 0 becomes under ``"argmax"`` and ``"peak"``:
            ``"empty"``, or with a peak below -1e-5 the ``"whole"`` photo, as where a map is divided by its own peak.
        pointing: Whether PointM and PointIt are measured: whether the peak of the score, enlarged like the map, lies on
            the mask and in its tight box (border included). Of the score, because the probabilities of a sure model
            are 1.0 over whole areas.

    Raises:
        ValueError: If a value is unknown or out of range, or doesn't go with another.
    """

    name: str = "custom"
    resolution: Resolution = "input"
    binarization: Binarization = "argmax"
    threshold: float = 0.5
    comparison: Comparison = ">="
    empty_target: EmptyTarget = "miss"
    thresholds: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)
    minimum_pixels: int = 0
    map: Map = "probability"
    enlarge: Enlargement = "input"
    align_corners: bool = False
    all_negative: AllNegative = "empty"
    pointing: bool = False

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
        if self.resolution == "input" and (self.enlarge != "input" or self.align_corners):
            raise ValueError(
                f"Protocol {self.name!r}: enlarge and align_corners say how maps come to the original size"
            )
        if self.map == "score" and self.binarization == "threshold":
            raise ValueError(f"Protocol {self.name!r}: a threshold cuts probabilities; cut scores by argmax or peak")
        if self.all_negative == "whole" and (self.map != "score" or self.binarization not in ("argmax", "peak")):
            raise ValueError(f"Protocol {self.name!r}: all_negative needs the map 'score', cut by argmax or peak")

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
        if self.enlarge == "direct" and not given:
            where += " in one step from the model's stride"
        if self.align_corners and not given:
            where += " with aligned corners"
        how = {
            "argmax": "argmax" if self.map == "probability" else "score > 0",
            "threshold": f"probability > {self.threshold:g}",
            "peak": f"{self.map} > {self.threshold:g} of its peak",
            "range": f"{self.map} >= {self.threshold:g} of the way from its lowest to its highest value",
        }[self.binarization]
        if self.map == "score" and self.binarization in ("argmax", "peak"):
            how += f", all-negative maps count as {'the whole photo' if self.all_negative == 'whole' else 'empty'}"
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
# TRIS, both stages: every expression, map / (peak + 1e-5) > 1e-9. That is a score above 0, except that a map without
# any turns its sign and becomes the whole photo.
PRESETS["tris"] = Protocol(
    "tris", resolution="original", map="score", align_corners=True, all_negative="whole", pointing=True
)
PRESETS["tris-empty"] = replace(PRESETS["tris"], name="tris-empty", all_negative="empty")
# SaG: the relevance-weighted map, resized from its 24 x 24 patches and stretched to [0, 1].
PRESETS["sag"] = Protocol("sag", resolution="original", binarization="range", enlarge="direct")
# Half of the peak, usual for localizers, and in no paper that is compared with here.
PRESETS["peak"] = Protocol("peak", resolution="original", binarization="peak", pointing=True)
PRESETS["grefcoco-original"] = replace(PRESETS["grefcoco"], name="grefcoco-original", resolution="original")
"""The published protocols, and variants of them for comparison; `docs/evaluation.md` lists all."""


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
    "tris": PublishedInput(None, "sent"),
}
"""By preset: model and data decide what an evaluation really reads; `Evaluation.notes` names the differences."""
