"""`evaluate`: run a model over a table, each image encoded once for all of its expressions."""

from collections import Counter
from dataclasses import replace
from itertools import groupby
from math import nan
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.utils.data import DataLoader

from maskris.batch import Batch
from maskris.data.dataset import ReferringDataset, evaluation_loader
from maskris.data.preprocess import Preprocess
from maskris.data.sampler import EvaluationBatches
from maskris.data.table import ReferringTable
from maskris.evaluation.binarization import binarize, point
from maskris.evaluation.metrics import Counts, Floats, Integers, Outcomes, count, metrics_of
from maskris.evaluation.perturbation import Origin, Perturbation, describe
from maskris.evaluation.protocol import Protocol
from maskris.evaluation.result import COUNTS, POINTING, SCHEMA, Evaluation
from maskris.models.base import RISModel, evaluation_mode, foreground_logit
from maskris.utils.process import Precision
from maskris.utils.progress import show_progress

if TYPE_CHECKING:
    from accelerate import Accelerator

_PER_REFERENT = ["dataset", "split_by", "split", "image_id", "ref_id", "ann_id", "category", "area", "height", "width"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_PIXELS_AT_ONCE = 2**26  # of probability maps at the photos' size: 256 MiB of float32


@torch.no_grad()  # not inference_mode: what a model caches meanwhile must still serve its training
def evaluate(
    model: RISModel,
    table: ReferringTable,
    protocol: Protocol | str = "maskris",
    *,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    precision: Precision = "fp32",
    workers: int = 0,
    reduced_decoding: bool = False,
    perturb: Perturbation | None = None,
    progress: bool = True,
    accelerator: "Accelerator | None" = None,
    name: str | None = None,
) -> Evaluation:
    """Evaluate a model on every expression of a table.

    The result depends neither on `workers` nor the number of processes, and on `batch_size` by no more than the
    rounding of floats, which now and then turns a pixel whose probability lies at the threshold. Where
    torch.distributed runs (torchrun, accelerate), all processes must call this; they share the images, and each
    returns the whole result.

    Args:
        model: Any model; it is evaluated in ``eval()`` mode and each of its modules gets its mode back.
        table: What to evaluate on, for example ``table.split(["val", "testA"])``; breakdowns separate the splits.
        protocol: A protocol or the name of a preset.
        batch_size: Most expressions at once.
        device: Where to compute; the model is moved there. By default where the accelerator or the model is.
        precision: ``"bf16"`` and ``"fp16"`` run the network under autocast; probabilities are float32 in any case.
        workers: Processes that load images.
        reduced_decoding: Decode large JPEGs at a reduced size, see `ReferringDataset`; changes pixels slightly.
        perturb: A change of images and words before they reach the model, for example a `PatchOcclusion`.
        progress: Show a progress bar (on the first process).
        accelerator: Only its device is used.
        name: Name of the model for the report, for example the checkpoint's path.

    Raises:
        ValueError: If the protocol or the precision is unknown, `batch_size` is not positive, the mask of some
            referent is not known, `perturb` loses expressions, or the protocol enlarges maps directly and the model
            doesn't stretch its photos.
    """
    protocol = Protocol.of(protocol)
    direct = protocol.enlarge == "direct"
    if direct and model.preprocess.resize != "stretch":
        raise ValueError(
            f"The protocol {protocol.name} brings maps from the model's stride straight to the photo, for models that "
            f"stretch theirs; this one has a {model.preprocess.resize}: choose another protocol, or enlarge='input'"
        )
    if precision != "fp32" and precision not in _DTYPES:
        raise ValueError(f"precision must be fp32, bf16 or fp16, not {precision!r}")
    check_truth(table)
    if device is None:
        device = next(model.parameters(), torch.empty(0)).device if accelerator is None else accelerator.device
    device = torch.device(device)
    model.to(device)
    rank, world_size = processes()
    at_input = protocol.resolution == "input"
    truncated = 0
    loader: DataLoader[Any] | list[Any] = []
    if table.num_expressions:
        masks = at_input or perturb is not None  # a perturbation may depend on the referent
        dataset = ReferringDataset(
            table, model.preprocess, model.tokenizer, training=False, masks=masks, reduced_decoding=reduced_decoding
        )
        truncated = dataset.count_truncated()[0]
        batches = EvaluationBatches(dataset.expressions_per_image, batch_size, rank, world_size)
        loader = evaluation_loader(dataset, batches, workers)
    parts: list[Floats] = []
    bar = show_progress("evaluating", len(loader), shown=progress and rank == 0)
    with evaluation_mode(model), bar as shown:
        for batch in loader:
            assert batch.expression_id is not None
            where = batch.expression_id.numpy()  # [N, 2]
            if perturb is not None:
                changed = perturb(batch, Origin.of(batch, table, model))
                if len(changed) != len(batch):
                    raise ValueError(
                        f"{perturb!r} made {len(changed)} expressions of {len(batch)}; every one must stay in its place"
                    )
                batch = changed
            batch = batch.to(device, non_blocking=True)
            with torch.autocast(device.type, _DTYPES.get(precision), enabled=precision != "fp32"):
                logits = model(batch)
            # What decides each pixel; one map is resized, not two channels.
            maps = foreground_logit(logits.float())  # [N, h, w]
            if not direct:
                maps = model.upsample(maps[:, None], model.preprocess.size)[:, 0]  # [N, H, W]
            if at_input:
                measured = _at_input(protocol, maps, batch)
            else:
                measured = _at_original(protocol, maps, model.preprocess, table, where[:, 0])
            parts.append(np.column_stack([where, *(values.cpu().numpy() for values in measured)]))
            shown.advance()
    settings = {
        "precision": precision,
        "perturbation": describe(perturb),
        "truncated": truncated,
        "reduced_decoding": reduced_decoding,
    }
    rows = rows_of(table, protocol, _gather(parts))
    return Evaluation(rows, protocol, _describe_model(model, name), describe_data(table), settings)


def check_truth(table: ReferringTable) -> None:
    """Raise a `ValueError` if the mask of some referent is not known."""
    if unknown := [row for row, source in enumerate(table.column("mask_source")) if source == "none"]:
        raise ValueError(
            f"{len(unknown)} referents have no mask to compare with (mask_source 'none'), the first in row "
            f"{unknown[0]} (ref_id {table.row(unknown[0]).ref_id}); leave them out with table.take(...)"
        )


Measured = tuple[Tensor, Tensor, Tensor]
"""Of `N` expressions: counts ``[N, 5]``, scores ``[N]``, whether the peak is on the mask and in its box ``[N, 2]``."""


def _at_input(protocol: Protocol, scores: Tensor, batch: Batch) -> Measured:
    """What `_compare` measures at the model's input size, of scores ``[N, H, W]``."""
    assert batch.masks is not None
    probability = scores.sigmoid()
    # The sign of the score, because the sigmoid of a tiny positive number rounds to 0.5.
    rule = replace(protocol, map="score") if protocol.binarization == "argmax" else protocol
    mask = binarize(scores if rule.map == "score" else probability, rule)
    truth = batch.masks > 0.5  # a letterbox has masks with soft outlines
    return _compare(protocol, mask, probability, truth, scores if protocol.pointing else None)


def _at_original(
    protocol: Protocol, scores: Tensor, preprocess: Preprocess, table: ReferringTable, rows: Integers
) -> Measured:
    """What `_compare` measures at the size of each expression's photo, against the exact mask."""
    by_score = protocol.map == "score"
    maps = scores if by_score else scores.sigmoid()
    measured: list[Measured] = []
    # The expressions of one referent, neighbors in the batch, share photo and mask.
    for row, group in groupby(enumerate(rows.tolist()), key=itemgetter(1)):
        target = torch.from_numpy(table.mask(row)).to(maps.device)  # [h, w]
        size = (target.shape[0], target.shape[1])
        for some in torch.tensor([i for i, _ in group]).split(max(1, _PIXELS_AT_ONCE // target.numel())):
            some = some.to(maps.device)
            photo = _enlarge(protocol, maps[some], preprocess, size, probabilities=not by_score)  # [n, h, w]
            peaks = photo if protocol.pointing else None
            if protocol.pointing and not by_score:
                peaks = _enlarge(protocol, scores[some], preprocess, size, probabilities=False)
            probability = photo.sigmoid() if by_score else photo
            measured.append(
                _compare(protocol, binarize(photo, protocol), probability, target.expand(photo.shape), peaks)
            )
    counts, found, pointing = zip(*measured, strict=True)
    return torch.cat(counts), torch.cat(found), torch.cat(pointing)


def _enlarge(
    protocol: Protocol, maps: Tensor, preprocess: Preprocess, size: tuple[int, int], probabilities: bool
) -> Tensor:
    """Maps ``[n, h, w]`` at the photo's size."""
    if protocol.enlarge == "direct":
        return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=protocol.align_corners)[:, 0]
    return preprocess.restore(maps, size, align_corners=protocol.align_corners, probabilities=probabilities)


def _compare(protocol: Protocol, mask: Tensor, probability: Tensor, target: Tensor, peaks: Tensor | None) -> Measured:
    if protocol.minimum_pixels:
        mask = mask & (mask.sum((1, 2)) >= protocol.minimum_pixels).view(-1, 1, 1)
    score = (probability * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
    pointing = score.new_full((len(mask), 2), nan) if peaks is None else point(peaks, target)
    return count(mask, target), score, pointing


def _gather(parts: list[Floats]) -> Floats:
    """Results of all processes in the table's order ``[N, 10]``: row, number of the expression, what was measured."""
    if (world_size := processes()[1]) > 1:
        everyone: list[Any] = [None] * world_size
        distributed.all_gather_object(everyone, parts)
        parts = [part for some in everyone for part in some]
    found = np.concatenate([np.zeros((0, 10)), *parts])
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def rows_of(table: ReferringTable, protocol: Protocol, measured: Floats) -> pa.Table:
    """`Evaluation.rows`: what is known of each expression beside what was measured.

    Args:
        table: What was evaluated on.
        protocol: How predictions were compared.
        measured: ``[N, 10]`` in the table's order: row, number of the expression, the five `Counts`, the score, and
            whether the peak is on the mask and in its box; NaN where there is no score or peak.

    Raises:
        RuntimeError: If these are not all expressions of the table.
    """
    where, counts = measured[:, :2].astype(np.int64), Counts(*measured[:, 2:7].astype(np.int64).T)
    if len(where) != table.num_expressions or len(np.unique(where, axis=0)) != len(where):
        raise RuntimeError(
            f"The table has {table.num_expressions} expressions, but {len(where)} results came back "
            f"({len(np.unique(where, axis=0))} different ones); do all processes use the same table?"
        )
    # Complete and in the table's order, so the flattened lists of the table line up with the results.
    known = table.arrow.select(_PER_REFERENT).take(pa.array(where[:, 0]))
    expressions = pc.list_flatten(table.arrow["expressions"])
    area = known["area"].to_numpy()
    iou, averaged = metrics_of(protocol)["mIoU"].columns(Outcomes(counts, area > 0, protocol))
    columns = {
        **dict(zip(_PER_REFERENT, known.columns, strict=True)),
        "number": where[:, 1],
        "expression": expressions,
        "kind": pc.list_flatten(table.arrow["kinds"]),
        "words": [len(expression.split()) for expression in expressions.to_pylist()],
        "target_area": area,
        "relative_size": area / np.maximum(known["height"].to_numpy().astype(np.int64) * known["width"].to_numpy(), 1),
        **dict(zip(COUNTS, vars(counts).values(), strict=True)),
        "union": counts.union,
        "iou": pa.array(iou, mask=averaged == 0),
        "box_iou": counts.box_iou,
        "score": pa.array(measured[:, 7], from_pandas=True),
        **{name: pa.array(measured[:, 8 + i], from_pandas=True) for i, name in enumerate(POINTING)},
    }
    return pa.table(columns).select(SCHEMA.names).cast(SCHEMA)


def _describe_model(model: RISModel, name: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "class": type(model).__name__,
        "config": getattr(model, "config", None),
        "input_size": list(model.preprocess.size),
        "preprocess": model.preprocess.to_dict(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def describe_data(table: ReferringTable) -> dict[str, Any]:
    """`Evaluation.data` of a table."""
    sources = table.arrow.group_by(["source", "source_sha256"], use_threads=False).aggregate([([], "count_all")])
    return {
        "referents": len(table),
        "expressions": table.num_expressions,
        "mask_sources": dict(Counter(table.column("mask_source"))),
        "mask_origins": sorted(set(table.column("mask_origin")) - {""}),
        "texts": sorted(set(table.column("text")) - {""}),
        "sources": [
            {"source": row["source"], "sha256": row["source_sha256"], "referents": row["count_all"]}
            for row in sources.to_pylist()
        ],
    }


def processes() -> tuple[int, int]:
    """The number of this process, from 0, and of all processes of torch.distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
