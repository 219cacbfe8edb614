"""`Condition` and the shipped suites: which perturbations are measured, by family, name and severity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maskris.evaluation.perturbation import Perturbation
from maskris.robustness.corruptions import KINDS, SEVERITIES, Corruption
from maskris.robustness.occlusion import ContextOcclusion, PatchOcclusion, ReferentOcclusion
from maskris.robustness.text import DroppedWords, MaskedWords, NoLocationWords, ShuffledWords, Synonyms, Typos

SuiteName = Literal["quick", "full"]

Suite = dict["Condition", Perturbation | None]
"""What is done under each condition; nothing under `CLEAN`."""

FAMILIES = ("occlusion", "context", "noise", "blur", "weather", "digital", "text")

DIAGNOSTIC_FAMILIES = ("context",)
"""Families that show what a model uses, but don't make its inputs worse: not part of any mean over families."""

SHARES = (0.25, 0.5, 0.75)

GRIDS = (4, 8, 16)
"""Patches along the shorter side of the input: 112, 56 and 28 px at 448."""


@dataclass(frozen=True)
class Condition:
    """What a model is measured under.

    Attributes:
        family: One of `FAMILIES`, ``"clean"``, or a name of one's own.
        name: Conditions of one name and different severities make a curve.
        severity: A share (float) or a level (int); ``None`` where there is but one.
    """

    family: str
    name: str
    severity: int | float | None = None

    @property
    def key(self) -> str:
        """Name of its file."""
        return self.name if self.severity is None else f"{self.name}-{self.severity:g}"

    @property
    def label(self) -> str:
        """For people: a share in per cent, a level as it is."""
        if self.severity is None:
            return self.name
        severity = f"{self.severity:.0%}" if isinstance(self.severity, float) else self.severity
        return f"{self.name} {severity}"


CLEAN = Condition("clean", "clean")


def make_suite(
    name: SuiteName = "quick", *, size: Sequence[int], seed: int = 0, families: Sequence[str] | None = None
) -> Suite:
    """A shipped suite.

    Args:
        name: ``"quick"`` has one corruption of each family and few severities (25 conditions beside the clean one),
            ``"full"`` everything (93).
        size: Height and width of the model's input, which patches are measured by.
        seed: Of all draws.
        families: Only these of `FAMILIES`; the clean pictures are always among them.

    Raises:
        ValueError: If the suite or a family is unknown.
    """
    if name not in ("quick", "full"):
        raise ValueError(f"The suite must be quick or full, not {name!r}")
    if unknown := [family for family in families or () if family not in FAMILIES]:
        raise ValueError(f"There is no family {', '.join(unknown)}, but {', '.join(FAMILIES)}")
    full = name == "full"
    suite: Suite = {CLEAN: None}
    shares = SHARES if full else SHARES[:2]
    for grid in GRIDS if full else GRIDS[1:2]:
        patch = max(1, min(size) // grid)
        suite |= {Condition("occlusion", f"patches-{grid}", x): PatchOcclusion(x, patch, seed) for x in shares}
    context_patch = max(1, min(size) // GRIDS[1])
    for x in SHARES if full else (0.5,):
        suite[Condition("occlusion", "referent", x)] = ReferentOcclusion(x, seed)
    for x in (*SHARES, 1.0) if full else (0.5,):
        suite[Condition("context", "context", x)] = ContextOcclusion(x, context_patch, seed)
    for corruption in KINDS if full else ("gaussian-noise", "defocus-blur", "fog", "jpeg"):
        for severity in SEVERITIES if full else (1, 3, 5):
            condition = Condition(KINDS[corruption].family, corruption, severity)
            suite[condition] = Corruption(corruption, severity, seed)
    for some in (DroppedWords, MaskedWords, Typos):
        suite |= {Condition("text", some.name, x): some(share=x, seed=seed) for x in shares}
    for all_words in (ShuffledWords, NoLocationWords, Synonyms):
        suite[Condition("text", all_words.name)] = all_words(seed=seed)
    return {c: perturb for c, perturb in suite.items() if c == CLEAN or c.family in (families or FAMILIES)}
