from pathlib import Path

from maskris.data.readers.hub_columns import COLUMNS, by_meaning, lacking, recognize, unknown_columns


def test_the_columns_of_published_copies():
    jxu124 = "sent_ids file_name ann_id ref_id image_id split sentences category_id raw_anns raw_image_info captions"
    assert recognize(jxu124.split()) == {
        "image_name": "file_name",
        "expressions": "sentences",
        "mask": "raw_anns",
        "split": "split",
        "category_id": "category_id",
        "image_id": "image_id",
        "ref_id": "ref_id",
        "ann_id": "ann_id",
        "image_info": "raw_image_info",
    }
    lmms = recognize(["question_id", "image", "question", "answer", "segmentation", "bbox", "iscrowd", "file_name"])
    assert (lmms["image"], lmms["expressions"], lmms["mask"], lmms["ann_id"]) == (
        *("image", "answer", "segmentation", "question_id"),
    )
    testa = recognize(["image", "text", "mask", "image_id", "ann_id", "img_height", "img_width", "bbox"])
    assert (testa["expressions"], testa["height"], testa["width"]) == ("text", "img_height", "img_width")


def test_the_first_known_name_wins_and_case_does_not_count():
    assert by_meaning({"Text": "a", "SENTENCES": ["b"], "tokens": 1}) == {"expressions": ["b"]}
    assert unknown_columns(["Text", "tokens", "image"]) == ["tokens"]


def test_the_page_about_data_names_them_all():
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    names = {name for candidates in COLUMNS.values() for name in candidates}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_no_name_has_two_meanings():
    names = [name for candidates in COLUMNS.values() for name in candidates]
    assert len(names) == len(set(names))


def test_what_is_lacking_is_named_with_what_is_there():
    assert lacking(["image", "text", "mask"]) == ""
    assert lacking(["file_name", "samples"]) == ""
    message = lacking(["picture", "problem", "bbox"])
    assert "no column for expressions. The columns are picture, problem, bbox" in message
    assert "sentences" in message
    assert "a photo or expressions" in lacking(["x"])
