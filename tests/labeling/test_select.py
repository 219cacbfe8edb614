"""One map of several: each selection on maps whose answer is known, and the published one on the official maps."""

import numpy as np
import pytest
import torch
from models.clip.test_towers import TEXT, VIT
from models.small_tris import golden
from PIL import Image
from safetensors.torch import save_file

from maskris.data.tokenizer import ExpressionTokenizer
from maskris.labeling.select import ResponseMapScorer, agreement, resize, response_scores, select_map
from maskris.labeling.teachers.base import Finding
from maskris.models.clip.scorer import CLIPScorer
from maskris.models.encoders.tokenizers import build_clip_tokenizer


def block(y, x, size=4, value=1.0, shape=(12, 16)):
    values = np.zeros(shape, dtype=np.float32)
    values[y : y + size, x : x + size] = value
    return values


LEFT, NEARLY, RIGHT = block(2, 1), block(2, 2), block(6, 11)
FINDINGS = [Finding(RIGHT, 0.9), Finding(LEFT, 0.6), Finding(NEARLY, 0.3)]


def test_mean():
    values, score = select_map(FINDINGS, "mean")
    np.testing.assert_allclose(values, (RIGHT + LEFT + NEARLY) / 3, rtol=1e-6)
    assert score == pytest.approx(0.6)
    assert (values > 0.5).sum() == 12  # what two of three agree on
    assert select_map([Finding(LEFT), Finding(RIGHT, 0.5)], "mean")[1] is None


def test_score():
    values, score = select_map(FINDINGS, "score")
    assert values is not None
    assert np.array_equal(values, RIGHT)
    assert score == 0.9
    with pytest.raises(ValueError, match="doesn't say how sure it is: select by mean, agreement or prms"):
        select_map([Finding(LEFT), Finding(RIGHT)], "score")


def test_agreement():
    values, score = select_map(FINDINGS, "agreement")
    assert np.array_equal(values, LEFT)  # as similar to the others as the third, and before it
    assert score == 0.6
    np.testing.assert_allclose(agreement([RIGHT, LEFT, NEARLY]), [0, 12 / 20 / 2, 12 / 20 / 2])
    np.testing.assert_allclose(agreement([LEFT]), [0])
    np.testing.assert_allclose(agreement([0 * LEFT, 0 * LEFT]), [1, 1])


def test_the_scale_of_scores_means_nothing():
    findings = [Finding(14 * RIGHT), Finding(LEFT), Finding(0.1 * LEFT)]
    assert np.array_equal(select_map(findings, "agreement", relative=True)[0], LEFT)
    averaged = select_map(findings, "mean", relative=True)[0]
    assert averaged[3, 2] == pytest.approx(2 / 3)
    assert select_map(findings, "mean")[0][3, 2] == pytest.approx(1.1 / 3)


def test_one_expression_is_its_own_map():
    for how in ("mean", "score", "agreement", "prms"):
        values, score = select_map([FINDINGS[1]], how, judge=lambda maps: pytest.fail("nothing to choose from"))
        assert (values is not None, score) == (True, 0.6)
        assert np.array_equal(values, LEFT)


def test_maps_of_different_sizes():
    small = LEFT[::2, ::2].copy()
    values = select_map([Finding(small), Finding(LEFT)], "mean")[0]
    assert values.shape == (6, 8)
    np.testing.assert_allclose(agreement([LEFT, resize(small, 12, 16)]), agreement([LEFT, small]))


def test_the_map_that_a_judge_prefers():
    values, score = select_map(FINDINGS, "prms", judge=lambda maps: np.array([0.1, 0.2, 0.7]))
    assert np.array_equal(values, NEARLY)
    assert score == 0.3
    with pytest.raises(ValueError, match="prms needs a judge"):
        select_map(FINDINGS, "prms")


@pytest.fixture
def judge():
    torch.manual_seed(0)
    words = [f"w{i}" for i in range(20)]
    tokenizer = ExpressionTokenizer(build_clip_tokenizer(words), 8)
    return ResponseMapScorer(CLIPScorer({**VIT, **TEXT}, tokenizer), tokenizer)


def test_a_judge_sees_all_expressions_below_every_map(judge):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8))
    maps = [7 * RIGHT, LEFT, NEARLY]
    found = judge.scores(photo, maps, ["w1 w2", "w3"])
    image = judge.preprocess.normalize(judge.preprocess.image(photo)[None])
    for one, score in zip(maps, found, strict=True):
        seen = judge.scorer.embed_images(image, torch.from_numpy(one)[None, None])
        texts = [judge.scorer.embed_texts(judge.tokenizer([text]).input_ids) for text in ("w1 w2", "w3")]
        assert score == pytest.approx(sum((seen @ text.T).item() for text in texts), abs=1e-5)
    assert len(set(found.round(6))) == 3
    assert judge.origin.startswith("CLIP ")
    assert len(judge.origin) == 17


def test_golden_selection_of_response_maps(shared, tmp_path):
    """Official maps of each expression, weights of the official scorer, the indices that the official code selected."""
    pytest.importorskip("maskris.models.tris_localizer", reason="there is no TRISLocalizer yet")
    from models.small_tris import tiny_localizer

    case = golden(shared, "tris_case.safetensors")
    save_file(golden(shared, "tris_scorer_state.safetensors"), tmp_path / "scorer.safetensors")
    model, scorer = tiny_localizer(shared), CLIPScorer(str(tmp_path / "scorer.safetensors"))
    selected = []
    for image in range(3):
        ids, photo = case[f"val{image}_word_ids"], case[f"val{image}_img"]
        with torch.inference_mode():
            scores = model.segment(model.encode_image(photo), ids, ids, torch.zeros(len(ids), dtype=torch.long))
            maps = model.upsample(scores, (64, 96))
        selected.append(int(response_scores(scorer, photo, maps.split(1), ids).argmax()))
    assert selected == golden(shared, "tris_case.json")["prms_selected"]
