"""`Evaluation`: one row per expression, from which every number, table and breakdown follows."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maskris.data.table import read_parquet
from maskris.evaluation.metrics import Counts, Outcomes, Scores
from maskris.evaluation.protocol import PUBLISHED_INPUTS, Protocol
from maskris.utils.files import atomic_file

COUNTS = ("intersection", "prediction_pixels", "target_pixels", "box_intersection", "box_union")
"""Columns in the order of the fields of `Counts`."""

POINTING = ("peak_on_mask", "peak_in_box")
"""Columns that are null where a protocol doesn't measure peaks, and of masks, which have none."""

SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("split_by", pa.string()),
        ("split", pa.string()),
        ("image_id", pa.int64()),
        ("ref_id", pa.int64()),
        ("ann_id", pa.int64()),
        ("number", pa.int64()),  # of the expression within its referent, from 0
        ("expression", pa.string()),
        ("kind", pa.string()),
        ("category", pa.string()),
        ("words", pa.int64()),
        ("target_area", pa.int64()),  # pixels of the photo; 0 where the expression has no referent
        ("relative_size", pa.float64()),  # the same as a share of the photo
        ("intersection", pa.int64()),  # these pixels and the following: at the protocol's resolution
        ("union", pa.int64()),
        ("prediction_pixels", pa.int64()),
        ("target_pixels", pa.int64()),
        ("box_intersection", pa.int64()),
        ("box_union", pa.int64()),
        ("iou", pa.float64()),  # what mIoU averages: null where the protocol leaves the expression out
        ("box_iou", pa.float64()),
        ("score", pa.float64()),  # mean probability inside the predicted mask, 0 where it is empty
        ("peak_on_mask", pa.bool_()),
        ("peak_in_box", pa.bool_()),  # the true mask's tight box
    ]
)
"""Columns of `Evaluation.rows`."""

IDENTITY = ("dataset", "split_by", "split", "image_id", "ref_id", "number", "expression", "target_area")
"""Columns by which two evaluations are of the same expressions."""

# Bins by their upper ends, inclusive.
# Cut points of both binnings in the literature: UNC 1-2 | 3 | 4-5 | 6+ and G-Ref 1-5 | 6-7 | 8-10 | 11+.
LENGTHS = {2: "1-2 words", 3: "3 words", 5: "4-5 words", 7: "6-7 words", 10: "8-10 words", inf: "11+ words"}
# COCO's sizes, in pixels of the photo.
SIZES = {32**2 - 1: "small (< 32²)", 96**2: "medium (32² to 96²)", inf: "large (> 96²)"}
SHARES = {0.01: "up to 1 %", 0.05: "1 to 5 %", 0.2: "5 to 20 %", inf: "over 20 %"}

BREAKDOWNS = ("split", "length", "size", "relative_size", "kind", "category")
"""What `Evaluation.breakdown` accepts."""

