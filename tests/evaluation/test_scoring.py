"""Masks of any model, in every form, are measured as `evaluate` measures those of our own."""

import contextlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from maskris.data.masks import encode
from maskris.data.preprocess import Preprocess
from maskris.data.readers.validation import InvalidData
from maskris.data.table import ReferringTable
from maskris.evaluation.bootstrap import paired_intervals
from maskris.evaluation.evaluator import evaluate
from maskris.evaluation.metrics import Counts, count
from maskris.evaluation.protocol import PRESETS, Protocol
from maskris.evaluation.result import COUNTS, Evaluation, align
from maskris.evaluation.scoring import score
from maskris.inference.batch import predict_batch
from maskris.inference.predictor import Predictor
from maskris.reporting import to_markdown

SIZES = ((9, 7), (1, 12), (8, 8))
PHRASES = ("the left one", "man", "red", "the left one")  # the last is a phrase that a referent has twice


def rle(mask):
    return {"size": list(mask.shape), "counts": encode(mask).decode()}


def runs(mask):
    """Uncompressed counts, with an empty run where the mask has a pixel: the same mask, though never written so."""
    flat = mask.T.ravel()
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
    counts = ([0] if flat[0] else []) + np.diff(edges).tolist()
    if counts[0] > 1:
        counts[:1] = [1, 0, counts[0] - 1]
    return {"size": list(mask.shape), "counts": counts}


def truth(rng, folder="."):
    """Three photos with two or three referents each; one of them has no referent, two share a phrase."""
    rows = []
    for photo, size in enumerate(SIZES):
        for _ in range(rng.integers(2, 4)):
            mask = rng.random(size) < rng.choice([0, 0.3, 0.9])
            texts = list(PHRASES[: rng.integers(1, 5)])
            rows.append({"image": f"train/{photo}.jpg", "mask": mask, "expressions": texts, "split": "val",
                         "dataset": "toy", "ref_id": 10 + len(rows)})  # fmt: skip
    return ReferringTable.from_rows(rows, folder)


def drawn(rng, table):
    """A mask for every expression, some empty."""
    return [
        (row, number, rng.random(table.size(row)) < rng.choice([0, 0.4, 1]))
        for row in range(len(table))
        for number in range(len(table.expressions(row)))
    ]


def directly(table, masks, protocol):
    """The counts by the function that `evaluate` uses, one expression at a time."""
    found = []
    for row, _, mask in masks:
        mask = torch.from_numpy(mask & (mask.sum() >= protocol.minimum_pixels))
        found.append(count(mask[None], torch.from_numpy(table.mask(row).copy())[None]))
    return torch.cat(found).numpy()


def write(form, folder, rows, masks):
    """Predictions in one of the forms that `score` reads."""
    keys = [{"ref_id": 10 + row, "number": number} for row, number, _ in masks]
    planes = [mask for _, _, mask in masks]
    if form == "folder":
        for key, mask in zip(keys, planes, strict=True):
            Image.fromarray(mask).save(folder / f"{key['ref_id']}_{key['number']}.png")
        return folder
    if form == "rows":
        return [key | {"mask": mask} for key, mask in zip(keys, planes, strict=True)]
    if form == "paths":
        for i, mask in enumerate(planes):
            Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / f"m{i}.png")
        lines = [key | {"mask": f"m{i}.png"} for i, key in enumerate(keys)]
    elif form == "pixels":
        lines = [key | {"segmentation": (mask * 255).tolist()} for key, mask in zip(keys, planes, strict=True)]
    elif form == "counts":
        lines = [key | {"segmentation": runs(mask)} for key, mask in zip(keys, planes, strict=True)]
    else:
        lines = [key | {"segmentation": rle(mask)} for key, mask in zip(keys, planes, strict=True)]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(lines), folder / "p.parquet")
        return folder / "p.parquet"
    if form == "json":
        (folder / "p.json").write_text(json.dumps(lines))
        return folder / "p.json"
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "p.jsonl"


