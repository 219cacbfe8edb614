"""Published sizes of the data sets, to compare with what was read.

Images and referents: the catalog of TensorFlow Datasets (``ref_coco``). Expressions of RefCOCO: FlagEval's
documentation; the others are quoted across the literature without a second source, hence ``confirmed=False``.
unc and umd share out the images, google the objects, so that one photo may be in google's train and val.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """The size of a split.

    Attributes:
        images: Different images.
        referents: Objects (or groups) that expressions refer to.
        expressions: Sentences.
        confirmed: Whether the number of expressions has a second source.

    A number is ``None`` where nothing is published.
    """

    images: int | None
    referents: int | None
    expressions: int | None
    confirmed: bool = True


PUBLISHED: dict[tuple[str, str], dict[str, Counts]] = {
    ("refcoco", "unc"): {
        "train": Counts(16_994, 42_404, 120_624),
        "val": Counts(1_500, 3_811, 10_834),
        "testA": Counts(750, 1_975, 5_657),
        "testB": Counts(750, 1_810, 5_095),
    },
    ("refcoco", "google"): {
        "train": Counts(19_213, 40_000, None),
        "val": Counts(4_559, 5_000, None),
        "test": Counts(4_527, 5_000, None),
    },
    ("refcoco+", "unc"): {
        "train": Counts(16_992, 42_278, 120_191, confirmed=False),
        "val": Counts(1_500, 3_805, 10_758, confirmed=False),
        "testA": Counts(750, 1_975, 5_726, confirmed=False),
        "testB": Counts(750, 1_798, 4_889, confirmed=False),
    },
    ("refcocog", "umd"): {
        "train": Counts(21_899, 42_226, 80_512, confirmed=False),
        "val": Counts(1_300, 2_573, 4_896, confirmed=False),
        "test": Counts(2_600, 5_023, 9_602, confirmed=False),
    },
    ("refcocog", "google"): {
        "train": Counts(24_698, 44_822, 85_474, confirmed=False),
        "val": Counts(4_650, 5_000, 9_536, confirmed=False),
    },
}
"""By data set and partition, then by split."""


def published_sizes(dataset: str, split_by: str) -> dict[str, Counts]:
    """The published sizes of each split; empty where none are known."""
    return PUBLISHED.get((dataset, split_by), {})
