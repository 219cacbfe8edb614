"""Which items make up which batch, as a pure function of seed, step and rank.

Nothing here has state to save: a run that stops after step `s` continues with ``start_step=s``, and the number of
worker processes is irrelevant because a batch names its items and their epoch.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from maskris.utils.rng import numpy_generator

TrainingItem = tuple[int, int]
"""Epoch and number of the item: the key of a training item in `ReferringDataset`."""

EvaluationItem = int | tuple[int, int, int]
"""Number of an image, or ``(image, start, stop)`` for some of its expressions; a key of an evaluation data set."""


class TrainingBatches:
    """An endless sequence of batches; every epoch visits the items in a new order.

    The batch of all ranks together is a contiguous piece of the epoch's order, and each rank takes a contiguous piece
    of that: one process with batch size B has the batches of two with B / 2. The last items of an epoch are dropped
    where they don't fill a batch; in the next epoch they are others.

    Args:
        length: Number of items, ``len(dataset)``.
        batch_size: Items in a batch of one rank.
        seed: The order of epoch e is a function of ``(seed, e)``.
        rank: Number of this process.
        world_size: Number of processes.
        start_step: Batches to skip that belong to an earlier part of the run (per rank; a gradient accumulated over `a`
            batches counts as `a`).

    Raises:
        ValueError: If the numbers contradict each other, or one batch of all ranks needs more items than there are.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1, start_step: int = 0
    ) -> None:
        _check_rank(rank, world_size)
        if batch_size < 1 or start_step < 0:
            raise ValueError(f"batch_size must be positive and start_step at least 0, not {batch_size}, {start_step}")
        if length < batch_size * world_size:
            raise ValueError(
                f"One batch needs {batch_size} x {world_size} = {batch_size * world_size} items, but there are only "
                f"{length}; choose a batch size of at most {length // world_size}"
            )
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start_step = start_step

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one rank in an epoch."""
        return self.length // (self.batch_size * self.world_size)

    def order(self, epoch: int) -> np.ndarray:
        """The items in the order of one epoch, those at the end that are dropped included: ``[length]`` int64."""
        # Philox's raw stream is fixed for all versions of NumPy; that of Generator.permutation is not (NEP 19).
        noise = numpy_generator(self.seed, "order", epoch).bit_generator.random_raw(self.length)
        return np.argsort(noise, kind="stable")

    def __iter__(self) -> Iterator[list[TrainingItem]]:
        epoch, step = divmod(self.start_step, self.steps_per_epoch)
        while True:
            order = self.order(epoch)
            for first in range(step * self.world_size, self.steps_per_epoch * self.world_size, self.world_size):
                start = (first + self.rank) * self.batch_size
                yield [(epoch, item) for item in order[start : start + self.batch_size].tolist()]
            epoch, step = epoch + 1, 0


class EvaluationBatches:
    """Batches that visit every expression exactly once, the expressions of an image together.

    Images are packed in their order until the next one would bring a batch over `max_expressions`. An image that alone
    has more is split, and its parts are batches of their own. Ranks share the batches without padding or duplicates, so
    one rank may have a batch more than another, or none: a loop over them must not wait for other ranks in each step.

    Args:
        counts: Expressions of each image, ``dataset.expressions_per_image``.
        max_expressions: Most expressions in a batch.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        ValueError: If the numbers contradict each other.
    """

    def __init__(self, counts: Sequence[int], max_expressions: int, rank: int = 0, world_size: int = 1) -> None:
        _check_rank(rank, world_size)
        if max_expressions < 1:
            raise ValueError(f"A batch must hold at least one expression, not {max_expressions}")
        self.batches = list(_pack(counts, max_expressions))[rank::world_size]

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[EvaluationItem]]:
        return iter(self.batches)


def _pack(counts: Sequence[int], max_expressions: int) -> Iterator[list[EvaluationItem]]:
    batch: list[EvaluationItem] = []
    room = max_expressions
    for image, count in enumerate(counts):
        if count > max_expressions:
            for start in range(0, count, max_expressions):
                yield [(image, start, min(start + max_expressions, count))]
        elif count > 0:
            if count > room:
                yield batch
                batch, room = [], max_expressions
            batch.append(image)
            room -= count
    if batch:
        yield batch


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, world_size), not {rank} with world_size = {world_size}")
