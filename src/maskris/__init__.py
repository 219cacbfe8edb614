"""Referring image segmentation: a photo and a phrase in, the mask of what the phrase means out.

The public names are imported on first use, so that ``import maskris`` and the command line start at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from maskris.batch import Batch as Batch
    from maskris.data.dataset import ReferringDataset as ReferringDataset
    from maskris.data.table import ReferringTable as ReferringTable
    from maskris.evaluation.evaluate import evaluate as evaluate
    from maskris.evaluation.protocol import Protocol as Protocol
    from maskris.inference.predictor import Predictor as Predictor
    from maskris.models.base import RISModel as RISModel
    from maskris.models.caris.model import CARIS as CARIS
    from maskris.models.clipseg import CLIPSeg as CLIPSeg
    from maskris.models.cris.model import CRIS as CRIS
    from maskris.models.etris.model import ETRIS as ETRIS
    from maskris.models.lavt import LAVT as LAVT
    from maskris.strategies.maskris import MaskRIS as MaskRIS
    from maskris.strategies.supervised import Supervised as Supervised
    from maskris.training.trainer import Trainer as Trainer

_HOME = {
    "Batch": "maskris.batch",
    "CARIS": "maskris.models.caris.model",
    "CLIPSeg": "maskris.models.clipseg",
    "CRIS": "maskris.models.cris.model",
    "ETRIS": "maskris.models.etris.model",
    "LAVT": "maskris.models.lavt",
    "MaskRIS": "maskris.strategies.maskris",
    "Predictor": "maskris.inference.predictor",
    "Protocol": "maskris.evaluation.protocol",
    "RISModel": "maskris.models.base",
    "ReferringDataset": "maskris.data.dataset",
    "ReferringTable": "maskris.data.table",
    "Supervised": "maskris.strategies.supervised",
    "Trainer": "maskris.training.trainer",
    "evaluate": "maskris.evaluation.evaluate",
}

__all__ = [  # noqa: RUF022 (in the order of the work: data, models, methods, results)
    "Batch",
    "ReferringDataset",
    "ReferringTable",
    "RISModel",
    "CARIS",
    "LAVT",
    "CRIS",
    "ETRIS",
    "CLIPSeg",
    "Supervised",
    "MaskRIS",
    "Trainer",
    "Protocol",
    "evaluate",
    "Predictor",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'maskris' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
