#!/usr/bin/env bash
# pyarrow 26.0.1: ParquetFile.iter_batches keeps every byte that it has read.
#
# Photos on the Hub lie in Parquet files of gigabytes, and the usual advice for streaming one is ParquetFile.iter_batches
# (in place of Dataset.to_batches, which is known to pile up memory: apache/arrow#39808, where iter_batches is named as the
# cure). With the file opened in the ordinary way, batches of a few rows are handed out one by one, yet what pyarrow holds
# grows to the size of the whole file and is given back only when the iteration ends. It is the read-ahead of column chunks:
# with pre_buffer=False the same loop holds a batch at a time.
#
# Expected: memory of one batch, or of one row group. Seen with a file of 67 MB in 64 row groups:
#   ordinary:           69.2 MB held
#   pre_buffer=False:    3.1 MB held
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1 numpy==2.4.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUPS, ROWS, SIZE = 64, 16, 65_536  # photos of 64 KB, 1 MB in a row group
rng = np.random.default_rng(0)
schema = pa.schema({"photo": pa.binary()})
with pq.ParquetWriter("photos.parquet", schema, compression="none") as writer:
    for _ in range(GROUPS):
        writer.write_table(pa.table({"photo": [rng.bytes(SIZE) for _ in range(ROWS)]}, schema))
megabytes = GROUPS * ROWS * SIZE / 1e6


def held(**options) -> float:
    """Most megabytes that pyarrow holds while the batches are read and let go, one by one."""
    before, most = pa.total_allocated_bytes(), 0
    with pq.ParquetFile("photos.parquet", **options) as file:
        for batch in file.iter_batches(batch_size=ROWS):
            del batch
            most = max(most, pa.total_allocated_bytes() - before)
    return most / 1e6


ordinary, streamed = held(), held(pre_buffer=False)
print(f"pyarrow {pa.__version__}, a file of {megabytes:.0f} MB in {GROUPS} row groups")
print(f"  ordinary:         {ordinary:6.1f} MB held")
print(f"  pre_buffer=False: {streamed:6.1f} MB held")
assert ordinary > 0.9 * megabytes, "iter_batches no longer keeps what it has read"
assert streamed < 0.1 * megabytes, "pre_buffer=False no longer cures it"
PYTHON
