"""Referents of a table as images, expressions and masks, and their batches."""

import math
import os
import random
import warnings
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, cycle, islice, zip_longest
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maskris.batch import Batch
from maskris.data.augment import Augmentation, Sample, apply_augmentations
from maskris.data.preprocess import Preprocess
from maskris.data.sampler import EvaluationItem, TrainingItem
from maskris.data.table import ReferringTable
from maskris.data.tokenizer import ExpressionTokenizer
from maskris.utils.process import usable_workers
from maskris.utils.rng import KeyedRandom, seed_of

T = TypeVar("T")


@dataclass(frozen=True)
class LoadedItem:
    """One image and some expressions about it, as tensors.

    Attributes:
        image: ``[3, H, W]`` uint8.
        expressions: ``n`` sentences.
        masks: ``[n, H, W]`` bool, or ``None`` with ``masks=False``.
        expression_id: ``[n, 2]`` int64, row of the table and number of the expression in it.
        negatives: For each expression as many others that don't fit it.
    """

    image: Tensor
    expressions: tuple[str, ...]
    masks: Tensor | None
    expression_id: Tensor
    negatives: tuple[tuple[str, ...], ...] = ()


class ReferringDataset(Dataset[LoadedItem]):
    """Images, expressions and masks of a table, for training or for evaluation.

    In training an item is a referent with one of its expressions, or, with ``referents_per_image = k > 1``, an image
    with `k` of its referents, whose vision encoding they share. An image with fewer gives further expressions of them
    before it repeats anything. With `kind_weights` each expression comes up as often as its weight says, within one, so
    that an item may repeat those of a rare kind. The draws are a function of ``(seed, epoch, item)``:
    ``dataset[epoch, i]``.

    In evaluation an item is an image with every expression of every referent on it: ``dataset[i]``, or some of them:
    ``dataset[i, start, stop]``. Nothing is drawn.

    Args:
        table: The referents; one split of a table, usually.
        preprocess: The model's preparation of images.
        tokenizer: The model's tokenizer.
        training: Draw expressions (training) or go through all of them (evaluation).
        seed: Seed of the draws.
        referents_per_image: Expressions per image in training, see above.
        kind_weights: In training, how often expressions of a kind are drawn relative to the others; 1 where a kind
            isn't named.
        masks: Load the ground truth.
        supervision: ``"boxes"`` gives the referents' boxes, filled, in place of their masks, which are not read then.
        cache_images: Keep resized images, masks and token ids in memory, which forked workers share. It takes ``3 H W``
            bytes per image and ``H W`` per referent (four times as much for soft outlines).
        augment: Augmentations in training, see `maskris.data.augment`; all expressions of an item share their draws.
        reduced_decoding: Decode JPEGs at a half, a quarter or an eighth of their size, where that is not below the
            model's input (COCO's 640 x 480 at 448 are never reduced). Faster for large photos; pixels differ slightly.
        negatives: Expressions drawn in training for each that don't fit it: of the photo's other referents in the table
            if there are any, else of any referent, and different from it. Drawn with replacement.

    Raises:
        ValueError: If the table is empty, a row has no expression, one that is to be trained on has no mask, or there
            are augmentations without training or without masks, negatives without training or with augmentations, or a
            weight is not positive.
    """

    def __init__(
        self,
        table: ReferringTable,
        preprocess: Preprocess,
        tokenizer: ExpressionTokenizer,
        *,
        training: bool,
        seed: int = 0,
        referents_per_image: int = 1,
        kind_weights: Mapping[str, float] | None = None,
        masks: bool = True,
        supervision: Literal["masks", "boxes"] = "masks",
        cache_images: bool = False,
        augment: Sequence[Augmentation] = (),
        reduced_decoding: bool = False,
        negatives: int = 0,
    ) -> None:
        if referents_per_image < 1:
            raise ValueError(f"referents_per_image must be at least 1, not {referents_per_image}")
        self.table = table
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self.training = training
        self.seed = seed
        self.referents_per_image = referents_per_image
        self.masks = masks
        self.supervision = supervision
        self.cache_images = cache_images
        self.augment = tuple(augment)
        self.reduced_decoding = reduced_decoding
        self.kind_weights = dict(kind_weights or {})
        self.negatives = negatives
        self._counts: list[int] = table.expressions_per_row.tolist()
        self._images: list[list[int]] = [rows.tolist() for rows in table.by_image()]
        self._image_of = {row: number for number, rows in enumerate(self._images) for row in rows}
        self._last = np.cumsum(self._counts)  # of each row, how many expressions there are up to it
        self._cache: dict[str, dict[Any, Any]] = {}  # by kind; bounded by the table
        self._weights = self._weigh() if training and self.kind_weights else []
        self._check()

    def _weigh(self) -> list[list[float]]:
        """The weight of each expression of each row."""
        if wrong := {kind: weight for kind, weight in self.kind_weights.items() if not 0 < weight < float("inf")}:
            raise ValueError(f"kind_weights must be positive numbers, not {wrong}")
        kinds = self.table.column("kinds")
        if missing := self.kind_weights.keys() - (known := {kind for row in kinds for kind in row}):
            warnings.warn(
                f"kind_weights names {', '.join(sorted(missing))}, but the table has no such expressions; its kinds "
                f"are {', '.join(sorted(known - {''})) or 'unknown'}",
                stacklevel=3,
            )
        return [[self.kind_weights.get(kind, 1.0) for kind in row] for row in kinds]

    def _check(self) -> None:
        if len(self.table) == 0:
            raise ValueError("The table has no rows; does the split exist that it was reduced to?")
        if (empty := np.flatnonzero(np.array(self._counts) == 0)).size:
            raise ValueError(f"{self._name_rows(empty)} without any expression; remove them")
        if self.negatives < 0 or (self.negatives and (self.augment or not self.training)):
            raise ValueError(
                f"negatives = {self.negatives} needs training and no augmentations, which would have to change them too"
            )
        if not (self.training and self.masks):
            if self.augment:
                raise ValueError("Augmentations are for training, and move the masks with the image; leave augment out")
            return
        without = np.array(self.table.column("mask_source")) == "none"
        if self.supervision == "boxes":
            without &= [min(width, height) <= 0 for _, _, width, height in self.table.column("box")]
        if (rows := np.flatnonzero(without)).size:
            need = "box" if self.supervision == "boxes" else "mask"
            raise ValueError(
                f"{self._name_rows(rows)} without a {need} (mask_source 'none'), which training needs; "
                "give them one, remove these rows, or pass masks=False"
            )

    def _name_rows(self, rows: np.ndarray) -> str:
        first = ", ".join(f"{row} (ref_id {self.table.row(int(row)).ref_id})" for row in rows[:3])
        return f"{len(rows)} rows of the table, such as {first}, are"

    def __len__(self) -> int:
        """Referents (training), or images (evaluation, and training with several referents per image)."""
        return len(self.table) if self.training and self.referents_per_image == 1 else len(self._images)

    @property
    def expressions_per_image(self) -> list[int]:
        """The number of expressions of each image, the argument of `EvaluationBatches`."""
        return [sum(self._counts[row] for row in rows) for rows in self._images]

    @property
    def num_expressions(self) -> int:
        """All expressions of the table."""
        return sum(self._counts)

    def __getitem__(self, key: TrainingItem | EvaluationItem) -> LoadedItem:
        """The item ``(epoch, i)`` in training; ``i`` or ``(i, start, stop)`` in evaluation.

        Raises:
            TypeError: If the key is of the other kind.
            IndexError: If there is no such item.
            OSError: If the image can't be read, is damaged or has another size than in the table.
        """
        if self.training:
            if not isinstance(key, tuple) or len(key) != 2:
                raise TypeError(f"A training item is dataset[epoch, i] (see TrainingBatches), not dataset[{key!r}]")
            self._check_item(key[1])
            pairs = self._draw(*key)
            loaded = self._augment(self._load(pairs), *key)
            return replace(loaded, negatives=self._draw_negatives(pairs, *key)) if self.negatives else loaded
        image, start, stop = key if isinstance(key, tuple) and len(key) == 3 else (key, 0, None)
        if not isinstance(image, (int, np.integer)):
            raise TypeError(f"An evaluation item is dataset[i] (see EvaluationBatches), not dataset[{key!r}]")
        self._check_item(image)
        return self._load([(row, e) for row in self._images[image] for e in range(self._counts[row])][start:stop])

    def _check_item(self, item: int) -> None:
        if not 0 <= item < len(self):  # without it, iteration over an evaluation data set would never end
            raise IndexError(f"There is no item {item}: the data set has {len(self)}")

    def _draw(self, epoch: int, item: int) -> list[tuple[int, int]]:
        """Row and expression of each of the `referents_per_image` draws of a training item."""
        k = self.referents_per_image
        if self._weights:
            return self._draw_by_weight(random.Random(seed_of(self.seed, "weighted", epoch, int(item))), item)
        if k == 1:
            return [(item, seed_of(self.seed, "expression", epoch, int(item)) % self._counts[item])]
        # Python promises that this stream is the same in all versions, and it is made in a tenth of NumPy's time.
        rng = random.Random(seed_of(self.seed, "referents", epoch, int(item)))
        rows = sorted(self._images[item], key=lambda _: rng.random())
        if len(rows) >= k:
            return [(row, int(rng.random() * self._counts[row])) for row in rows[:k]]
        orders = [[(row, n) for n in sorted(range(self._counts[row]), key=lambda _: rng.random())] for row in rows]
        # Every referent once, then second expressions, then third ones.
        pairs = [pair for round_ in zip_longest(*orders) for pair in round_ if pair is not None]
        return list(islice(cycle(pairs), k))

    def _draw_by_weight(self, rng: random.Random, item: int) -> list[tuple[int, int]]:
        """Systematic sampling: of k draws, an expression with the share s of all weights gets k s, up or down."""
        k, rows = self.referents_per_image, self._images[item] if self.referents_per_image > 1 else [item]
        pairs = sorted(((row, n) for row in rows for n in range(self._counts[row])), key=lambda _: rng.random())
        ends = list(accumulate(self._weights[row][n] for row, n in pairs))
        first = rng.random()
        return [pairs[min(bisect(ends, ends[-1] * (first + i) / k), len(pairs) - 1)] for i in range(k)]

    def _draw_negatives(self, pairs: list[tuple[int, int]], epoch: int, item: int) -> tuple[tuple[str, ...], ...]:
        """Expressions that don't fit those of `pairs`, as many for each."""
        rng = KeyedRandom(self.seed, "negatives", epoch, int(item))
        return tuple(
            tuple(self._draw_negative(rng, row, self._expressions(row)[number]) for _ in range(self.negatives))
            for row, number in pairs
        )

    def _draw_negative(self, rng: KeyedRandom, row: int, positive: str) -> str:
        others = [other for other in self._images[self._image_of[row]] if other != row]
        if others:
            return rng.pick([text for other in others for text in self._expressions(other)])
        for _ in range(1000):
            number = rng.below(self.num_expressions)
            other = int(np.searchsorted(self._last, number, side="right"))
            text = self._expressions(other)[number - int(self._last[other]) + self._counts[other]]
            if text != positive:
                return text
        raise ValueError(f"No expression of the table seems to differ from {positive!r}: there is nothing to contrast")

    def _augment(self, loaded: LoadedItem, epoch: int, item: int) -> LoadedItem:
        if not self.augment or loaded.masks is None:
            return loaded
        sample = Sample(loaded.image, loaded.masks, loaded.expressions)
        sample = apply_augmentations(sample, self.augment, self.seed, "augment", epoch, int(item))
        return replace(loaded, **vars(sample))

    def _load(self, pairs: list[tuple[int, int]]) -> LoadedItem:
        rows = [row for row, _ in pairs]
        planes = {row: self._mask(row) for row in dict.fromkeys(rows)} if self.masks else {}
        return LoadedItem(
            image=self._image(rows[0]),
            expressions=tuple(self._expressions(row)[number] for row, number in pairs),
            masks=torch.stack([planes[row] for row in rows]) if self.masks else None,
            expression_id=torch.from_numpy(np.array(pairs, dtype=np.int64)),
        )

    def _cached(self, kind: str, key: Any, make: Callable[[], T]) -> T:
        """What was made before, if there is a cache."""
        kept = self._cache.setdefault(kind, {}) if self.cache_images else {}
        if key not in kept:
            kept[key] = make()
        made: T = kept[key]
        return made

    def _image(self, row: int) -> Tensor:
        return self._cached("image", self._image_of[row], lambda: self.preprocess.image(self._decode(row)))

    def _mask(self, row: int) -> Tensor:
        mask = self._box if self.supervision == "boxes" else self.table.mask
        return self._cached("mask", row, lambda: self.preprocess.mask(mask(row)))

    def _box(self, row: int) -> np.ndarray:
        """The box of a row, filled: ``[h, w]`` bool; every pixel that it touches belongs to it."""
        x, y, width, height = self.table.arrow["box"][row].as_py()
        filled = np.zeros(self.table.size(row), dtype=bool)
        top, left = max(0, math.floor(y)), max(0, math.floor(x))
        filled[top : math.ceil(y + height), left : math.ceil(x + width)] = True
        return filled

    def _expressions(self, row: int) -> Sequence[str]:
        return self._cached("expressions", row, lambda: self.table.expressions(row))

    def _decode(self, row: int) -> Image.Image:
        """The photo as it is stored.

        EXIF orientation is not applied: the annotations of COCO, and so of all RefCOCO sets, are in the
        pixel order of the file. (A user's own photo, at prediction, is turned upright by `Predictor`.)
        """
        path = self.table.image_path(row)
        name = f"{path} (row {row} of the table, ref_id {self.table.arrow['ref_id'][row]})"
        try:
            with Image.open(path) as image:
                stored = image.size
                if self.reduced_decoding:  # only JPEGs can; others stay as they are
                    image.draft(None, self.preprocess.least_size(image.height, image.width)[::-1])
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise OSError(f"Can't read the image {name}: {error}. `maskris prepare` finds all such images") from error
        height, width = self.table.size(row)
        if stored != (width, height):
            raise OSError(
                f"The image {name} has {stored[0]} x {stored[1]} pixels (width x height), but its "
                f"annotations are for {width} x {height}: it isn't the annotated file; run `maskris prepare` again"
            )
        return image

    def _encode(self, expressions: list[str]) -> list[list[int]]:
        if not self.cache_images:
            return self.tokenizer.encode(expressions)[0]
        known = self._cache.setdefault("ids", {})
        if new := [text for text in dict.fromkeys(expressions) if text not in known]:
            known.update(zip(new, self.tokenizer.encode(new)[0], strict=True))
        return [known[text] for text in expressions]

    def collate(self, items: Sequence[LoadedItem]) -> Batch:
        """Items as a batch of as many images, in uint8 (a quarter of the bytes to move; the model normalizes)."""
        expressions = [text for item in items for text in item.expressions]
        input_ids, attention_mask = self.tokenizer.pad(self._encode(expressions))
        masks = [item.masks for item in items if item.masks is not None]
        counts = [len(item.expressions) for item in items]
        negatives = [text for item in items for texts in item.negatives for text in texts]
        return Batch(
            images=torch.stack([item.image for item in items]),  # [I, 3, H, W]
            input_ids=input_ids,  # [N, L]
            attention_mask=attention_mask,  # [N, L]
            image_index=torch.from_numpy(np.repeat(np.arange(len(items)), counts)),  # [N]
            masks=torch.cat(masks) if masks else None,  # [N, H, W]
            expression_id=torch.cat([item.expression_id for item in items]),  # [N, 2]
            negatives=self.tokenizer.pad(self._encode(negatives))[0].unflatten(0, (-1, self.negatives))
            if negatives
            else None,  # [N, K, L']
        )

    def count_truncated(self) -> tuple[int, int]:
        """How many expressions of the table are too long for the tokenizer and lose words, and how many there are."""
        texts = [text for expressions in self.table.column("expressions") for text in expressions]
        pieces = (texts[i : i + 8192] for i in range(0, len(texts), 8192))  # bounds the memory of the encodings
        return sum(sum(self.tokenizer.encode(piece)[1]) for piece in pieces), len(texts)

    def describe(self, batch: Batch) -> list[str]:
        """Names of the expressions of a batch in words, such as ``refcoco unc train, ref_id 17, expression 2 'man'``.

        Expressions are counted from 0, as in ``Batch.expression_id`` and in the table.

        Raises:
            ValueError: If the batch does not come from a table.
        """
        if batch.expression_id is None:
            raise ValueError("The batch has no expression_id: it wasn't made by a ReferringDataset")
        names = []
        for row, number in batch.expression_id.tolist():
            referent = self.table.row(row)
            origin = " ".join(part for part in (referent.dataset, referent.split_by, referent.split) if part)
            names.append(f"{origin}, ref_id {referent.ref_id}, expression {number} {referent.expressions[number]!r}")
        return names

    def preload(self) -> None:
        """Fill the cache at once; does nothing without `cache_images`."""
        if self.cache_images:
            for row in range(len(self.table)):
                self._load([(row, 0)])

    def __getstate__(self) -> dict[str, Any]:
        """Without the contents of the cache: a spawned worker fills its own."""
        return {**self.__dict__, "_cache": {}}