FORMS = ("rle", "counts", "paths", "pixels", "folder", "parquet", "json", "rows")


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    form=st.sampled_from(FORMS),
    preset=st.sampled_from(["original", "cris", "grefcoco-original"]),
    least=st.sampled_from([0, 5]),
)
def test_every_form_gives_what_a_direct_computation_gives(tmp_path_factory, seed, form, preset, least):
    rng = np.random.default_rng(seed)
    table = truth(rng)
    masks = drawn(rng, table)
    protocol = Protocol(**{**Protocol.of(preset).to_dict(), "minimum_pixels": least})
    shuffled = [masks[i] for i in rng.permutation(len(masks))]
    result = score(write(form, tmp_path_factory.mktemp(form), table, shuffled), table, protocol)
    expected = directly(table, masks, protocol)
    assert np.array_equal(np.stack([result.rows[name].to_numpy() for name in COUNTS], 1), expected)
    assert result.outcomes.counts.iou.tolist() == Counts(*expected.T).iou.tolist()
    assert sum(result.settings["forms"].values()) == len(masks)


CUT_ANYWHERE = [
    name
    for name, one in PRESETS.items()
    if one.resolution == "original" and one.map == "probability" and one.binarization in ("argmax", "threshold")
]


def test_masks_have_no_peaks(tmp_path, toy_table, color_model):
    """Under a protocol that measures peaks, masks are compared without; against a model, by what both have."""
    table = toy_table(tmp_path)
    table.save(tmp_path / "table.parquet")
    model = color_model()
    predict_batch(Predictor(model), tmp_path / "table.parquet", tmp_path / "out", progress=False)
    scored, evaluated = score(tmp_path / "out", table, "peak"), evaluate(model, table, "peak", progress=False)
    assert {"PointM", "PointIt"} & scored.metrics.keys() == set()
    assert {"PointM", "PointIt"} <= evaluated.metrics.keys()
    assert scored.notes == [
        "the masks were cut at a probability of 0.5, not relative to each map",
        "masks have no peaks, so PointM and PointIt were not measured",
    ]
    assert "PointM |" not in to_markdown(scored)
    assert "PointM |" in to_markdown(evaluated)
    for pair in ((scored, evaluated), (evaluated, scored)):
        found = paired_intervals(*pair, resamples=10)
        assert "mIoU" in found
        assert "PointM" not in found
    with pytest.raises(ValueError, match="no metric PointM"):
        paired_intervals(evaluated, scored, ["PointM"], resamples=10)


