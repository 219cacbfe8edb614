"""`score`: what `evaluate` measures, of masks that any model has predicted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from maskris.data import masks
from maskris.data.preprocess import Preprocess
from maskris.data.readers.validation import InvalidData, Problem
from maskris.data.table import ReferringTable, choose_splits
from maskris.evaluation.evaluator import check_truth, describe_data, rows_of
from maskris.evaluation.expression_index import NUMBERS, PHOTOS, TEXTS, ExpressionIndex
from maskris.evaluation.metrics import Floats
from maskris.evaluation.predictions import PREDICTION, RESULTS, GivenRow, SoftMaskError, mask_of, read_predictions
from maskris.evaluation.protocol import Protocol
from maskris.evaluation.result import Evaluation

Missing = Literal["error", "miss"]
"""What an expression without a prediction is."""


def score(
    predictions: str | Path | Iterable[Mapping[str, Any]],
    table: ReferringTable,
    protocol: Protocol | str = "original",
    *,
    splits: Sequence[str] | None = None,
    threshold: float | None = None,
    missing: Missing = "error",
    input_size: int | tuple[int, int] | None = None,
    name: str | None = None,
) -> Evaluation:
    """Compare masks of any model with those of a table, expression by expression.

    A prediction belongs to the expression that agrees with all that it says of ``image`` (or ``file_name``),
    ``image_id``, ``ref_id``, ``ann_id``, ``expression``, ``number`` (of the expression within its referent, from 0),
    ``dataset``, ``split_by`` and ``split``; see `ExpressionIndex.find`. For a phrase that a referent has twice there
    may be one prediction, or two. Other keys are passed over, but for ``score`` and ``threshold``, ``error`` (a
    prediction that failed is missing), and those of `mask_of`.

    Under a protocol at the photo's size the result is that of `evaluate` for a model that predicts these masks. A mask
    has no peak: what a protocol measures of peaks is left out, and how it cuts maps doesn't matter.

    Args:
        predictions: What `read_predictions` reads.
        table: The truth.
        protocol: A protocol or the name of a preset.
        splits: Compare with these alone; by default with the whole table. Predictions for other splits are left out.
        threshold: Of soft masks, see `mask_of`; refused where there are none.
        missing: Whether expressions without a prediction are an ``"error"`` or each a ``"miss"``: an empty mask, or
            for an expression without a referent, for which an empty one is right, as few pixels as make it wrong.
        input_size: For a protocol at a model's input, its side, or its height and width. The masks must have this
            size; the truth is resized to it to the nearest pixel, as for a model that stretches its photos.
        name: Of the model in reports; by default that of the file, or of its folder where `maskris predict` wrote it.

    Raises:
        InvalidData: If predictions can't be used, are missing, repeat others or belong to no expression; names all.
        FileNotFoundError: If there are no predictions.
        ValueError: If the protocol is unknown or doesn't go with `input_size`, a split doesn't exist, the mask of some
            referent is not known, or there is a threshold but no soft mask.
    """
    protocol = Protocol.of(protocol)
    if missing not in ("error", "miss"):
        raise ValueError(f"missing must be 'error' or 'miss', not {missing!r}")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold is a probability between 0 and 1, not {threshold}")
    size = _input_size(protocol, input_size)
    chosen = table if splits is None else choose_splits(table, list(splits), "splits")
    check_truth(chosen)
    source = str(predictions) if isinstance(predictions, (str, Path)) else "the rows"
    found = _Matches(source, chosen, table, size, threshold)
    for row in read_predictions(predictions):
        found.add(row)
    found.settle(missing)
    settings = {
        "predictions": source,
        "forms": dict(sorted(found.forms.items())),
        "missing": len(found.index) - len(found.taken),
        "other_splits": found.other_splits,
        "cut_at": sorted(found.cuts),
    }
    model: dict[str, Any] = {"name": name or _name_of(source)}
    if size is not None:
        model |= {"input_size": list(size), "preprocess": Preprocess(*size).to_dict()}
    rows = rows_of(chosen, protocol, _measure(found, chosen, protocol, size))
    return Evaluation(rows, protocol, model, describe_data(chosen), settings)


def _name_of(source: str) -> str:
    path = Path(source).absolute()
    return path.parent.name if path.name in (RESULTS, PREDICTION) else path.stem


def _input_size(protocol: Protocol, given: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width at which all masks are compared; ``None`` for those of the photos."""
    if protocol.resolution == "original":
        if given is not None:
            raise ValueError(f"The protocol {protocol.name} compares at the photo's size; leave the input size out")
        return None
    if given is None:
        raise ValueError(
            f"The protocol {protocol.name} compares at the size of a model's input, and a mask of the photo's size "
            "can't tell what the model computed there. Give masks of that size, with --input-size 448, or choose a "
            "protocol at the photo's size (original, cris)"
        )
    return Preprocess(*((given, given) if isinstance(given, int) else given)).size


