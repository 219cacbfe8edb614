"""Rows from files, folders and Python: what they say, where, and what is refused."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskris.data.table import ReferringTable
from maskris.inference.batch import file_name
from maskris.inference.batch_inputs import Row, read_rows

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)


def csv_rows(tmp_path, text, name="rows.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    rows = read_rows(path)
    return list(rows), [rows.where(i).split(", ")[1] for i in range(len(rows))]


def row(number, image, expression, name=None, **extra):
    return Row(number, {"id": name, "image": image, "expression": expression, **extra})


def test_columns_in_any_order_with_quotes_commas_and_line_ends(tmp_path):
    lines = [
        "split,expression,id,image",
        'val,"the man, on\nthe ""left""",7,a.jpg',
        "",
        ",,,",
        'test, "a, b",x,b.jpg',
        "",
    ]
    text = "\r\n".join(lines)
    rows, places = csv_rows(tmp_path, text)
    assert rows == [
        row(0, "a.jpg", 'the man, on\nthe "left"', "7", split="val"),
        row(1, "b.jpg", "a, b", "x", split="test"),
    ]
    assert places == ["line 2", "line 6"]


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8), st.booleans(), st.data())
def test_rows_are_found_again_wherever_they_begin(tmp_path_factory, pairs, windows, data):
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n" if windows else "\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("image", "expression"), *pairs])
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes(text.getvalue().encode())
    kept = [pair for pair in pairs if any(value.strip() for value in pair)]
    if not kept:
        with pytest.raises(ValueError, match="holds no rows"):
            read_rows(path)
        return
    rows = read_rows(path)
    assert len(rows) == len(kept)
    for number in data.draw(st.permutations(range(len(kept)))):
        image, expression = kept[number]
        found = rows[number]
        assert (found.number, found.given["expression"]) == (number, expression)
        assert found.given["image"] == (image if image.strip() else None)
        assert (found.error is None) == bool(image.strip() and expression.strip())


