"""Figures show what they should, and leave alone what they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maskris.inference.contact_sheet import Panel, overview
from maskris.inference.predictor import Prediction
from maskris.inference.visualize import (
    PALETTE,
    colors_for,
    draw_predictions,
    font_for,
    inner_edge,
    legend,
    overlay,
    spotlight,
    width_of,
    wrap,
)

RNG = np.random.default_rng(3)
PHOTO = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def square(top, left, bottom, right, size=(40, 60)):
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def prediction(mask, expression="the red one"):
    return Prediction(expression, mask, mask.astype(np.float32), (0, 0, 1, 1) if mask.any() else None, 0.875)


def test_overlays_blend_inside_and_touch_nothing_outside():
    mask = square(5, 10, 20, 40)
    result = np.asarray(overlay(PHOTO, mask, ["#0072b2"], alpha=0.25, outline=False)).astype(int)
    assert np.array_equal(result[~mask], PHOTO[~mask])
    assert np.abs(result[mask] - (0.75 * PHOTO[mask] + 0.25 * np.array([0, 0x72, 0xB2]))).max() <= 0.5
    assert np.array_equal(np.asarray(overlay(PHOTO, [mask], alpha=0, outline=False)), PHOTO)


def test_outlines_are_the_inner_edge_and_lie_above_all_fills():
    below, above = square(5, 5, 30, 30), square(10, 10, 40, 50)
    result = np.asarray(overlay(PHOTO, [below, above], [(255, 0, 0), "lime"]))
    edge = inner_edge(below, 1) & ~inner_edge(above, 1)
    assert (result[edge] == [255, 0, 0]).all()
    assert (result[inner_edge(above, 1)] == [0, 255, 0]).all()
    assert np.array_equal(result[~(below | above)], PHOTO[~(below | above)])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_the_edge_of_a_rectangle(height, width, thickness):
    mask = square(0, 3, height, 3 + width)  # touches the border of the photo
    edge = inner_edge(mask, thickness)
    core = max(0, height - 2 * thickness) * max(0, width - 2 * thickness)
    assert not (edge & ~mask).any()
    # Octagonal: on rectangles a corner may keep some pixels of the edge more.
    assert height * width - core <= edge.sum() <= height * width - core + 4 * thickness * thickness
    if core:
        assert not edge[height // 2, 3 + thickness : 3 + width - thickness].any() or height - 2 * thickness < 4


def test_overlays_of_nothing():
    assert np.array_equal(np.asarray(overlay(PHOTO, [])), PHOTO)
    assert np.array_equal(np.asarray(overlay(PHOTO, np.zeros((40, 60), bool))), PHOTO)


def test_overlays_check_their_arguments():
    with pytest.raises(ValueError, match=r"Mask 2 is of size \[60, 40\].*\[40, 60\]"):
        overlay(PHOTO, [square(0, 0, 1, 1), np.zeros((60, 40))])
    with pytest.raises(ValueError, match="one color per mask"):
        overlay(PHOTO, square(0, 0, 1, 1), ["red", "blue"])
    with pytest.raises(ValueError, match="opacity"):
        overlay(PHOTO, square(0, 0, 1, 1), alpha=2)
    with pytest.raises(ValueError, match="unknown color"):
        overlay(PHOTO, square(0, 0, 1, 1), ["reddish"])


def test_the_palette_starts_again():
    assert colors_for(9)[7] == colors_for(1)[0] == (0x00, 0x72, 0xB2)
    assert len(set(PALETTE)) == len(PALETTE)


def test_a_spotlight_keeps_the_referents_colors():
    mask = square(5, 10, 30, 40)
    result = np.asarray(spotlight(Image.fromarray(PHOTO), mask, "red", 2))
    core = mask & ~inner_edge(mask, 2)
    assert np.array_equal(result[core], PHOTO[core])
    assert (result[inner_edge(mask, 2)] == [255, 0, 0]).all()
    assert result[~mask].min() >= 152, "the rest is pale"


def test_a_legend_stands_below_the_picture():
    picture = Image.fromarray(PHOTO).resize((600, 400))
    short = legend(picture, ["the red one"], ["#123456"], ["0.87"])
    long = legend(picture, ["the red one " * 12], ["#123456"])
    assert short.width == long.width == 600
    assert long.height > short.height > 400
    pixels = np.asarray(short)
    assert np.array_equal(pixels[:400], np.asarray(picture))
    assert (pixels[400:] == [0x12, 0x34, 0x56]).all(-1).sum() > 50, "the swatch"
    assert np.asarray(legend(picture, ["", ""]))[400:, 40:].min() == 255, "no words, no ink"
    assert np.array_equal(np.asarray(legend(picture, [])), np.asarray(picture))
    with pytest.raises(ValueError, match="1 labels need as many notes"):
        legend(picture, ["a"], notes=["b", "c"])


def test_small_photos_are_enlarged_for_their_legend():
    mask = square(5, 10, 20, 40)
    drawn = draw_predictions(PHOTO, [prediction(mask), prediction(~mask & False, "nothing")])
    assert drawn.width == 480
    outside = ~mask
    assert np.array_equal(np.asarray(drawn)[4:320:8, 4:480:8][outside], PHOTO[outside])
    photo = np.zeros((500, 700, 3), np.uint8)
    assert draw_predictions(photo, [prediction(photo[..., 0] > 0)]).width == 700


@given(st.text(max_size=80), st.floats(30, 300))
def test_wrapped_text_fits_and_loses_nothing(text, width):
    lines = wrap(text, 12, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert lines
    for line in lines:
        assert width_of(line, 12) <= width or len(line) == 1


def test_letters_beyond_ascii_are_written_somehow():
    assert font_for("the man", 20)[1] == "the man"
    assert font_for("\u00e0 gauche", 20)[1] in ("\u00e0 gauche", "a gauche")
    draw_predictions(
        PHOTO, [prediction(square(0, 0, 5, 5), "die gr\u00f6\u00dfte T\u00fcr \u2192 \u5de6 \U0001f600\n")]
    )


def panel(**changes):
    truth, found = square(0, 0, 10, 10), square(0, 0, 10, 5)
    return Panel(**{"image": PHOTO, "expression": "the one", "predictions": {"A": found}, "truth": truth} | changes)


def test_an_overview_holds_every_panel_in_the_same_grid():
    one, two, three = (overview([panel()] * n, columns=2, cell=64) for n in (1, 2, 3))
    assert one.width < two.width == three.width
    assert one.height == two.height < three.height
    assert np.array_equal(np.asarray(one)[:, : one.width - 20], np.asarray(two)[:, : one.width - 20])
    titled = overview([panel()], title="Unseen scenes", cell=64)
    assert titled.height > one.height
    assert titled.width == one.width


def test_small_scenes_are_enlarged_by_whole_numbers():
    sheet = np.asarray(overview([panel(image=PHOTO[:30, :30], truth=None, predictions={})], cell=100))
    crisp = PHOTO[:30, :30].repeat(3, 0).repeat(3, 1)
    rows = [y for y in range(sheet.shape[0] - 90) if np.array_equal(sheet[y : y + 90, 25:115], crisp)]
    assert len(rows) == 1


def test_an_overview_computes_the_iou_that_is_not_given():
    sheets = [np.asarray(overview([panel(**changes)], cell=64)) for changes in ({}, {"iou": {"A": 0.5}})]
    assert np.array_equal(*sheets)  # 50 of 100 pixels
    assert not np.array_equal(sheets[0], np.asarray(overview([panel(iou={"A": 0.6})], cell=64)))
    nothing = np.zeros((40, 60), dtype=bool)
    both = {"truth": nothing, "predictions": {"A": nothing}}
    assert np.array_equal(*(np.asarray(overview([panel(**both, iou=i)], cell=64)) for i in ({}, {"A": 1.0})))


def test_an_overview_shows_what_was_missed():
    truth = square(10, 10, 30, 50)
    sheet = np.asarray(overview([panel(truth=truth, predictions={"A": np.zeros_like(truth)})], cell=240))
    left = round(240 * 0.2) + 2 * (240 + round(240 * 0.04))
    dark = (sheet[:, left : left + 240] < 60).all(-1)
    assert dark[:, 40].sum() >= 60, "a line along the left edge of the truth"


def test_panels_may_lack_a_truth_or_a_model():
    models = {"A": square(0, 0, 10, 5), "B": square(0, 0, 10, 8)}
    sheet = overview([panel(predictions=models), panel(truth=None, predictions={"A": models["A"]})], cell=48)
    assert sheet.width == overview([panel(predictions=models)] * 2, cell=48).width
    assert overview([panel(truth=None)], cell=48).width < overview([panel()], cell=48).width


def test_an_overview_checks_its_arguments():
    with pytest.raises(ValueError, match="at least one panel"):
        overview([])
    with pytest.raises(ValueError, match="columns >= 1"):
        overview([panel()], columns=0)
    with pytest.raises(ValueError, match="Mask 1 is of size"):
        overview([panel(truth=np.zeros((3, 3)))])