class _Prediction(NamedTuple):
    where: str
    mask: bytes
    score: float


class _Matches:
    """Predictions by the places of their expressions, and all that is wrong with them.

    Attributes:
        index: Of the expressions that are compared.
        taken: Predictions by place, after `settle`.
        forms: How many masks were given as what.
        cuts: Thresholds of the masks, where they are known.
        other_splits: Predictions that were left out.
    """

    def __init__(
        self,
        source: str,
        chosen: ReferringTable,
        table: ReferringTable,
        size: tuple[int, int] | None,
        threshold: float | None,
    ) -> None:
        self.index = ExpressionIndex(chosen)
        self.taken: dict[int, _Prediction] = {}
        self.forms: Counter[str] = Counter()
        self.cuts: set[float] = set()
        self.other_splits = 0
        self._source, self._chosen, self._table, self._threshold = source, chosen, table, threshold
        sizes = zip(chosen.column("height"), chosen.column("width"), strict=True)
        self._sizes = [size or pair for pair in sizes]  # by row
        self._whole: ExpressionIndex | None = None
        self._groups: dict[tuple[int, ...], list[_Prediction]] = defaultdict(list)
        self._seen: set[int] = set()  # places with a prediction, whether it can be used or not
        self._errors: dict[int, str] = {}  # why there is no prediction, by place
        self._problems: list[Problem] = []

    def add(self, row: GivenRow) -> None:
        """Find the expression of a prediction, and read its mask."""
        if row.problem:
            return self._report(row.where, "unreadable row", row.problem)
        try:
            places = self.index.find(row.values)
        except ValueError as error:
            return self._report(row.where, "bad value", str(error))
        if not places:
            return self._foreign(row)
        if len(places) > 1 and not self.index.same_phrase(places):
            return self._report(row.where, "ambiguous row", self.index.apart(places))
        if row.values.get("error"):  # missing, if no other row has a mask for the expression
            self._errors |= dict.fromkeys(places, f" ({row.where}: {row.values['error']})")
            return None
        try:
            mask = mask_of(row, self._sizes[self.index.rows[places[0]]], self._threshold)
            value = _score_of(row)
        except SoftMaskError as error:
            self._report(row.where, "soft mask", f"{error}; say with --threshold above which a pixel is inside")
        except masks.SizeMismatchError as error:
            self._report(row.where, "size mismatch", f"{error}, for {self.index.describe(places[0])}")
        except (ValueError, TypeError, OverflowError, OSError) as error:
            self._report(row.where, "damaged mask", str(error))
        else:
            self.forms[mask.form] += 1
            cut = self._threshold if mask.form == "probabilities" else row.values.get("threshold")
            if isinstance(cut, (int, float)) and 0 <= cut < 1:
                self.cuts.add(float(cut))
            self._groups[tuple(places)].append(_Prediction(row.where, mask.counts, value))
            return None
        self._seen.update(places)
        return None

    def settle(self, missing: Missing) -> None:
        """Give each expression its prediction, and raise for all that is wrong."""
        for places, given in self._groups.items():
            if len(given) not in (1, len(places)):
                rows = ", ".join(one.where for one in given[:4]) + (", …" if len(given) > 4 else "")
                self._report(rows, "duplicate rows", f"{len(given)} rows are about {self.index.describe(places[0])}")
            else:
                pairs = zip(places, given if len(given) > 1 else given * len(places), strict=True)
                for place, one in pairs:
                    if (other := self.taken.setdefault(place, one)) is not one:
                        named = f"{other.where}, {one.where}"
                        self._report(named, "duplicate rows", f"2 rows are about {self.index.describe(place)}")
            self._seen.update(places)
        for place in sorted(set(range(len(self.index))) - self._seen) if missing == "error" else ():
            why = self._errors.get(place, "")
            self._report("", "missing row", f"there is no prediction for {self.index.describe(place)}{why}")
        if self._problems:
            only = {problem.kind for problem in self._problems} == {"missing row"}
            raise InvalidData(self._problems, "--missing miss counts missing rows as misses" if only else "")
        if self._threshold is not None and not self.forms["probabilities"]:
            raise ValueError(f"No mask of {self._source} is soft; leave the threshold {self._threshold} out")

    def _foreign(self, row: GivenRow) -> None:
        if self._chosen is not self._table:
            self._whole = self._whole or ExpressionIndex(self._table)
            try:
                if self._whole.find(row.values):
                    self.other_splits += 1
                    return
            except ValueError as error:
                self._report(row.where, "bad value", str(error))
                return
        message = f"no expression of the table agrees with it: {_said(row)}"
        without = {key: value for key, value in row.values.items() if key != "expression"}
        try:
            near = self.index.find(without | {"number": without.get("number", 0)})
        except ValueError:
            near = []
        if near and "expression" in row.values:
            message += f"; with another phrase there is {self.index.describe(near[0])}"
        self._report(row.where, "foreign row", message)

    def _report(self, where: str, kind: str, message: str) -> None:
        self._problems.append(Problem(self._source, where, kind, message))