def test_the_byte_order_mark_of_spreadsheets_and_the_index_of_pandas(tmp_path):
    rows, _ = csv_rows(tmp_path, "\ufeff,image,expression\n0,ä.jpg,左边的人\n".encode())
    assert rows == [row(0, "ä.jpg", "左边的人")]
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"image": "a", "expression": "b"}')
    assert read_rows(tmp_path / "rows.jsonl")[0] == row(0, "a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows; each one needs an image and an expression"),
        ("\n\n", "holds no rows"),
        ("image,expression\n", "holds no rows"),
        ("image\na.jpg", "line 1: no column 'expression' among 'image'"),
        ("a.jpg,the man", r"line 1: no column 'image' and 'expression' among 'a.jpg', 'the man'\. The first line"),
        ("Image,Expresion\na,b", "is it 'Image', 'Expresion'"),
        ("image;expression\na;b", "separated by semicolons"),
        ("image\texpression\na\tb", "separated by tabs"),
        ("image,expression,image\na,b,c", "several columns are called 'image'"),
        ("image,expression,score,row\na,b,c,d", "line 1: row, score would be lost"),
        ('image,expression\na,b\nc,"d\ne,f\n', r"line 3: no valid CSV \(unexpected end of data\)"),
        ('image,expression\na,"b" c"\n', "line 2: no valid CSV"),
        (b"image,expression\na,b\xe4r", "line 2 is not UTF-8 .*; save it as UTF-8"),
        ("image,expression\na,b".encode("utf-16"), "line 1 is not UTF-8 .*; save it as UTF-8"),
        (b"PK\x03\x04 and so on", "line 1: no column 'image' and 'expression' among"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        csv_rows(tmp_path, text)
    assert str(tmp_path / "rows.csv") in str(caught.value)


def test_rows_that_cannot_be_used_keep_their_place(tmp_path):
    rows, places = csv_rows(tmp_path, "image,expression\na,the man, left\na\n,x\na, \na,fine\n")
    assert [found.error for found in rows] == [
        "3 fields instead of 2; put a phrase with commas in quotation marks",
        "1 fields instead of 2",
        "image is empty; it must be a text such as 'photo.jpg'",
        "expression is empty; it must be a text such as 'the man on the left'",
        None,
    ]
    assert places == [f"line {number}" for number in range(2, 7)]


def test_json_lines(tmp_path):
    lines = [
        '{"image": "a.jpg", "expression": "the man", "id": 7, "tags": ["x", null]}', "", "{", "[1]", '"text"',
        '{"image": 3, "expression": "x"}', '{"image": "a.jpg"}', '{"image": "a", "expression": "b", "x": NaN}',
        '{"image": "a", "expression": "b", "x": [-1e999]}', '{"image": "a", "expression": "the \\ud83d"}',
        r'{"image": "\udcff", "expression": "\ud83d\ude00"}',
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    rows = read_rows(tmp_path / "rows.jsonl")
    assert rows[0] == row(0, "a.jpg", "the man", 7, tags=["x", None])
    assert [rows.where(number).split(" ")[-1] for number in range(len(rows))] == [*"13456789", "10", "11"]
    errors = [rows[number].error for number in range(1, 9)]
    assert rows[9] == row(9, "\udcff", "\U0001f600"), "a photo may have any name"
    for error, start in zip(errors, ["no valid JSON", "expected an object", "expected an object", "image is 3",
                                     "expression is empty", "no valid JSON: NaN is no JSON; leave the key out",
                                     "no valid JSON: the number -1e999 is too large; put it in quotes",
                                     "expression holds a lone surrogate"], strict=True):  # fmt: skip
        assert error.startswith(start)
    (tmp_path / "rows.jsonl").write_text(lines[0] + '\n{"image": "a", "expression": "b", "mask": "m.png"}')
    with pytest.raises(ValueError, match=r"line 2: mask would be lost"):
        read_rows(tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no rows; each one needs an image and an expression"):
        read_rows(tmp_path / "rows.jsonl")


def test_every_expression_of_a_table(tmp_path):
    shared = {"image": "a.jpg", "mask": np.ones((2, 2), dtype=bool), "dataset": "toy"}
    rows = [
        shared | {"expressions": ["x", "y"], "split": "val", "ref_id": 7},
        shared | {"expressions": ["z"], "split": "train"},
    ]
    ReferringTable.from_rows(rows, tmp_path / "photos").save(tmp_path / "t.parquet")
    found = read_rows(tmp_path / "t.parquet")
    assert found.root == tmp_path / "photos"
    known = {"image": "a.jpg", "dataset": "toy", "split_by": "", "split": "val", "image_id": 0, "ref_id": 7}
    given = [{"id": None, **known, "expression": text, "number": i} for i, text in enumerate("xy")]
    assert [one.given for one in found] == given
    assert [one.given["expression"] for one in read_rows(tmp_path / "t.parquet", splits=["train"])] == ["z"]
    assert read_rows(tmp_path / "t.parquet", images=tmp_path).root == tmp_path
    with pytest.raises(ValueError, match="The data has no split test, but val, train; choose with --splits"):
        read_rows(tmp_path / "t.parquet", splits=["test"])
    with pytest.raises(ValueError, match=r"Splits are those of prepared data \(.parquet\); leave out val"):
        read_rows(tmp_path, ["x"], splits=["val"])
    with pytest.raises(ValueError, match="The phrases stand in"):
        read_rows(tmp_path / "t.parquet", ["x"])


def test_photos_of_a_folder(tmp_path):
    for name in ("b.JPG", "a.png", "deep/er/ü.webp", ".hidden.png", ".thumbs/c.png", "notes.txt", "out/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "earlier").mkdir()
    (tmp_path / ".thumbs" / "empty").mkdir()
    (tmp_path / "earlier" / "batch.json").write_text("{}")
    (tmp_path / "earlier" / "overlay.jpg").write_bytes(b"")
    for folder, content in (("single", {"image": "../a.png", "maskris": "1"}), ("theirs", {"image": "../a.png"})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "prediction.json").write_text(json.dumps(content))
        (tmp_path / folder / "overlay.png").write_bytes(b"")
    (tmp_path / "circle").symlink_to(tmp_path)
    rows = read_rows(tmp_path, ["the man", "a dog"], leave_out=tmp_path / "out")
    assert [(found.given["image"], found.given["expression"]) for found in rows] == [
        (photo, phrase)
        for photo in ("a.png", "b.JPG", "deep/er/ü.webp", "theirs/overlay.png")  # of another program
        for phrase in ("the man", "a dog")
    ]
    assert rows.photos.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert rows.path(rows[4]) == tmp_path / "deep/er/ü.webp"
    assert rows.sha256 != read_rows(tmp_path, ["the man", "a cat"], leave_out=tmp_path / "out").sha256
    with pytest.raises(ValueError, match="give one or several phrases"):
        read_rows(tmp_path)
    with pytest.raises(ValueError, match="Expression 2 is empty"):
        read_rows(tmp_path, ["x", " "])
    with pytest.raises(ValueError, match=r"Expression 1 holds a lone surrogate \(\\udcff in"):
        read_rows(tmp_path, ["dog\udcff", "x"])
    with pytest.raises(ValueError, match="There is no photo in"):
        read_rows(tmp_path / ".thumbs" / "empty", ["x"])
    for results in (tmp_path, tmp_path / "out" / "..", tmp_path / "circle"):
        with pytest.raises(ValueError, match=r"is the folder of the photos and can't be that of the results; choose"):
            read_rows(tmp_path, ["x"], leave_out=results)
    with pytest.raises(ValueError, match=r"earlier holds results \(batch\.json\) and is no folder of photos"):
        read_rows(tmp_path / "earlier", ["x"])
    with pytest.raises(ValueError, match="is the folder of the photos already"):
        read_rows(tmp_path, ["x"], images="photos")


def test_sources_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file or folder"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "rows.xlsx").write_text("x")
    with pytest.raises(ValueError, match="none of the endings"):
        read_rows(tmp_path / "rows.xlsx")
    with pytest.raises(ValueError, match="the rows holds no rows"):
        read_rows([])
    with pytest.raises(TypeError, match="Row 1 is a str"):
        read_rows([{"image": "a", "expression": "b"}, "c"])
    with pytest.raises(ValueError, match="Row 0 can't be written as JSON"):
        read_rows([{"image": "a", "expression": "b", "extra": np.zeros(2)}])
    with pytest.raises(ValueError, match="row 0: error would be lost"):
        read_rows([{"image": "a", "expression": "b", "error": 1}])


@given(st.lists(st.sampled_from(["a.jpg", "./a.jpg", "x/../a.jpg", "b.jpg", "ü", None, ""]), min_size=1))
def test_photos_are_numbered_by_first_appearance(images):
    same = {"./a.jpg": "a.jpg", "x/../a.jpg": "a.jpg"}
    order = list(dict.fromkeys(same.get(image, image) for image in images if image))
    found = read_rows([{"image": image, "expression": "x"} for image in images]).photos.tolist()
    assert found == [order.index(same.get(image, image)) if image else -1 for image in images]


def test_many_rows_are_a_table_of_few_bytes():
    rows = read_rows([{"image": f"{i // 3}.jpg", "expression": "the man"} for i in range(25_000)])
    assert rows[24_999] == row(24_999, "8333.jpg", "the man")
    assert rows.photos.tolist() == [i // 3 for i in range(25_000)]
    assert rows.table.nbytes < 120 * len(rows)


def test_groups_hold_every_row_once():
    names = ["b", None, "a", "b", "a", "c", None, "b"]
    rows = read_rows([{"image": name, "expression": "x"} for name in names])
    groups = [(number, group.tolist()) for number, group in rows.groups()]
    assert [group for _, group in groups] == [[1, 6], [0, 3, 7], [2, 4], [5]]
    assert groups[0][0] == -1


@given(st.text(max_size=300), st.text(max_size=300), st.integers(0, 2 * 10**6), st.integers(1, 10**6))
def test_names_of_files_are_names(image, expression, number, more):
    name = file_name(row(number, image, expression), number + more, ".png")
    *folders, base = name.split("/")
    assert len(folders) == (number + more > 10_000)
    assert re.fullmatch(r"\d{4,}(-[\w-]+)?\.png", base)
    assert int(base.split("-")[0].removesuffix(".png")) == number
    assert len(base.encode("utf-8", "surrogatepass")) < 150
    if folders:
        assert int(folders[0]) == number // 1000


def test_names_of_files_do_not_climb():
    assert file_name(row(7, "../../etc/passwd", "a/../b \\ c"), 9, ".png") == "0007-passwd-a_b_c.png"
    assert (
        file_name(row(12345, "C:\\photos\\ä b.jpg", "左边的人"), 2_000_000, ".jpg") == "0012/0012345-ä_b-左边的人.jpg"
    )


def test_what_was_given_is_kept_in_the_order_of_the_results():
    rows = read_rows([{"x": [1], "expression": "b", "image": "a", "id": 3}])
    assert json.dumps(rows[0].given) == '{"id": 3, "image": "a", "expression": "b", "x": [1]}'
