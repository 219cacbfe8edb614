import math

import pytest
from hub_world import MASK, photo_bytes, picture_bytes, rle
from hypothesis import given
from hypothesis import strategies as st

from maskris.data.readers.hub_columns import COLUMNS
from maskris.data.readers.hub_rows import HubOptions, HubRows
from maskris.data.readers.validation import InvalidData

PHOTO = {"bytes": photo_bytes(), "path": "a.jpg"}
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from([rle(MASK), PHOTO, picture_bytes(MASK), '{"counts": "x"}', "[[1, 2", "validation", "a.jpg", "[1]"]),
)
KEYS = st.sampled_from(["counts", "size", "path", "sent"])
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["counts", "size", "path", "sent"]), inner)
    ),
    max_leaves=6,
)
RECORDS = st.fixed_dictionaries({}, optional={names[0]: VALUES for names in COLUMNS.values()})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = tmp_path_factory.mktemp("hub") / "mine.parquet"
    file.touch()
    return file


@given(records=st.lists(RECORDS, max_size=3), incomplete=st.booleans(), embedded=st.booleans())
def test_whatever_a_row_holds_becomes_a_row_or_a_problem(file, records, incomplete, embedded):
    options = HubOptions(photos=file.parent / "photos", incomplete=incomplete)
    rows = HubRows([file], set(), file.parent, as_refer=False, options=options)
    for number, record in enumerate(records):
        rows.add(f"row {number}", record | ({"image": PHOTO} if embedded else {}), None)
    result = rows.finish()
    try:
        table = result.table(skip_invalid=True)
    except InvalidData:
        return
    for i, row in enumerate(table):
        assert table.mask(i).shape == (48, 64)
        assert row.area > 0 or not row.ann_ids or row.mask_source == "none"
        assert all(isinstance(text, str) and text.strip() for text in row.expressions)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7),
        (7.0, 7),
        ("7", 7),
        (" -7 ", -7),
        (7.5, 0),
        (math.inf, 0),
        ("7a", 0),
        ("²", 0),
        (True, 0),
        (None, 0),
        ([], 0),
    ],
)
def test_ids_may_be_stored_as_floats_or_text(file, value, number):
    rows = HubRows([file], set(), file.parent, as_refer=False, options=HubOptions(photos=file.parent / "photos"))
    rows.add("row 0", {"image": PHOTO, "mask": rle(MASK), "text": "x", "ref_id": value, "image_id": value}, None)
    (row,) = rows.finish().rows
    assert (row["ref_id"], row["image_id"], row["ann_ids"]) == (number, number, [number])
