"""An evaluation with made-up pixel counts."""

import numpy as np
import pyarrow as pa

from maskris.evaluation.protocol import Protocol
from maskris.evaluation.result import SCHEMA, Evaluation


def made_up(protocol="maskris", n=40, seed=0, **columns):
    rng = np.random.default_rng(seed)
    prediction, target = rng.integers(1, 90, n), rng.integers(1, 90, n)
    intersection = rng.integers(0, np.minimum(prediction, target) + 1)
    words = np.arange(n) % 14 + 1
    values = {
        "dataset": ["refcoco"] * n, "split_by": ["unc"] * n,
        "split": [("val", "testA", "testB")[i % 3] for i in range(n)],
        "image_id": np.arange(n), "ref_id": np.arange(n), "ann_id": np.arange(n), "number": np.zeros(n, dtype=int),
        "expression": ["word " * count for count in words], "kind": [("", "location")[i % 2] for i in range(n)],
        "category": [("dog", "cat | [b]")[i % 2] for i in range(n)], "words": words,
        "target_area": np.array([1023, 1024, 9216, 9217])[np.arange(n) % 4], "relative_size": np.linspace(0.001, 1, n),
        "intersection": intersection, "union": prediction + target - intersection, "prediction_pixels": prediction,
        "target_pixels": target, "box_intersection": intersection, "box_union": prediction + target - intersection,
        "iou": intersection / (prediction + target - intersection), "box_iou": np.zeros(n), "score": np.zeros(n),
        "peak_on_mask": pa.nulls(n, pa.bool_()), "peak_in_box": pa.nulls(n, pa.bool_()),
        **columns,
    }  # fmt: skip
    return Evaluation(
        pa.table(values).select(SCHEMA.names).cast(SCHEMA),
        Protocol.of(protocol),
        {"name": "toy", "input_size": [32, 48]},
        {"expressions": n},
        {"precision": "fp32", "perturbation": None, "truncated": 3},
    )
