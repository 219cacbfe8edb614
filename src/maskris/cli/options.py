"""Options that several commands share, each declared once; a command takes them as one parameter."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskris.evaluation.protocol import PRESETS
from maskris.utils.process import Precision

MetricName = Literal["mIoU", "oIoU"]
"""The metrics that tables of several models compare."""

if TYPE_CHECKING:
    import torch

    from maskris.data.table import ReferringTable
    from maskris.inference.predictor import Predictor
    from maskris.models.base import RISModel

    ProtocolName = str
else:
    ProtocolName = Literal[tuple(PRESETS)]
    """The presets of protocols."""


@dataclass(frozen=True)
class ModelOptions:
    """How a model is loaded and run.

    Args:
        model_class: Class of a model of your own, such as my_module.MyModel.
        device: Such as cuda or cpu; the fastest by default.
        precision: Numbers in which the network computes.
        batch_size: Most expressions at once.
    """

    model_class: str | None = None
    device: str | None = None
    precision: Precision = "fp32"
    batch_size: int = 32

    def load(self, checkpoint: str | Path) -> "RISModel":
        """The model of a run folder, a model folder, a released name or a Hub id."""
        from maskris.models.loading import load_model

        return load_model(checkpoint, self.model_class)

    def predictor(self, checkpoint: str | Path) -> "Predictor":
        """The model, ready for photos and phrases."""
        from maskris.inference.predictor import Predictor

        options: dict[str, Any] = {"precision": self.precision, "batch_size": self.batch_size}
        return Predictor.from_pretrained(checkpoint, device=self.device, model_class=self.model_class, **options)

    def evaluation(self) -> dict[str, Any]:
        """Arguments of `evaluate`; the processes that torchrun started find each other."""
        return {"batch_size": self.batch_size, "device": self.place(), "precision": self.precision}

    def place(self) -> "torch.device | str":
        """Where this process computes."""
        from maskris.utils.process import fastest_device, join_processes

        return join_processes(self.device) or self.device or fastest_device()


@dataclass(frozen=True)
class DataOptions:
    """What a model is evaluated on.

    Args:
        data: Parquet files written by `maskris prepare`.
        splits: Splits to evaluate; all but train by default.
        workers: Processes or threads that load images.
        reduced_decoding: Decode large JPEGs at a reduced size, as training with data.reduced_decoding does.
    """

    data: list[Path] | None = None
    splits: list[str] | None = None
    workers: int = 2
    reduced_decoding: bool = False

    def table(self) -> "ReferringTable":
        """The chosen splits of the files."""
        from maskris.data.table import choose_splits, open_tables

        return choose_splits(open_tables(self.data or []), self.splits, "--splits")

    def evaluation(self) -> dict[str, Any]:
        """Arguments of `evaluate`."""
        return {"workers": self.workers, "reduced_decoding": self.reduced_decoding}


@dataclass(frozen=True)
class RequiredDataOptions(DataOptions):
    """`DataOptions` of a command that can't do without data."""

    data: list[Path] = field()


@dataclass(frozen=True)
class IntervalOptions:
    """How intervals are drawn.

    Args:
        interval_unit: What is drawn again for intervals: expressions, or all those about an image or a referent
            together.
        resamples: How often the data are drawn again for intervals.
    """

    interval_unit: Literal["expression", "image", "referent"] = "image"
    resamples: int = 2000
