"""What other libraries say of the same masks: ``python -m benchmarks.other_metrics`` prints the table of the docs.

The libraries are no dependencies of this package. An environment of its own has them:

    pip install torchmetrics==1.9.0 monai==1.6.1 segmentation-models-pytorch==0.6.0 supervision==0.31.2
        faster-coco-eval==1.8.0
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from maskris.cli.common import say
from maskris.data.masks import encode
from maskris.data.table import ReferringTable
from maskris.evaluation.scoring import score

Masks = np.ndarray
"""``[N, h, w]``, one plane for each expression."""


def ours(prediction: Masks, target: Masks, metric: str = "mIoU") -> float:
    """`maskris.score` under the protocol ``original``; a soft mask is cut at 0.5."""
    rows = [
        {"image": f"{i}.jpg", "expressions": ["x"], "mask": plane, "split": "val"} for i, plane in enumerate(target > 0)
    ]
    given = [{"image": f"{i}.jpg", "expression": "x", "mask": plane} for i, plane in enumerate(prediction)]
    soft = prediction.dtype.kind == "f"
    value = score(given, ReferringTable.from_rows(rows, "."), threshold=0.5 if soft else None).scores[metric]
    return float("nan") if value is None else value


def torchmetrics_jaccard(prediction: Masks, target: Masks) -> float:
    """``BinaryJaccardIndex``."""
    from torchmetrics.classification import BinaryJaccardIndex

    return float(BinaryJaccardIndex()(torch.from_numpy(prediction), torch.from_numpy(target)))


def torchmetrics_mean(prediction: Masks, target: Masks) -> float:
    """``segmentation.MeanIoU`` with its defaults, of one foreground class."""
    from torchmetrics.segmentation import MeanIoU

    metric = MeanIoU(num_classes=2, input_format="index")
    return float(metric(torch.from_numpy(prediction).long(), torch.from_numpy(target).long()))


def monai(prediction: Masks, target: Masks) -> float:
    """``compute_iou`` of one foreground channel, averaged; probabilities through ``AsDiscrete(threshold=0.5)``."""
    from monai.metrics import compute_iou
    from monai.transforms import AsDiscrete

    planes = torch.from_numpy(prediction)
    if planes.is_floating_point():
        planes = AsDiscrete(threshold=0.5)(planes)
    return float(compute_iou(planes[:, None].float(), torch.from_numpy(target)[:, None].float()).mean())


def smp(prediction: Masks, target: Masks, reduction: str = "micro-imagewise") -> float:
    """``iou_score`` of ``get_stats``, image by image."""
    from segmentation_models_pytorch.metrics import get_stats, iou_score

    planes = torch.from_numpy(prediction)[:, None]
    options = {"threshold": 0.5} if planes.is_floating_point() else {}
    stats = get_stats(
        planes if options else planes.long(), torch.from_numpy(target)[:, None].long(), "binary", **options
    )
    return float(iou_score(*stats, reduction=reduction))


def smp_micro(prediction: Masks, target: Masks) -> float:
    """The same over all pixels."""
    return smp(prediction, target, "micro")


def supervision(prediction: Masks, target: Masks) -> float:
    """``mask_iou_batch`` of each pair, averaged."""
    import supervision as sv

    pairs = zip(prediction, target, strict=True)
    return float(np.mean([sv.mask_iou_batch(truth[None], found[None])[0, 0] for found, truth in pairs]))


def coco_iou(prediction: Masks, target: Masks) -> float:
    """``mask.iou`` of faster-coco-eval of each pair, averaged."""
    from faster_coco_eval.core import mask

    pairs = zip(prediction, target, strict=True)
    return float(np.mean([mask.iou([_rle(found)], [_rle(truth)], [0])[0][0] for found, truth in pairs]))


def coco_ap(prediction: Masks, target: Masks) -> float:
    """AP of faster-coco-eval, all planes about one photo."""
    from faster_coco_eval import COCO, COCOeval_faster

    height, width = target.shape[1:]
    common = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    truth = [{**common, "id": i, "segmentation": _rle(one), "area": int((one > 0).sum()), "bbox": [0, 0, width, height]}
             for i, one in enumerate(target, start=1)]  # fmt: skip
    images = [{"id": 1, "height": height, "width": width, "file_name": "a.jpg"}]
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO({"images": images, "annotations": truth, "categories": [{"id": 1, "name": "referent"}]})
        found = data.loadRes([{**common, "segmentation": _rle(one), "score": 1.0} for one in prediction])
        run = COCOeval_faster(data, found, "segm")
        run.run()
    return float(run.stats_as_dict["AP_all"])


def _rle(plane: np.ndarray) -> dict[str, Any]:
    return {"size": list(plane.shape), "counts": encode(plane).decode()}


PROBABILITY = "probability 0.5"

MEASURES: dict[str, Callable[[Masks, Masks], float]] = {
    "maskris, mIoU": ours,
    "maskris, oIoU": lambda prediction, target: ours(prediction, target, "oIoU"),
    "torchmetrics, BinaryJaccardIndex": torchmetrics_jaccard,
    "torchmetrics, MeanIoU": torchmetrics_mean,
    "monai, compute_iou": monai,
    "smp, micro-imagewise": smp,
    "smp, micro": smp_micro,
    "supervision, mask_iou_batch": supervision,
    "faster-coco-eval, mask.iou": coco_iou,
    "faster-coco-eval, AP": coco_ap,
}


def plane(*pixels: int, size: int = 100) -> np.ndarray:
    """A mask ``[10, size / 10]`` with these pixels inside, as uint8."""
    mask = np.zeros(size, dtype=np.uint8)
    mask[list(pixels)] = 1
    return mask.reshape(10, -1)


def cases() -> dict[str, tuple[Masks, Masks]]:
    """Predictions and truths by what they show."""
    nothing, some, small = plane(), plane(*range(12)), plane(*range(4))
    whole, quarter = plane(*range(40)), plane(*range(10))
    left, right = plane(*range(30)), plane(*range(60, 90))
    half = (some / 2).astype(np.float32)
    return {
        "4 of 4 px and 10 of 40 px": (np.stack([small, quarter]), np.stack([small, whole])),
        "both empty": (nothing[None], nothing[None]),
        "truth empty": (some[None], nothing[None]),
        "none found": (nothing[None], some[None]),
        PROBABILITY: (half[None], some[None]),
        "0/255, equal": (some[None] * 255, some[None] * 255),
        "0/255 and 0/1": (some[None] * 255, some[None]),
        "10 x 10 and 10 x 9": (some[None], plane(*range(12), size=90)[None]),
        "exchanged": (np.stack([left, right]), np.stack([right, left])),
    }


def table() -> list[list[str]]:
    """Headings, and a row for each measure; libraries raise errors of many kinds."""
    rows = [["", *cases()]]
    for name, measure in MEASURES.items():
        row = [name]
        for case, pair in cases().items():
            if case == PROBABILITY and measure in (torchmetrics_mean, supervision, coco_iou, coco_ap):
                row.append("takes none")
                continue
            try:
                row.append(f"{measure(*pair):.3f}")
            except Exception:
                row.append("error")
        rows.append(row)
    return rows


def main() -> None:
    """Print versions and table as Markdown."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    names = ("torchmetrics", "monai", "segmentation-models-pytorch", "supervision", "faster-coco-eval")
    say(", ".join(f"{name} {version(name)}" for name in names) + "\n")
    heading, *rows = table()
    say("\n".join(["| " + " | ".join(row) + " |" for row in (heading, ["---"] * len(heading), *rows)]))


if __name__ == "__main__":
    main()