@pytest.mark.parametrize("preset", CUT_ANYWHERE)
def test_predictions_of_our_models_give_the_numbers_of_evaluate(tmp_path, toy_table, color_model, preset):
    """From a table to predictions to scores: the same rows as those of the evaluation, of two models and their pair."""
    table = toy_table(tmp_path, splits=("val", "testA", "train"), empty_every=4)
    table.save(tmp_path / "table.parquet")
    protocol = Protocol.of(preset)
    cut = protocol.threshold if protocol.binarization == "threshold" else 0.5
    pairs = []
    for name, model in (("wide", color_model()), ("high", color_model((40, 20)))):
        model.eval()
        predictor = Predictor(model, batch_size=3, name=name)
        predict_batch(predictor, tmp_path / "table.parquet", tmp_path / name, threshold=cut, progress=False)
        own = table.split(["val", "testA"])
        evaluated = evaluate(model, own, protocol, batch_size=4, progress=False)
        scored = score(tmp_path / name, table, protocol, splits=["val", "testA"])
        known = [column for column in evaluated.rows.column_names if column != "score"]
        assert scored.rows.select(known).equals(evaluated.rows.select(known))
        assert scored.rows["score"].to_numpy() == pytest.approx(evaluated.rows["score"].to_numpy(), abs=1e-6)
        assert scored.metrics == evaluated.metrics
        assert scored.model["name"] == name
        assert scored.settings["cut_at"] == [cut]
        pairs.append((scored, evaluated))
        assert align([scored, evaluated])
        scored.save(tmp_path / "rows.parquet")
        assert Evaluation.load(tmp_path / "rows.parquet").scores == evaluated.scores
    assert pairs[0][0].metrics != pairs[1][0].metrics


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_that_are_turned_by_exif(tmp_path, color_model, orientation):
    """Masks of the upright photo are compared in the pixels of its file, or upright where the table follows these."""
    stored = np.zeros((24, 40, 3), dtype=np.uint8)
    stored[2:20, 4:15, 0] = stored[2:20, 22:30, 2] = 255
    stored[2:8, 4:8, 0] = 0  # no two orientations are alike
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    row = {"image": "a.png", "mask": stored[:, :, 0] > 0, "expressions": ["the red one"], "split": "val"}
    table = ReferringTable.from_rows([row], tmp_path)
    size = (24, 40) if orientation < 5 else (40, 24)
    model = color_model(size)
    model.eval()
    lines = [{"image": "a.png", "expression": "the red one", "split": "val"}]
    predict_batch(Predictor(model), lines, tmp_path / "out", images=tmp_path, progress=False)
    (line,) = map(json.loads, (tmp_path / "out" / "results.jsonl").read_text().splitlines())
    assert (line["orientation"], tuple(line["size"])) == (orientation, size)
    assert score(tmp_path / "out", table).metrics["oIoU"] == 1
    if orientation >= 5:
        upright = coco.decode(line["segmentation"]) != 0
        turned = ReferringTable.from_rows([row | {"mask": upright}], tmp_path)
        assert score(tmp_path / "out", turned).metrics["oIoU"] == 1
        del line["orientation"]
        with pytest.raises(InvalidData, match=r"has 40 x 24 pixels .*, not 24 x 40; .* \"orientation\": 6"):
            score([line], table)


def test_a_model_s_input_size_needs_masks_of_that_size(tmp_path, toy_table):
    table = toy_table(tmp_path)
    size = (24, 32)
    resized = [Preprocess(*size).mask(table.mask(row)).numpy() for row in range(len(table))]
    lines = [
        {"ref_id": one.ref_id, "number": number, "segmentation": rle(mask)}
        for one, mask in zip(table, resized, strict=True)
        for number in range(len(one.expressions))
    ]
    result = score(lines, table, "maskris", input_size=size)
    assert result.metrics["oIoU"] == 1
    assert result.rows["target_pixels"].to_pylist() == result.rows["prediction_pixels"].to_pylist()
    assert result.rows["target_pixels"].to_pylist() != result.rows["target_area"].to_pylist()
    with pytest.raises(ValueError, match="masks of that size, with --input-size 448, or choose a protocol at"):
        score(lines, table, "maskris")
    with pytest.raises(ValueError, match="original compares at the photo's size; leave the input size out"):
        score(lines, table, input_size=size)
    with pytest.raises(InvalidData, match=r"has 24 x 32 pixels .*, not 448 x 448"):
        score(lines, table, "maskris", input_size=448)


@pytest.fixture
def scene():
    """Two photos; a phrase is said of two referents of the first, and twice of one of the second."""
    rng = np.random.default_rng(0)
    rows = [
        {"image": "b/1.jpg", "expressions": ["man", "left man"], "ref_id": 1},
        {"image": "b/1.jpg", "expressions": ["man"], "ref_id": 2},
        {"image": "b/2.jpg", "expressions": ["dog", "dog"], "ref_id": 3},
        {"image": "b/2.jpg", "expressions": ["cat"], "ref_id": 4, "split": "train"},
        {"image": "b/3.jpg", "expressions": ["bird"], "ref_id": 5, "mask": np.zeros((6, 5), dtype=bool)},
    ]
    defaults = {"split": "val", "dataset": "toy", "split_by": "unc"}
    return ReferringTable.from_rows([defaults | {"mask": rng.random((6, 5)) < 0.5} | row for row in rows], ".")


def lines_of(table, **changes):
    mask = np.zeros((6, 5), dtype=bool)
    mask[:3] = True
    return [
        {"image": one.image, "ref_id": one.ref_id, "expression": text, "segmentation": rle(mask), **changes}
        for one in table.split("val")
        for text in dict.fromkeys(one.expressions)
    ]


