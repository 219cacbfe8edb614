"""The counters of a run: all that a checkpoint needs besides weights and moments."""

import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any


@dataclass
class Window:
    """Sums over the steps since the last line of the log; in the checkpoint, so that a resumed run logs the same.

    Attributes:
        steps: Steps summed.
        losses: Per term.
        norm: Gradient norms before clipping.
        norms: How many of them were finite.
        expressions: Expressions seen by all processes.
        seconds: Time of the steps, without evaluating and saving.
    """

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    norm: float = 0.0
    norms: int = 0
    expressions: float = 0.0
    seconds: float = 0.0

    def add(self, losses: Sequence[float], norm: float, expressions: float, seconds: float) -> None:
        """Take a step in."""
        self.losses = [a + b for a, b in zip(self.losses or [0.0] * len(losses), losses, strict=True)]
        if math.isfinite(norm):
            self.norm, self.norms = self.norm + norm, self.norms + 1
        self.steps, self.expressions, self.seconds = (
            self.steps + 1,
            self.expressions + expressions,
            self.seconds + seconds,
        )

    def take(self) -> "Window":
        """The means of losses and norm with the sums of the rest; starts anew."""
        losses = [value / self.steps for value in self.losses]
        norm = self.norm / self.norms if self.norms else math.nan
        means = Window(self.steps, losses, norm, self.norms, self.expressions, self.seconds)
        self.__init__()  # type: ignore[misc]
        return means


@dataclass
class RunState:
    """Where a run stands.

    Attributes:
        step: Steps done.
        skipped: Those of them that fp16's gradient scaler skipped.
        evaluated: The step at which the latest evaluation was made; -1 before the first.
        metrics: What it measured.
        best: The highest value of the metric that decides.
        window: What has not been logged yet.
    """

    step: int = 0
    skipped: int = 0
    evaluated: int = -1
    metrics: dict[str, Any] = field(default_factory=dict)
    best: float | None = None
    window: Window = field(default_factory=Window)

    def improves(self, metric: str) -> bool:
        """Whether the latest evaluation is the best so far; notes it if so.

        Raises:
            KeyError: If it did not measure `metric`.
        """
        if metric not in self.metrics:
            raise KeyError(
                f"best_metric = {metric!r} is not measured; choose one of {', '.join(map(str, self.metrics))}"
            )
        value = float(self.metrics[metric])
        if math.isnan(value) or (self.best is not None and value <= self.best):
            return False
        self.best = value
        return True

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunState":
        """The inverse of `to_dict`; other keys are ignored."""
        known = {key: values[key] for key in ("step", "skipped", "evaluated", "metrics", "best")}
        return cls(**known, window=Window(**values["window"]))


@cache
def versions() -> dict[str, str]:
    """What a run was made with."""
    packages = ("maskris", "torch", "transformers", "accelerate")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
