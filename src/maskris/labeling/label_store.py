"""`LabelStore`: the masks that a labeling has made so far, a file for some photos, so that it can go on."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maskris.data.table import read_parquet
from maskris.labeling.photo_labels import Made
from maskris.utils.files import atomic_file
from maskris.utils.runstore import RunStore

COMPARED = {
    "origin": "teacher, selection and rule", "data_sha256": "the data", "splits": "the splits",
    "photos_per_shard": "the photos of a shard", "maskris": "the version of maskris",
}  # fmt: skip
"""Keys of the manifest that decide whether a labeling goes on, and what messages call them."""

_SCHEMA = pa.schema([("row", pa.int64()), ("mask", pa.large_binary()), ("area", pa.int64()), ("score", pa.float64())])


class LabelStore:
    """A work folder.

    Args:
        folder: Made when it is claimed.
        manifest: What is labeled and how, with the keys of `COMPARED`.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.store = RunStore(folder, manifest, COMPARED)

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes out; raises as `lock_folder`."""
        return self.store.lock()

    def claim(self) -> None:
        """Begin or go on; raises `OtherRunError` if the folder holds masks of another labeling."""
        if not any(self.store.folder.glob("shard-*.parquet")):
            self.store.file.unlink(missing_ok=True)
        self.store.claim()

    def read(self, shard: int) -> list[Made] | None:
        """The masks of a shard; ``None`` if they are not made yet."""
        if not (file := self._file(shard)).is_file():
            return None
        rows = read_parquet(file).to_pylist()
        return [Made(row["row"], row["mask"], row["area"], row["score"]) for row in rows]

    def write(self, shard: int, made: Sequence[Made]) -> None:
        """Keep the masks of a shard."""
        with atomic_file(self._file(shard), "wb") as file:
            pq.write_table(pa.Table.from_pylist([one._asdict() for one in made], _SCHEMA), file, compression="zstd")

    def _file(self, shard: int) -> Path:
        return self.store.folder / f"shard-{shard:06d}.parquet"