def test_all_that_is_wrong_is_named_at_once(scene, tmp_path):
    good = lines_of(scene)
    assert len(score(good, scene, splits=["val"])) == 6, "one row counts for a phrase that is said twice"
    wrong = [
        good[0],
        *good[2:4],
        good[3] | {"ref_id": 7},
        {key: value for key, value in good[0].items() if key != "ref_id"},
        good[4] | {"segmentation": {"size": [5, 6], "counts": [30]}},
        good[0],
        {"image": "b/1.jpg", "segmentation": []},
        good[1] | {"expression": "Left man"},
        {"image": "2.jpg", "expression": "cat", "segmentation": []},
        "text",
    ]
    file = tmp_path / "theirs.jsonl"
    file.write_text("\n".join(map(json.dumps, wrong)) + "\n{")
    with pytest.raises(InvalidData) as error:
        score(file, scene, splits=["val"])
    text = str(error.value)
    for part in (
        "line 4: no expression of the table agrees with it: image 'b/2.jpg', ref_id 7, expression 'dog'",
        "line 5: 2 expressions of the table agree with it (ref_id 1, 2); add ref_id to tell them apart",
        "line 6: the mask has 5 x 6 pixels (height x width), not 6 x 5; if it is that of the photo as viewers show it",
        "line 1, line 7: 2 rows are about toy unc val, ref_id 1, expression 0 'man' about b/1.jpg",
        "line 8: it doesn't say what it is about: image and expression are needed, or ref_id and number",
        "line 9: no expression of the table agrees with it: image 'b/1.jpg', ref_id 1, expression 'Left man'; "
        "with another phrase there is toy unc val, ref_id 1, expression 0 'man' about b/1.jpg",
        "line 11: expected an object {...}, not 'text'",
        "line 12: no valid JSON",
        "there is no prediction for toy unc val, ref_id 1, expression 1 'left man'",
    ):
        assert part in text, part
    kinds = [problem.kind for problem in error.value.problems]
    assert kinds.count("missing row") == 1, "a row whose mask is damaged isn't missing too"
    assert kinds.count("foreign row") == 2, "the row about another split isn't foreign"


def test_missing_rows_are_misses_only_if_asked(scene):
    some = lines_of(scene)[:1]
    with pytest.raises(InvalidData, match=r"5 x missing row.*\n(.*\n)+--missing miss counts missing rows as misses"):
        score(some, scene, splits=["val"])
    failed = [some[0], {"ref_id": 2, "expression": "man", "error": "There is no photo"}]
    with pytest.raises(InvalidData, match=r"expression 0 'man' about b/1.jpg \(row 1: There is no photo\)"):
        score(failed, scene, splits=["val"])
    for protocol in ("original", "grefcoco-original"):
        result = score(failed, scene, protocol, splits=["val"], missing="miss")
        assert result.settings["missing"] == 5
        assert result.rows["intersection"].to_pylist()[1:] == [0] * 5
        assert result.metrics["N-acc"] == 0, "to find nothing would be right for the bird, to say nothing is not"
        assert result.metrics["T-acc"] <= 1 / 5
        assert result.rows["iou"].to_pylist()[1:] == [0] * 5
        assert result.rows["box_iou"].to_pylist()[1:] == [0] * 5


def test_a_phrase_that_is_said_twice_has_one_row_or_two(scene):
    rest, (dog,) = [one for one in lines_of(scene) if one["ref_id"] != 3], lines_of(scene)[3:4]
    full = dog | {"segmentation": rle(np.ones((6, 5), dtype=bool))}
    assert score([*rest, dog, full], scene, splits=["val"]).rows["prediction_pixels"].to_pylist() == [
        15,
        15,
        15,
        15,
        30,
        15,
    ]
    numbered = [dog | {"number": 1}, full | {"number": 0}]
    result = score([*rest, *numbered], scene, splits=["val"])
    assert result.rows["prediction_pixels"].to_pylist() == [15, 15, 15, 30, 15, 15]
    with pytest.raises(InvalidData, match="row 4, row 5, row 6: 3 rows are about"):
        score([*rest, dog, dog, full], scene, splits=["val"])
    with pytest.raises(InvalidData, match="2 rows are about"):
        score([*rest, dog, numbered[0]], scene, splits=["val"])