def training_loader(
    dataset: ReferringDataset, batches: Iterable[list[TrainingItem]], workers: int = 0, prefetch_factor: int = 2
) -> DataLoader[LoadedItem]:
    """A loader that yields a `Batch` for each list of items.

    Args:
        dataset: In training mode.
        batches: Which items, as `TrainingBatches` gives them.
        workers: Processes that load, at most as many as there are cores for this one; see `usable_workers`. Their
            number changes no batch.
        prefetch_factor: Batches that each worker prepares ahead.

    Raises:
        ValueError: If the data set is in the other mode.
    """
    return _loader(dataset, batches, workers, prefetch_factor, training=True)


def evaluation_loader(
    dataset: ReferringDataset, batches: Iterable[list[EvaluationItem]], workers: int = 0
) -> DataLoader[LoadedItem]:
    """`training_loader` for a data set in evaluation mode and `EvaluationBatches`; raises alike."""
    return _loader(dataset, batches, workers, training=False)


def _loader(
    dataset: ReferringDataset, batches: Iterable[list[Any]], workers: int, prefetch_factor: int = 2, *, training: bool
) -> DataLoader[LoadedItem]:
    if dataset.training != training:
        kind = "training" if training else "evaluation"
        raise ValueError(f"{kind}_loader needs a ReferringDataset with training={training}")
    workers = usable_workers(workers)
    if workers:
        # Tokenizers are used before the fork and after it; without this they warn of deadlocks and switch threads off.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        if torch.multiprocessing.get_start_method() == "fork":
            dataset.preload()  # once, and shared, instead of once in each worker
    return DataLoader(
        dataset,
        batch_sampler=batches,  # any iterable of lists does, with or without a length
        collate_fn=dataset.collate,
        num_workers=workers,
        prefetch_factor=prefetch_factor if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the loader draws an unused seed; keep it off the global stream
    )
