"""`Rule`: where a map is cut to become a mask."""

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np

Kind = Literal["threshold", "peak"]


@dataclass(frozen=True)
class Rule:
    """A cut that is fixed before anybody looks at the masks.

    Attributes:
        kind: ``"threshold"`` takes the pixels above `value`; ``"peak"`` those above `value` times the map's maximum,
            whatever that is, and nothing of a map without a positive value.
        value: In [0, 1) for ``"peak"``, at least 0 for ``"threshold"``.

    Raises:
        ValueError: If there is no such kind, or the value is out of range.
    """

    kind: Kind
    value: float

    def __post_init__(self) -> None:
        """Check both."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"The rule is {' or '.join(get_args(Kind))}, not {self.kind!r}")
        if self.kind == "peak" and not 0 <= self.value < 1:
            raise ValueError(f"peak:F takes a share of the map's maximum in [0, 1), not {self.value:g}")
        if not 0 <= self.value < float("inf"):
            raise ValueError(f"threshold:T takes a number of at least 0, not {self.value:g}")

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """The rule of ``"threshold:0.5"`` or ``"peak:0.5"``.

        Raises:
            ValueError: If it is neither.
        """
        if not (match := re.fullmatch(r"([a-z]+):(\d+\.?\d*|\.\d+)", text.strip())):
            raise ValueError(f"A rule is threshold:T or peak:F, such as peak:0.5, not {text!r}")
        return cls(cast(Kind, match[1]), float(match[2]))

    def __str__(self) -> str:
        return f"{self.kind}:{self.value:g}"

    def mask(self, values: np.ndarray) -> np.ndarray:
        """The pixels ``[h, w]`` bool that the rule takes of a map ``[h, w]``, whose values are at least 0."""
        cut = self.value * float(values.max()) if self.kind == "peak" else self.value
        return np.asarray(values > cut)