def test_photos_are_found_by_their_names_and_as_many_folders_as_it_takes(scene):
    rows = lines_of(scene)
    for prefix in ("", "/data/b/", "C:\\photos\\", "./b/"):
        named = [row | {"image": prefix + row["image"].split("/")[-1]} for row in rows]
        assert len(score(named, scene, splits=["val"])) == 6
    renamed = [{("file_name" if key == "image" else key): value for key, value in row.items()} for row in rows]
    assert len(score(renamed, scene, splits=["val"])) == 6
    twins = [
        {"image": f"{folder}/1.jpg", "mask": np.ones((2, 2 + i)), "expressions": ["x"], "split": "val"}
        for i, folder in enumerate("ab")
    ]
    table = ReferringTable.from_rows(twins, ".")
    both = [{"image": f"z/{one}/1.jpg", "expression": "x", "mask": np.ones((2, 2 + i))} for i, one in enumerate("ab")]
    assert score(both, table).metrics["oIoU"] == 1
    with pytest.raises(InvalidData, match=r"row 1: 1\.jpg may be any of 2 photos"):
        score([row | {"image": "1.jpg"} for row in both], table)


def test_ids_may_be_texts_and_sentences_must_not_be_numbers(scene):
    rows = [row | {"ref_id": str(row["ref_id"])} for row in lines_of(scene)]
    assert len(score(rows, scene, splits=["val"])) == 6
    with pytest.raises(InvalidData, match="ref_id must be a whole number, not 'x'"):
        score([rows[0] | {"ref_id": "x"}, *rows[1:]], scene, splits=["val"])
    with pytest.raises(InvalidData, match="expression must be a text, not 3"):
        score([rows[0] | {"expression": 3}, *rows[1:]], scene, splits=["val"])
    with pytest.raises(InvalidData, match="the score must be a number, not nan"):
        score([rows[0] | {"score": float("nan")}, *rows[1:]], scene, splits=["val"])


def test_refused_from_the_start(scene, tmp_path):
    with pytest.raises(ValueError, match="missing must be 'error' or 'miss', not 'skip'"):
        score([], scene, missing="skip")
    with pytest.raises(ValueError, match="a probability between 0 and 1, not 1"):
        score([], scene, threshold=1)
    with pytest.raises(ValueError, match=r"No mask of the rows is soft; leave the threshold 0\.5 out"):
        score(lines_of(scene), scene, splits=["val"], threshold=0.5)
    with pytest.raises(ValueError, match="The data has no split test"):
        score([], scene, splits=["test"])
    unknown = ReferringTable.from_rows(
        [{"image": "a.jpg", "expressions": ["x"], "mask_source": "none", "height": 2, "width": 2}], "."
    )
    with pytest.raises(ValueError, match="no mask to compare with"):
        score([], unknown)


NUMBERS = st.integers() | st.floats() | st.integers(-3, 9)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=6) | st.binary(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.sampled_from(["size", "counts", "bytes", "path", "segmentation", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=ANYTHING, more=st.dictionaries(st.sampled_from(["orientation", "score", "threshold", "error"]), ANYTHING))
@example(mask=[[0, 1] * 10] * 6, more={})
@example(mask=[[0, 0, 1, 0, 1, 1]], more={"orientation": float("nan"), "threshold": 10**400})
def test_whatever_a_row_holds_is_measured_or_named(scene, mask, more):
    row = {"ref_id": 1, "number": 0, "segmentation": mask, **more}
    with contextlib.suppress(InvalidData):
        result = score([row], scene, missing="miss")
        assert sum(result.settings["forms"].values()) == (not more.get("error"))


def test_rows_must_be_mappings(scene):
    with pytest.raises(InvalidData, match=r"row 0: expected an object \{...\}, not 7"):
        score([7], scene, missing="miss")
