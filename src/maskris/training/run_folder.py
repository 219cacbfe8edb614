"""The folder of a run: whether it may be used, what to continue from, and what is written when."""

import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from filelock import FileLock, Timeout
from torch.optim import Optimizer

from maskris.models.base import RISModel
from maskris.strategies.base import Strategy
from maskris.training import checkpoint
from maskris.training.config import TrainingConfig
from maskris.training.logging import METRICS


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


LOCK_SECONDS = 10.0


class RunFolder:
    """Reads and writes a run folder; with several processes, all call it and the first one writes.

    Args:
        path: The folder; made if need be.
        accelerator: Knows the other processes, and the gradient scaler.
        identity: Everything that determines the results, see `identity_of`.
    """

    def __init__(self, path: Path, accelerator: Accelerator, identity: dict[str, Any]) -> None:
        self.path = path
        self.last = path / "last"
        self.best = path / "best"
        self._accelerator = accelerator
        self._identity = identity

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other trainings out of the folder while the block lasts; a killed process keeps nobody out.

        Raises:
            CheckpointError: In all processes, if another training is at work in it.
        """
        # Some network file systems have no locks; one must be able to train there all the same. What filelock takes
        # instead by default, a file that says who holds the folder, outlives a process killed on another machine.
        lock, free = FileLock(self.path / ".lock", timeout=LOCK_SECONDS, fallback_to_soft=False), True
        if self._accelerator.is_main_process:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                free = False
            except (OSError, NotImplementedError):
                pass
        if not all(gather_object([free])):
            raise checkpoint.CheckpointError(
                f"Another process is training in {self.path}; wait until it ends, stop it, or choose another folder"
            )
        try:
            yield
        finally:
            lock.release()

    def start(self, resume: str | Path) -> Path | None:
        """Prepare the folder.

        Args:
            resume: See `Trainer.fit`.

        Returns:
            The checkpoint to continue from; ``None`` for a new run.

        Raises:
            CheckpointError: If another run would be overwritten, or there is no such checkpoint.
        """
        if self._accelerator.is_main_process:
            checkpoint.recover(self.last)
            checkpoint.recover(self.best)
        self._accelerator.wait_for_everyone()
        if resume == "auto":
            return self.last if self.last.exists() else None
        source = None
        if resume != "never":
            source = Path(resume) / "last" if (Path(resume) / "last").is_dir() else Path(resume)
            if not source.is_dir():
                raise checkpoint.CheckpointError(f"There is no checkpoint {source}; resume is auto, never or a folder")
        found = [name for name in ("last", "best", METRICS) if (self.path / name).exists()]
        if found and (source is None or source.resolve() != self.last.resolve()):
            raise checkpoint.CheckpointError(
                f"{self.path} already holds a run ({', '.join(found)}); continue it with resume = auto, or choose "
                "another folder"
            )
        return source

    def load(self, source: Path, model: RISModel, optimizer: Optimizer, strategy: Strategy) -> RunState:
        """Bring everything back to where it was when `source` was written.

        Raises:
            CheckpointError: If it belongs to another run, or can't be continued.
        """
        values = checkpoint.load_state(source)
        checkpoint.check_same_run(values["run"], self._identity, source)
        checkpoint.load_training(source, model, optimizer, strategy)
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(values["scaler"])
        return RunState.from_dict(values)

    def write(self, files: Mapping[str, str]) -> None:
        """Write text files by their names."""
        if self._accelerator.is_main_process:
            for name, text in files.items():
                (self.path / name).write_text(text, encoding="utf-8")

    def save_last(self, model: RISModel, optimizer: Optimizer, strategy: Strategy, state: RunState) -> None:
        """Write ``last``."""
        if self._accelerator.is_main_process:
            scaler = self._accelerator.scaler
            values = {
                **state.to_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "run": self._identity,
                "versions": versions(),
            }
            checkpoint.save_training(self.last, model, optimizer, strategy, values)
        self._accelerator.wait_for_everyone()

    def save_best(self, model: RISModel) -> None:
        """Write ``best``."""
        if self._accelerator.is_main_process:
            checkpoint.save_model(self.best, model)
        self._accelerator.wait_for_everyone()


def identity_of(
    config: TrainingConfig,
    model: RISModel,
    strategy: Strategy,
    items: int,
    processes: int,
    augment: Sequence[Any] = (),
    reduced_decoding: bool = False,
) -> dict[str, Any]:
    """What determines the results of a run, under names that a message can use.

    The number of processes is among them, because each draws masks and dropout of its own.

    Args:
        config: All settings.
        model: With its configuration.
        strategy: The method.
        items: Length of the training data.
        processes: That train together.
        augment: Augmentations of the training data.
        reduced_decoding: Whether its photos are decoded at a reduced size.
    """
    augmentations = [_settings(f"augment.{place}", one, depth=2) for place, one in enumerate(augment)]
    return {
        **config.identity(),
        "items": items,
        "processes": processes,
        "model": type(model).__name__,
        **{f"model.{key}": value for key, value in getattr(model, "config", {}).items()},
        **_settings("strategy", strategy, depth=2),
        **{key: value for settings in augmentations for key, value in settings.items()},
        **({"reduced_decoding": True} if reduced_decoding else {}),
    }


def _settings(name: str, value: Any, depth: int) -> dict[str, Any]:
    """A setting as it is; an object as its class and its own settings."""
    if _is_plain(value):
        return {name: value}
    settings = {name: type(value).__name__}
    if depth and hasattr(value, "__dict__"):
        for key, inner in vars(value).items():
            if key.startswith("_"):  # how it works, not what it does
                continue
            settings |= _settings(f"{name}.{key}", inner, depth - 1)
    return settings


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
