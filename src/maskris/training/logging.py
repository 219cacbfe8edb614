"""The measurements of a run: ``metrics.jsonl`` always, progress on stderr, TensorBoard on request."""

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from maskris.training.run_record import METRICS
from maskris.utils.files import atomic_file
from maskris.utils.progress import show_progress


class Tracker(ExitStack):
    """Writes the measurements of a run; use it as a context manager, which closes the files and the bar.

    Every line of ``metrics.jsonl`` is an object with ``event`` ("train" or "evaluate") and ``step``, the number of
    steps done. Values that are not finite are written as null.

    Args:
        folder: The run folder.
        step: Steps already done: later lines in the file are from a run that this one replaces, and are removed.
        total: Steps of the whole run.
        tensorboard: Write TensorBoard files to ``<folder>/tensorboard``.
        progress: Show a bar (on a terminal) or one line per measurement (elsewhere).
        active: ``False`` on all processes but the first: does nothing then.
        console: Where progress is shown; stderr by default.

    Raises:
        ImportError: If TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        step: int,
        total: int,
        tensorboard: bool = False,
        progress: bool = True,
        active: bool = True,
        console: Console | None = None,
    ) -> None:
        super().__init__()
        self.console = console or Console(stderr=True)
        self._shown, self._total = progress and active, total
        self._latest: dict[str, str] = {}
        self._file = self._board = None
        if active:
            truncate(folder / METRICS, step)
            self._file = self.enter_context((folder / METRICS).open("a", encoding="utf-8"))
            if tensorboard:
                self._board = self.enter_context(_summary_writer(folder / "tensorboard", step))
        bar = show_progress("training", total, done=step, shown=self._shown, keep=True, console=self.console)
        self._progress = self.enter_context(bar)

    def advance(self, step: int) -> None:
        """Move the bar."""
        self._progress.move_to(step)

    def say(self, message: str) -> None:
        """Show a message above the bar."""
        if self._shown:
            self.console.print(message, highlight=False, markup=False, soft_wrap=True)  # paths stay whole

    def train(self, step: int, epoch: float, losses: Mapping[str, float], **values: float | int) -> None:
        """Log one measurement of the training, after `step` steps, which are `epoch` passes over the data.

        The losses are means since the last measurement, by the names of `Strategy.terms`; the other values are ``lr``,
        ``grad_norm``, ``expressions_per_second`` and the like.
        """
        total = sum(losses.values())
        self._write("train", step, {"epoch": round(epoch, 6), "loss": total, "losses": dict(losses), **values})
        note = {"loss": f"{total:.4f}", "lr": f"{values.get('lr', 0):.2e}"}
        if "expressions_per_second" in values:
            note["rate"] = f"{values['expressions_per_second']:.0f} expr/s"
        self._note(step, note)

    def evaluate(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log one evaluation; the progress bar shows its oIoU and mIoU from then on."""
        numbers = {key: value for key, value in metrics.items() if isinstance(value, (int, float, str))}
        self._write("evaluate", step, {"metrics": numbers})
        self._note(step, {key: f"{numbers[key]:.4g}" for key in ("oIoU", "mIoU") if key in numbers})

    def _note(self, step: int, values: dict[str, str]) -> None:
        self._latest |= values
        text = "  ".join(f"{key} {value}" for key, value in self._latest.items())
        self._progress.note(text)
        if not self.console.is_terminal:
            self.say(f"step {step}/{self._total}  {text}")

    def _write(self, event: str, step: int, values: dict[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps({"event": event, "step": step, **_finite(values)}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in _scalars(values, event).items():
                self._board.add_scalar(name, value, step)


def truncate(path: Path, step: int) -> None:
    """Remove the lines after `step` from a metrics file, and a last line that a kill cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    with atomic_file(path) as file:
        file.write("".join(kept))


def _finite(value: Any) -> Any:
    """The value with null in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scalars(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """The numbers of nested values under names such as ``train/losses/clean``."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _scalars(value, f"{prefix}/{key}")
        elif isinstance(value, (int, float)):
            found[f"{prefix}/{key}"] = float(value)
    return found


def _summary_writer(folder: Path, step: int) -> Any:
    # Not through accelerate's trackers: those that are ended by it end the group of processes too.
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("TensorBoard is not installed; run: pip install 'maskris[tensorboard]'") from error
    return SummaryWriter(str(folder), purge_step=step + 1)