def _said(row: GivenRow) -> str:
    keys = (*PHOTOS, *NUMBERS, *TEXTS)
    return ", ".join(f"{key} {row.values[key]!r}" for key in keys if row.values.get(key) is not None)


def _score_of(row: GivenRow) -> float:
    value = row.values.get("score")
    if value is None:
        return nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError(f"the score must be a number, not {value!r}")
    return float(value)


def _measure(found: _Matches, table: ReferringTable, protocol: Protocol, size: tuple[int, int] | None) -> Floats:
    """What `rows_of` takes: pixel counts and scores of all expressions ``[N, 10]``; masks have no peaks."""
    resize = None if size is None else Preprocess(*size)
    places: dict[int, list[int]] = defaultdict(list)
    for place, row in enumerate(found.index.rows.tolist()):
        places[row].append(place)
    measured = np.full((len(found.index), 10), nan)
    measured[:, 0], measured[:, 1] = found.index.rows, found.index.numbers
    for row, own in places.items():
        height, width = table.size(row)
        target: bytes = table.arrow["mask"][row].as_py()
        exists = table.arrow["area"][row].as_py() > 0
        if resize is not None:
            target = masks.encode(resize.mask(table.mask(row)).numpy())
            height, width = resize.size
        truth = masks.area_of(target, height, width), masks.box_of_counts(target, height, width)
        for place in own:
            if (one := found.taken.get(place)) is not None:
                counts = _count(one.mask, target, truth, height, width, protocol.minimum_pixels)
                measured[place, 2:8] = *counts, one.score if counts[1] or one.score != one.score else 0
            else:
                # Nothing was found; where that would be right, the smallest mask that is wrong.
                wrong = 0 if exists else max(1, protocol.minimum_pixels)
                box = truth[1][2] * truth[1][3] if truth[0] else wrong
                measured[place, 2:8] = 0, wrong, truth[0], 0, box, nan
    return measured


def _count(
    mask: bytes, target: bytes, truth: tuple[int, masks.Box], height: int, width: int, minimum_pixels: int
) -> tuple[float, ...]:
    """The values of `Counts` of one expression."""
    pixels, (x, y, w, h) = masks.area_of(mask, height, width), masks.box_of_counts(mask, height, width)
    area, (left, top, across, down) = truth
    if pixels < minimum_pixels:
        pixels, x, y, w, h = 0, 0.0, 0.0, 0.0, 0.0
    both = masks.shared_area(mask, target, height, width) if pixels and area else 0
    common = max(0.0, min(x + w, left + across) - max(x, left)) * max(0.0, min(y + h, top + down) - max(y, top))
    return both, pixels, area, common, w * h + across * down - common
