"""The folder of a run: whether it may be used, what to continue from, and what is written when."""

import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.optim import Optimizer

from maskris.data.dataset import ReferringDataset
from maskris.models.base import RISModel
from maskris.models.folder import BEST, LAST
from maskris.strategies.base import Strategy
from maskris.training.checkpoint import CheckpointError, load_checkpoint, load_state, save_checkpoint
from maskris.training.config import TrainingConfig
from maskris.training.run_record import METRICS
from maskris.utils.files import atomic_file, atomic_folder, recover_folder
from maskris.utils.runstore import FolderInUseError, lock_folder, require_same_run

LOCK_SECONDS = 10.0


@dataclass
class Window:
    """Sums over the steps since the last line of the log; in the checkpoint, so that a resumed run logs the same."""

    steps: int = 0
    losses: list[float] = field(default_factory=list)  # per term
    norm: float = 0.0  # of the gradients before clipping, where it was finite
    norms: int = 0  # steps in which it was
    expressions: float = 0.0  # over all processes
    seconds: float = 0.0  # without evaluating and saving

    def add(self, losses: Sequence[float], norm: float, expressions: float, seconds: float) -> None:
        """Add a step."""
        self.losses = [a + b for a, b in zip(self.losses or [0.0] * len(losses), losses, strict=True)]
        if math.isfinite(norm):
            self.norm += norm
            self.norms += 1
        self.steps += 1
        self.expressions += expressions
        self.seconds += seconds

    def means(self) -> tuple[list[float], float, float]:
        """The mean losses, the mean gradient norm, and the expressions per second."""
        norm = self.norm / self.norms if self.norms else math.nan
        return [value / self.steps for value in self.losses], norm, self.expressions / self.seconds


@dataclass
class RunState:
    """The counters of a run."""

    step: int = 0  # steps done
    skipped: int = 0  # those of them that fp16's gradient scaler skipped
    evaluated: int = -1  # step of the latest evaluation; -1 before the first
    metrics: dict[str, Any] = field(default_factory=dict)  # what it measured
    best: float | None = None  # highest value so far of the metric that decides
    window: Window = field(default_factory=Window)  # what has not been logged yet

    def improves(self, metric: str) -> bool:
        """Whether the latest evaluation is the best so far; notes it if so.

        Raises:
            KeyError: If it did not measure `metric`.
        """
        if metric not in self.metrics:
            raise KeyError(f"best_metric = {metric!r} is not measured; choose one of {', '.join(self.metrics)}")
        value = float(self.metrics[metric])
        if math.isnan(value) or (self.best is not None and value <= self.best):
            return False
        self.best = value
        return True

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunState":
        """The inverse of `dataclasses.asdict`; other keys are ignored."""
        known = {one.name: values[one.name] for one in fields(cls)}
        return cls(**known | {"window": Window(**values["window"])})


