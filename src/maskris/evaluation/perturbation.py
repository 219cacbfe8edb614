"""`Perturbation`: a change of the inputs before `evaluate` gives them to a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Protocol

from maskris.batch import Batch
from maskris.data.preprocess import Preprocess
from maskris.data.table import ReferringTable
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.models.base import RISModel


@dataclass(frozen=True)
class Origin:
    """Where a batch of `I` images and `N` expressions comes from, and how its model prepares inputs.

    Draws that depend on these numbers and a seed alone are the same in every batch and on every process.

    Attributes:
        image_ids: `I` numbers of the images in their source.
        ref_ids: `N` numbers of the referents in their source.
        numbers: `N` numbers of the expressions within their referents, from 0.
        expressions: `N` sentences.
        preprocess: Of the model.
        tokenizer: Of the model.
    """

    image_ids: Sequence[int]
    ref_ids: Sequence[int]
    numbers: Sequence[int]
    expressions: Sequence[str]
    preprocess: Preprocess
    tokenizer: ExpressionTokenizer

    @classmethod
    def of(cls, batch: Batch, table: ReferringTable, model: RISModel) -> "Origin":
        """The origin of a batch that was loaded from a table; images without an expression don't occur.

        Raises:
            ValueError: If the batch has no `expression_id`.
        """
        if batch.expression_id is None:
            raise ValueError("The batch has no expression_id: it wasn't made by a ReferringDataset")
        rows, numbers = batch.expression_id[:, 0].tolist(), batch.expression_id[:, 1].tolist()
        row_of = dict(zip(batch.image_index.tolist(), rows, strict=True))
        known = {row: table.row(row) for row in set(rows)}
        return cls(
            image_ids=[known[row_of[i]].image_id for i in range(len(batch.images))],
            ref_ids=[known[row].ref_id for row in rows],
            numbers=numbers,
            expressions=[known[row].expressions[number] for row, number in zip(rows, numbers, strict=True)],
            preprocess=model.preprocess,
            tokenizer=model.tokenizer,
        )


class Perturbation(Protocol):
    """A change of a batch on the CPU, with uint8 images, to one with the same `N` expressions in the same order.

    Anything else may change: images, also their number and `image_index`, so that every expression can get a picture of
    its own, token ids, and masks. ``repr`` should say what it does (a function is known by its name): reports print it,
    and it tells two results apart. Shipped ones are in `maskris.robustness`.
    """

    def __call__(self, batch: Batch, origin: Origin, /) -> Batch:
        """The changed batch."""


def describe(perturb: Perturbation | None) -> str | None:
    """A perturbation as results name it: its ``repr``, or where a function is defined."""
    if isinstance(perturb, FunctionType):
        return f"{perturb.__module__}.{perturb.__qualname__}"
    return None if perturb is None else repr(perturb)