_METADATA = b"maskris.evaluation"
_WORDINGS = {"sent": "the cleaned ones (sent)", "raw": "those as typed (raw)"}


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        rows: One row per expression in the order of the table, whatever the batches were; columns as in `SCHEMA`.
        protocol: How predictions were compared.
        model: What identifies the model: class, configuration, input size, number of parameters, name.
        data: What identifies the data: source files with their hashes, numbers of referents and expressions, who made
            the masks, which sentences of their source the expressions are.
        settings: Precision, perturbation, and how many expressions were too long for the text encoder; of `score` the
            forms of the masks, where they were cut, and how many were missing.
    """

    rows: pa.Table
    protocol: Protocol
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of expressions."""
        return int(self.rows.num_rows)

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Hashes of the ``weights`` and ``data`` that were measured; empty where `evaluate_cached` didn't note them."""
        return self.settings.get("fingerprint") or {}

    @property
    def notes(self) -> list[str]:
        """What must be said beside these numbers wherever they stand, in sentences without a full stop.

        Masks that no person annotated; of data whose source offers several sentences, where the input is another one
        than that of the published evaluation under this protocol; and what `score` was given.
        """
        texts, published = self.data.get("texts", []), PUBLISHED_INPUTS.get(self.protocol.name)
        notes = [pseudo_note(self.data.get("mask_sources", {}), self.data.get("mask_origins", []))]
        if published is not None and texts:
            if texts != [published.text]:
                ours, theirs = " and ".join(_WORDINGS[text] for text in texts), _WORDINGS[published.text]
                notes.append(f"the sentences are {ours}, those of the published evaluation {theirs}")
            size, resize = self.model.get("input_size"), self.model.get("preprocess", {}).get("resize")
            side = published.size
            if side is not None and size and (list(size), resize) != ([side, side], "stretch"):
                notes.append(f"the published evaluation is at {side} x {side}, stretched")
        relative = self.protocol.binarization in ("peak", "range")
        wanted = self.protocol.threshold if self.protocol.binarization == "threshold" else 0.5
        if cuts := [f"{cut:g}" for cut in self.settings.get("cut_at", ()) if relative or cut != wanted]:
            rule = "relative to each map" if relative else f"at {wanted:g}"
            notes.append(f"the masks were cut at a probability of {' and '.join(cuts)}, not {rule}")
        if self.protocol.pointing and "forms" in self.settings:
            notes.append("masks have no peaks, so PointM and PointIt were not measured")
        if self.protocol.name == "sag":
            notes.append(
                "every expression counts once; the published evaluation takes exactly 10,000 in the order of its "
                "files: of RefCOCO val these of 10,834, of a smaller split some twice (Evaluation.listed)"
            )
        if missing := self.settings.get("missing"):
            notes.append(f"{missing:,} expressions without a prediction count as misses")
        return [note for note in notes if note]

    @cached_property
    def outcomes(self) -> Outcomes:
        """What the metrics of all rows are computed from."""
        counts = Counts(*(self._column(name) for name in COUNTS))
        exists = self._column("target_area") > 0
        if not self.protocol.pointing or any(self.rows[name].null_count for name in POINTING):
            return Outcomes(counts, exists, self.protocol)
        return Outcomes(counts, exists, self.protocol, *(self._column(name) for name in POINTING))

    @cached_property
    def scores(self) -> Scores:
        """The metrics of all rows together."""
        return Scores.of(self.outcomes)

    def listed(self, count: int) -> "Evaluation":
        """Exactly `count` expressions: the first of the table, and from the first again where there are fewer.

        The rule of SaG's evaluation with 10,000, up to the order of its files, which nobody published.

        Raises:
            ValueError: If there is no expression, or `count` is not positive.
        """
        if count < 1 or not len(self):
            raise ValueError(f"Can't list {count} expressions of {len(self)}")
        return replace(self, rows=self.rows.take(pa.array(np.arange(count) % len(self))))

    @property
    def metrics(self) -> dict[str, float]:
        """`scores` as one flat dictionary under the keys of `METRICS`, for logs and for choosing a checkpoint.

        Fractions in [0, 1] under ``oIoU, mIoU, Pr@0.5, …, box_accuracy``, also ``gIoU, N-acc, T-acc`` where there are
        expressions without referent, and the number of expressions ``N``; NaN where nothing defines a value.
        """
        return self.scores.flat()

    def breakdown(self, by: str) -> dict[str, Scores]:
        """The metrics of groups of expressions.

        Args:
            by: ``"split"``; ``"length"`` in words; ``"size"`` of the referent as COCO bins it (pixels of the photo);
                ``"relative_size"`` as a share of the photo; ``"kind"`` of expression; ``"category"``.

        Returns:
            Scores by the group's name, bins in ascending order, kinds and categories by name; no empty groups.

        Raises:
            ValueError: If there is no such breakdown.
        """
        return {label: part.scores for label, part in self.parts(by).items()}

    def parts(self, by: str) -> dict[str, "Evaluation"]:
        """The groups of `breakdown` as evaluations of their own, by the same names and in the same order."""
        return self.grouped(*self._labels(by))

    def grouped(self, labels: Sequence[str] | npt.NDArray[Any], order: Sequence[str]) -> dict[str, "Evaluation"]:
        """Groups of rows as evaluations of their own.

        Args:
            labels: The group of each row.
            order: All groups in the order of the result; empty ones are left out.
        """
        chosen = ((label, np.asarray(labels) == label) for label in order)
        return {label: replace(self, rows=self.rows.filter(pa.array(rows))) for label, rows in chosen if rows.any()}

    def _labels(self, by: str) -> tuple[npt.NDArray[Any], list[str]]:
        """The group of each row, and the groups in their order."""
        if by not in BREAKDOWNS:
            raise ValueError(f"Unknown breakdown {by!r}; choose one of {', '.join(BREAKDOWNS)}")
        if by == "length":
            return _binned(self._column("words"), LENGTHS)
        if by in ("size", "relative_size"):
            column, bins = ("target_area", SIZES) if by == "size" else (by, SHARES)
            labels, order = _binned(self._column(column), bins)
            return np.where(self._column("target_area") == 0, "no referent", labels), ["no referent", *order]
        if by == "split":
            parts = [self.rows[name].to_pylist() for name in ("dataset", "split_by", "split")]
            names = [" ".join(part for part in row if part) or "(unnamed)" for row in zip(*parts, strict=True)]
            return np.array(names, dtype=object), list(dict.fromkeys(names))
        names = [name or "(unknown)" for name in self.rows[by].to_pylist()]
        return np.array(names, dtype=object), sorted(set(names))

    def _column(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(self.rows[name].to_numpy())

    def save(self, path: str | Path) -> Path:
        """Write the rows as Parquet, with protocol, model, data and settings as JSON in the schema's metadata."""
        path = Path(path)
        about = {"protocol": self.protocol.to_dict(), "model": self.model, "data": self.data, "settings": self.settings}
        rows = self.rows.replace_schema_metadata({_METADATA: json.dumps(about, default=str).encode()})
        with atomic_file(path, "wb") as file:  # by its name alone, pyarrow would take "a:b.parquet" for a URI
            pq.write_table(rows, file, compression="zstd")
        return path

    @staticmethod
    def is_saved(path: str | Path) -> bool:
        """Whether a file is what `save` writes."""
        path = Path(path)
        if path.suffix.lower() != ".parquet" or not path.is_file():
            return False
        with path.open("rb") as file:
            return _METADATA in (pq.read_schema(file).metadata or {})

    @classmethod
    def load(cls, path: str | Path) -> "Evaluation":
        """The inverse of `save`.

        Raises:
            ValueError: If the file is no saved evaluation.
        """
        rows = read_parquet(Path(path))
        about = (rows.schema.metadata or {}).get(_METADATA)
        if about is None:
            raise ValueError(f"{path} is a Parquet file, but no saved evaluation (was it written by Evaluation.save?)")
        values = json.loads(about)
        protocol = Protocol.from_dict(values.pop("protocol"))
        return cls(rows.replace_schema_metadata(None), protocol, **values)


def pseudo_note(mask_sources: Mapping[str, int], mask_origins: Collection[str] = ()) -> str:
    """That masks were made by a model and by which; empty where people made all.

    Args:
        mask_sources: How many referents have a mask from each source.
        mask_origins: Which models and rules made the pseudo masks.
    """
    if not (made := mask_sources.get("pseudo", 0)):
        return ""
    whose = f" ({' and '.join(sorted(mask_origins))})" if mask_origins else ""
    return (
        f"the masks of {made:,} of {sum(mask_sources.values()):,} referents are pseudo masks, made by a model{whose} "
        "and annotated by nobody"
    )


def align(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations of the same expressions under one protocol, their rows in the order of the first.

    Args:
        evaluations: With their rows in any order.

    Raises:
        ValueError: If the expressions or the protocols differ; names an example.
    """
    first, *others = evaluations
    by_identity = [(name, "ascending") for name in IDENTITY]
    order = pc.sort_indices(first.rows, by_identity)
    known = first.rows.select(IDENTITY).take(order)
    places = pa.array(np.argsort(order))  # of the rows of the first, where all are sorted
    aligned = [first]
    for other in others:
        if other.protocol != first.protocol:
            raise ValueError(
                f"The evaluations follow different protocols, {first.protocol.name} and {other.protocol.name}; "
                "evaluate all under one"
            )
        if len(other) != len(first):
            raise ValueError(
                "The evaluations are not of the same expressions: they are of "
                f"{len(first):,} and {len(other):,} expressions"
            )
        rows = other.rows.sort_by(by_identity)
        if not (found := rows.select(IDENTITY)).equals(known):
            pairs = zip(known.to_pylist(), found.to_pylist(), strict=True)
            different = [pair for pair in pairs if pair[0] != pair[1]]
            raise ValueError(
                f"The evaluations are not of the same expressions: {len(different):,} of {len(first):,} differ, such "
                f"as {different[0][0]} and {different[0][1]}"
            )
        aligned.append(replace(other, rows=rows.take(places)))
    return aligned


def _binned(values: npt.NDArray[Any], bins: Mapping[float, str]) -> tuple[npt.NDArray[Any], list[str]]:
    """The name of each value's bin, and all names."""
    names = list(bins.values())
    return np.array(names, dtype=object)[np.searchsorted(list(bins), values)], names
