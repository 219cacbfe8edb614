"""`ExpressionIndex`: the expressions of a table by what predictions say of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maskris.data.table import ReferringTable

TEXTS = ("dataset", "split_by", "split", "expression")
NUMBERS = ("image_id", "ref_id", "ann_id", "number")
PHOTOS = ("image", "file_name")
"""Keys by which a prediction says what it is about."""

_APART = ("dataset", "split_by", "split", "image", "ref_id", "expression", "number")


class ExpressionIndex:
    """The expressions of a table. A place is the number of an expression in the table's order, from 0.

    Args:
        table: The referents.

    Attributes:
        rows: ``[N]`` int64, the row of each expression.
        numbers: ``[N]`` int64, its number within its referent, from 0.
        columns: What is known of each expression, by name.
    """

    def __init__(self, table: ReferringTable) -> None:
        counts = table.expressions_per_row
        self.rows = np.repeat(np.arange(len(table)), counts)
        self.numbers = np.arange(len(self.rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        names = ("dataset", "split_by", "split", "image_id", "ref_id", "ann_id", "image")
        self.columns: dict[str, list[Any]] = {
            **{name: table.arrow[name].take(pa.array(self.rows)).to_pylist() for name in names},
            "expression": pc.list_flatten(table.arrow["expressions"]).to_pylist(),
            "number": self.numbers.tolist(),
        }
        self._places: dict[tuple[str, ...], dict[tuple[Any, ...], list[int]]] = {}  # by names, then by their values
        self._photos: dict[str, list[str]] = defaultdict(list)  # by the file's name
        for image in dict.fromkeys(self.columns["image"]):
            self._photos[_parts(image)[-1]].append(image)

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, values: Mapping[str, Any]) -> list[int]:
        """Places of the expressions that agree with all that a prediction says of `TEXTS`, `NUMBERS` and `PHOTOS`.

        Photos are compared by the names of their files, and of several by as many of their folders as are in common.

        Raises:
            ValueError: If nothing is said, a value is of another type, or several photos are named.
        """
        key = self._key(values)
        if (names := tuple(key)) not in self._places:
            places = self._places[names] = defaultdict(list)
            for place, known in enumerate(zip(*(self.columns[name] for name in names), strict=True)):
                places[known].append(place)
        return self._places[names].get(tuple(key.values()), [])

    def _key(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a prediction says, with the table's path of its photo."""
        key: dict[str, Any] = {}
        for name in (*TEXTS, *NUMBERS):
            if (value := values.get(name)) is None:
                continue
            if name in NUMBERS and isinstance(value, str) and value.strip().lstrip("-").isdecimal():
                value = int(value)
            if name in NUMBERS and isinstance(value, float) and value.is_integer():  # of a column that lacks some
                value = int(value)
            wanted = str if name in TEXTS else int
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise ValueError(f"{name} must be {'a text' if wanted is str else 'a whole number'}, not {value!r}")
            key[name] = value
        image = next((values[name] for name in PHOTOS if values.get(name) is not None), None)
        if image is not None:
            if not isinstance(image, str):
                raise ValueError(f"the photo must be named by a text, not {image!r}")
            key["image"] = self._photo(image)
        if not key.keys() & {"expression", "number", "ref_id", "ann_id"}:
            raise ValueError("it doesn't say what it is about: image and expression are needed, or ref_id and number")
        return key

    def _photo(self, given: str) -> str | None:
        parts = _parts(given)
        shared = {image: _shared_tail(parts, _parts(image)) for image in self._photos.get(parts[-1], ())}
        nearest = [image for image, length in shared.items() if length == max(shared.values())]
        if len(nearest) > 1:
            few = f"{', '.join(nearest[:3])}{', …' if len(nearest) > 3 else ''}"
            raise ValueError(f"{given} may be any of {len(nearest)} photos ({few}); name folders that tell them apart")
        return nearest[0] if nearest else None

    def same_phrase(self, places: Sequence[int]) -> bool:
        """Whether these are one phrase that one referent has several times."""
        return len({(self.rows[place], self.columns["expression"][place]) for place in places}) == 1

    def apart(self, places: Sequence[int]) -> str:
        """What tells expressions apart, in words."""
        names = [name for name in _APART if len({self.columns[name][place] for place in places}) > 1]
        ref_ids = list(dict.fromkeys(str(self.columns["ref_id"][place]) for place in places))
        few = f"{', '.join(ref_ids[:3])}{', …' if len(ref_ids) > 3 else ''}"
        tell = f"add {' or '.join(names)} to tell them apart" if names else "nothing tells them apart"
        return f"{len(places)} expressions of the table agree with it (ref_id {few}); {tell}"

    def describe(self, place: int) -> str:
        """Name of an expression in messages."""
        values = {name: column[place] for name, column in self.columns.items()}
        origin = " ".join(values[name] for name in ("dataset", "split_by", "split") if values[name])
        phrase = f"ref_id {values['ref_id']}, expression {values['number']} {values['expression']!r}"
        return f"{origin}, {phrase} about {values['image']}"


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")] or [""]


def _shared_tail(a: list[str], b: list[str]) -> int:
    """How many of the last parts of two paths are the same."""
    return next((n for n, (x, y) in enumerate(zip(a[::-1], b[::-1], strict=False)) if x != y), min(len(a), len(b)))
