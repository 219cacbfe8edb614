"""Expressions are found by what a prediction says of them, and only where that singles them out."""

import numpy as np
import pytest

from maskris.data.table import ReferringTable
from maskris.evaluation.expression_index import ExpressionIndex


@pytest.fixture
def index():
    mask = np.ones((2, 2), dtype=bool)
    rows = [
        {"image": "a/1.jpg", "ref_id": 7, "expressions": ["man", "left man"], "split": "val"},
        {"image": "b/1.jpg", "ref_id": 8, "expressions": ["man"], "split": "val"},
        {"image": "b/2.jpg", "ref_id": 7, "expressions": ["man", "man"], "split": "testA", "dataset": "other"},
    ]
    return ExpressionIndex(ReferringTable.from_rows([row | {"mask": mask} for row in rows], "."))


@pytest.mark.parametrize(
    ("said", "places"),
    [
        ({"expression": "man"}, [0, 2, 3, 4]),
        ({"expression": "man", "image": "/data/a/1.jpg"}, [0]),
        ({"expression": "man", "file_name": "x/2.jpg"}, [3, 4]),
        ({"ref_id": "7"}, [0, 1, 3, 4]),
        ({"ref_id": 7, "number": 1, "split": "val"}, [1]),
        ({"ref_id": 7, "number": 0, "dataset": "other", "category": "dog", "id": None}, [3]),
        ({"image_id": 1, "expression": "man"}, [2]),
        ({"ref_id": 9}, []),
    ],
)
def test_all_that_is_said_must_agree(index, said, places):
    assert index.find(said) == places


def test_what_tells_expressions_apart(index):
    assert index.same_phrase([3, 4])
    assert not index.same_phrase([0, 2])
    assert index.apart([0, 2]).endswith("(ref_id 7, 8); add image or ref_id to tell them apart")
    assert index.apart([3, 4]).endswith("add number to tell them apart")
    assert index.describe(1) == "val, ref_id 7, expression 1 'left man' about a/1.jpg"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"image": "a/1.jpg"}, "it doesn't say what it is about"),
        ({"ref_id": True}, "ref_id must be a whole number, not True"),
        ({"ref_id": 1.5}, "ref_id must be a whole number, not 1.5"),
        ({"expression": "man", "image": 3}, "the photo must be named by a text, not 3"),
        (
            {"expression": "man", "image": "c/1.jpg"},
            r"c/1.jpg may be any of 2 photos \(a/1.jpg, b/1.jpg\); name folders",
        ),
    ],
)
def test_what_says_nothing(index, said, message):
    with pytest.raises(ValueError, match=message):
        index.find(said)