class RunFolder:
    """Reads and writes the folder of a run; with several processes, all call it and the first one writes.

    The `identity` is everything that determines the results, see `identity_of`.
    """

    def __init__(
        self,
        path: Path,
        accelerator: Accelerator,
        model: RISModel,
        optimizer: Optimizer,
        strategy: Strategy,
        identity: dict[str, Any],
    ) -> None:
        self.path, self.last, self.best = path, path / LAST, path / BEST
        self._accelerator, self._identity = accelerator, identity
        self._model, self._optimizer, self._strategy = model, optimizer, strategy

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other trainings out of the folder while the block lasts; a killed process keeps nobody out.

        Raises:
            FolderInUseError: In all processes, if another training is at work in it.
        """
        with ExitStack() as stack:
            refused: list[str] = []
            if self._accelerator.is_main_process:
                try:
                    stack.enter_context(lock_folder(self.path, LOCK_SECONDS))
                except FolderInUseError as error:
                    refused.append(str(error))
            if refused := gather_object(refused):
                raise FolderInUseError(refused[0])
            yield

    def start(self, resume: str | Path) -> Path | None:
        """Prepare the folder; the checkpoint to `resume` from (see `Trainer.fit`), or ``None`` for a new run.

        Raises:
            CheckpointError: If another run would be overwritten, or there is no such checkpoint.
        """
        if self._accelerator.is_main_process:
            recover_folder(self.last)
            recover_folder(self.best)
        self._accelerator.wait_for_everyone()
        if resume == "auto":
            return self.last if self.last.exists() else None
        source = None
        if resume != "never":
            source = Path(resume) / LAST if (Path(resume) / LAST).is_dir() else Path(resume)
            if not source.is_dir():
                raise CheckpointError(f"There is no checkpoint {source}; resume is auto, never or a folder")
        found = [name for name in (LAST, BEST, METRICS) if (self.path / name).exists()]
        if found and (source is None or source.resolve() != self.last.resolve()):
            raise CheckpointError(
                f"{self.path} already holds a run ({', '.join(found)}); continue it with resume = auto, or choose "
                "another folder"
            )
        return source

    def load(self, source: Path) -> RunState:
        """Restore everything as it was when `source` was written.

        Raises:
            OtherRunError: If it belongs to another run; names every setting that differs, with both values.
            CheckpointError: If it can't be continued.
        """
        values = load_state(source)
        advice = (
            "Continue with the old values, or start a new run in another folder; training.init_from takes over "
            "weights alone"
        )
        require_same_run(source, values["run"], self._identity, advice=advice)
        load_checkpoint(source, self._model, self._optimizer, self._strategy)
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(values["scaler"])
        return RunState.from_dict(values)

    def write(self, files: Mapping[str, str]) -> None:
        """Write text files by their names."""
        if self._accelerator.is_main_process:
            for name, text in files.items():
                with atomic_file(self.path / name) as file:
                    file.write(text)

    def save_last(self, state: RunState) -> None:
        """Write ``last``."""
        if self._accelerator.is_main_process:
            scaler = self._accelerator.scaler
            packages = {name: version(name) for name in ("maskris", "torch", "transformers", "accelerate")}
            values = {
                **asdict(state),
                "scaler": None if scaler is None else scaler.state_dict(),
                "run": self._identity,
                "versions": {"python": platform.python_version(), **packages},
            }
            save_checkpoint(self.last, self._model, self._optimizer, self._strategy, values)
        self._accelerator.wait_for_everyone()

    def save_best(self) -> None:
        """Write ``best``."""
        if self._accelerator.is_main_process:
            with atomic_folder(self.best) as new:
                self._model.save_pretrained(new)
        self._accelerator.wait_for_everyone()


def identity_of(
    config: TrainingConfig, model: RISModel, strategy: Strategy, train: ReferringDataset, processes: int
) -> dict[str, Any]:
    """Everything that determines the results of a run, under names for messages.

    The number of processes is among them, because each draws masks and dropout of its own; of the training data, its
    length, augmentations, decoding and negatives.
    """
    settings = _settings("strategy", strategy)
    for i, augmentation in enumerate(getattr(train, "augment", ())):
        settings |= _settings(f"augment.{i}", augmentation)
    if getattr(train, "reduced_decoding", False):
        settings["reduced_decoding"] = True
    if getattr(train, "negatives", 0):
        settings["negatives"] = train.negatives
    return {
        **config.identity(),
        "items": len(train),
        "processes": processes,
        **_pseudo_masks(train),
        "model": type(model).__name__,
        **{f"model.{key}": value for key, value in getattr(model, "config", {}).items()},
        **settings,
    }


def _pseudo_masks(train: ReferringDataset) -> dict[str, Any]:
    """How many masks of the training data were made by models, and by which; nothing where there are none."""
    table = getattr(train, "table", None)
    if table is None or not (made := table.column("mask_source").count("pseudo")):
        return {}
    return {"pseudo_masks": made, "mask_origins": sorted(set(table.column("mask_origin")) - {""})}


def _settings(name: str, value: Any, depth: int = 2) -> dict[str, Any]:
    """A setting as it is; an object as its class and its own settings."""
    if _is_plain(value):
        return {name: value}
    settings = {name: type(value).__name__}
    if depth and hasattr(value, "__dict__"):
        for key, inner in vars(value).items():
            if not key.startswith("_"):  # those are how it works, not what it does
                settings |= _settings(f"{name}.{key}", inner, depth - 1)
    return settings


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
