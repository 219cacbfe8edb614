"""`evaluate`: run a model over a table, each image encoded once for all of its expressions."""

from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader

from maskris.batch import Batch
from maskris.data.dataset import ReferringDataset, evaluation_loader
from maskris.data.preprocess import Preprocess
from maskris.data.sampler import EvaluationBatches
from maskris.data.table import ReferringTable
from maskris.evaluation.metrics import Counts, Floats, Integers, Outcomes, count, metrics_of
from maskris.evaluation.perturbation import Origin, Perturbation, describe
from maskris.evaluation.protocol import Protocol
from maskris.evaluation.result import COUNTS, SCHEMA, Evaluation
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
            referent is not known, or `perturb` loses expressions.
    """
    protocol = Protocol.of(protocol)
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
            maps = model.upsample(foreground_logit(logits.float())[:, None], model.preprocess.size)[:, 0]  # [N, H, W]
            if at_input:
                counts, scores = _at_input(protocol, maps, batch)
            else:
                counts, scores = _at_original(protocol, maps, model.preprocess, table, where[:, 0])
            parts.append(np.column_stack([where, counts.cpu().numpy(), scores.cpu().numpy()]))
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


def _at_input(protocol: Protocol, maps: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Counts ``[N, 5]`` and scores ``[N]`` at the model's input size."""
    assert batch.masks is not None
    probability = maps.sigmoid()
    # The sign of the logit, because the sigmoid of a tiny positive number rounds to 0.5.
    mask = maps > 0 if protocol.binarization == "argmax" else probability > protocol.threshold
    return _compare(protocol, mask, probability, batch.masks > 0.5)  # a letterbox has masks with soft outlines


def _at_original(
    protocol: Protocol, maps: Tensor, preprocess: Preprocess, table: ReferringTable, rows: Integers
) -> tuple[Tensor, Tensor]:
    """Counts ``[N, 5]`` and scores ``[N]`` at the size of each expression's photo, against the exact mask."""
    probability = maps.sigmoid()
    threshold = 0.5 if protocol.binarization == "argmax" else protocol.threshold
    counts, scores = [], []
    # The expressions of one referent, neighbors in the batch, share photo and mask.
    for row, group in groupby(zip(rows.tolist(), probability, strict=True), key=itemgetter(0)):
        target = torch.from_numpy(table.mask(row)).to(maps.device)  # [h, w]
        for part in torch.stack([one for _, one in group]).split(max(1, _PIXELS_AT_ONCE // target.numel())):
            photo = preprocess.restore(part, target.shape)  # [n, h, w]
            pair = _compare(protocol, photo > threshold, photo, target.expand(photo.shape))
            counts.append(pair[0])
            scores.append(pair[1])
    return torch.cat(counts), torch.cat(scores)


def _compare(protocol: Protocol, mask: Tensor, probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if protocol.minimum_pixels:
        mask = mask & (mask.sum((1, 2)) >= protocol.minimum_pixels).view(-1, 1, 1)
    score = (probability * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
    return count(mask, target), score


def _gather(parts: list[Floats]) -> Floats:
    """Results of all processes in the table's order ``[N, 8]``: row, number of the expression, counts, score."""
    if (world_size := processes()[1]) > 1:
        everyone: list[Any] = [None] * world_size
        distributed.all_gather_object(everyone, parts)
        parts = [part for some in everyone for part in some]
    found = np.concatenate([np.zeros((0, 8)), *parts])
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def rows_of(table: ReferringTable, protocol: Protocol, measured: Floats) -> pa.Table:
    """`Evaluation.rows`: what is known of each expression beside what was measured.

    Args:
        table: What was evaluated on.
        protocol: How predictions were compared.
        measured: ``[N, 8]`` in the table's order: row, number of the expression, the five `Counts`, and the score, NaN
            where there is none.

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
