"""What is not the network: start-up, opening a table, loading images. In seconds, each the best of a few."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def startup() -> dict[str, float]:
    """``import maskris`` beyond the start of Python itself, and ``maskris --help`` as a user waits for it."""
    bare = _best(lambda: _python("-c", "pass"))
    imported = _best(lambda: _python("-c", "import maskris"))
    return {"import maskris": imported - bare, "maskris --help": _best(lambda: _python("-m", "maskris", "--help"))}


def open_table(expressions: int) -> float:
    """Open a table file of so many expressions (three per referent) and read its first row."""
    from maskris.data.table import ReferringTable

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        varied_table(max(1, expressions // 3)).save(path)

        def run() -> None:
            table = ReferringTable.open(path)
            assert table.row(0).expressions
            assert table.num_expressions

        return _best(run)


def load_images(pixels: int = 448, count: int = 64) -> float:
    """Seconds per training sample: a photo of 640 x 480 read, resized, its mask decoded, its phrase tokenized."""
    from PIL import Image

    from benchmarks.cases import make_model
    from maskris.data.dataset import ReferringDataset

    model = make_model("tiny", pixels)
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(Path(folder) / "photo.jpg")
        dataset = ReferringDataset(make_table(count, folder), model.preprocess, model.tokenizer, training=True)

        def run() -> None:
            for i in range(count):
                dataset[0, i]

        return _best(run) / count


def varied_table(referents: int) -> Any:
    """Referents with three expressions each, of which no two rows are alike.

    Rows that repeat would be stored once and opened in no time. The masks are random bytes of the length that COCO's
    compressed counts have; opening doesn't decode them.
    """
    from maskris.data.table import ReferringTable

    random = np.random.default_rng(0)
    lengths = random.integers(60, 400, referents)
    counts = random.integers(48, 112, int(lengths.sum()), dtype=np.uint8).tobytes()  # the alphabet of COCO's strings
    ends = np.cumsum(lengths).tolist()
    rows = [
        {
            "image": f"train2014/COCO_train2014_{i // 3:012d}.jpg",
            "height": 480,
            "width": 640,
            "mask": counts[end - length : end],
            "area": 5000 + i % 7919,
            "box": [i % 600, i % 440, 40 + i % 31, 40 + i % 37],
            "expressions": [f"the second man on the left {i}", f"man in red {i}", f"the one beside dog {i}"],
        }
        for i, (end, length) in enumerate(zip(ends, lengths.tolist(), strict=True))
    ]
    return ReferringTable.from_rows(rows, ".")


def make_table(referents: int, images_root: str = ".") -> Any:
    """A table of referents with three expressions each and real masks, all on one photo of 640 x 480."""
    from maskris.data.masks import encode
    from maskris.data.table import ReferringTable

    y, x = np.mgrid[:480, :640]
    mask = encode((x - 300) ** 2 + 2 * (y - 200) ** 2 < 150**2)
    rows = [
        {
            "image": "photo.jpg",
            "height": 480,
            "width": 640,
            "mask": mask,
            "expressions": [f"the second man on the left {i}", "man in red", "the one beside the dog"],
        }
        for i in range(min(referents, 500))
    ]
    part = ReferringTable.from_rows(rows, images_root)
    return ReferringTable.concat([part] * (referents // len(rows)) or [part])


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def _best(function: Callable[[], object], repeats: int = 5) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best
