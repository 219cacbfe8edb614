"""How many images a second the training loader delivers: per worker, for small and large photos."""

import math
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = {"640 x 480": (480, 640), "4000 x 3000": (3000, 4000)}
"""A photo of COCO and one of a phone: names, and height and width in pixels."""

WANTED = 100
"""Images a second that a fast GPU asks for."""


def measure(
    pixels: int = 448,
    sizes: dict[str, tuple[int, int]] | None = None,
    workers: tuple[int, ...] = (0, 1, 2),
    seconds: float = 1.2,
) -> list[dict[str, Any]]:
    """Rows with ``images_per_second`` for each size, with and without reduced decoding, and number of workers.

    Numbers of workers that the machine has no cores for are left out. For each size a last row says how far the pixels
    of the two ways of decoding lie apart.

    Args:
        pixels: Side of the model's input.
        sizes: Names of photos with height and width; by default `SIZES`.
        workers: Numbers of loading processes.
        seconds: Least time of each measurement.
    """
    from benchmarks.cases import make_model
    from maskris.utils.process import usable_workers

    model = make_model("tiny", pixels)
    rows: list[dict[str, Any]] = []
    for name, (height, width) in (sizes or SIZES).items():
        with tempfile.TemporaryDirectory() as folder:
            photo_like(height, width).save(Path(folder) / "photo.jpg", quality=92)
            plain, reduced = (_dataset(model, folder, height, width, on) for on in (False, True))
            for dataset, how in ((plain, ""), (reduced, ", reduced decoding")):
                for number in workers:
                    if usable_workers(number) < number:
                        continue
                    rate = _rate(dataset, number, 16 if height * width < 10**6 else 2, seconds)
                    title = f"load {name}{how}, {number} worker{'s' * (number != 1)}"
                    note = f"{rate:.0f} images/s"
                    if number == 1:
                        note += f"; cores for {WANTED}: {math.ceil(WANTED / rate)}"
                    numbers = {"images_per_second": rate, "workers": number}
                    rows.append({"name": title, "ours_s": 1 / rate, **numbers, "note": note})
            gap = (plain[0, 0].image.float() - reduced[0, 0].image.float()).abs()
            apart = {"mean_difference": gap.mean().item(), "largest_difference": gap.max().item()}
            note = f"pixels differ by {gap.mean():.2f}, at most {gap.max():.0f}"
            rows.append({"name": f"{name}, reduced decoding", "ours_s": None, **apart, "note": note})
    return rows


def photo_like(height: int, width: int, seed: int = 0) -> Image.Image:
    """Noise with as much detail at every scale, as in photos, and the grain of a sensor.

    What a JPEG costs to decode depends on its detail: at quality 92 these have 155 kB at 640 x 480 (those of COCO 2014,
    13 GB for 82,783, have 157 on average) and 3 MB at 4000 x 3000.
    """
    random = np.random.default_rng(seed)
    longest = max(height, width)
    pixels = np.asarray(  # the colors of large areas
        Image.fromarray(random.integers(60, 196, (9, 12, 3), dtype=np.uint8)).resize((width, height)), dtype=np.float32
    ).copy()
    side = 4
    while side <= min(longest, 1024):  # an octave each; beyond it, lenses blur
        noise = random.standard_normal((max(1, height * side // longest), width * side // longest), dtype=np.float32)
        layer = Image.fromarray(20 * noise).resize((width, height), Image.Resampling.BILINEAR)
        pixels += np.asarray(layer)[..., None]
        side *= 2
    grain = random.integers(-6, 7, (512, 512, 3), dtype=np.int8)
    pixels += np.tile(grain, (height // 512 + 1, width // 512 + 1, 1))[:height, :width]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _dataset(model: Any, folder: str, height: int, width: int, reduced: bool) -> Any:
    """Referents on the photo in the folder, each an ellipse."""
    from maskris.data.dataset import ReferringDataset
    from maskris.data.table import ReferringTable

    y, x = np.ogrid[:height, :width]
    mask = (x - width / 2) ** 2 + 2 * (y - height / 2.4) ** 2 < (height / 3) ** 2
    row = {"image": "photo.jpg", "mask": mask, "expressions": ["the second man on the left", "man in red"]}
    table = ReferringTable.concat([ReferringTable.from_rows([row], folder)] * 64)
    return ReferringDataset(table, model.preprocess, model.tokenizer, training=True, reduced_decoding=reduced)


def _rate(dataset: Any, workers: int, batch: int, seconds: float) -> float:
    """Images a second, once every worker has delivered its first batch."""
    from maskris.data.dataset import training_loader
    from maskris.data.sampler import TrainingBatches

    batches = iter(training_loader(dataset, TrainingBatches(len(dataset), batch), workers))
    for _ in islice(batches, max(1, workers)):
        pass
    images, start = 0, time.perf_counter()
    while True:
        images += len(next(batches).images)
        passed = time.perf_counter() - start
        if passed > seconds and images >= batch * max(1, workers):
            return images / passed
