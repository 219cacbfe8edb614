"""Rules as they are written, and what they take."""

import numpy as np
import pytest

from maskris.labeling.refine.rules import Rule

MAP = np.array([[0.0, 0.2, 0.5], [0.6, 0.8, 0.3]], dtype=np.float32)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("threshold:0.5", [[0, 0, 0], [1, 1, 0]]),  # a tie is background
        ("threshold:0", [[0, 1, 1], [1, 1, 1]]),
        ("threshold:2", [[0, 0, 0], [0, 0, 0]]),
        ("peak:0.5", [[0, 0, 1], [1, 1, 0]]),  # above 0.4
        ("peak:0", [[0, 1, 1], [1, 1, 1]]),
    ],
)
def test_what_rules_take(text, taken):
    rule = Rule.parse(text)
    assert str(rule) == text
    assert rule.mask(MAP).dtype == bool
    assert rule.mask(MAP).astype(int).tolist() == taken


def test_the_scale_of_a_map_means_nothing_to_its_peak():
    assert np.array_equal(Rule.parse("peak:0.4").mask(MAP), Rule.parse("peak:0.4").mask(14 * MAP))
    assert not Rule.parse("peak:0").mask(0 * MAP).any()


@pytest.mark.parametrize(
    "text", ["0.5", "peak", "peak:", "peak:half", "otsu-2:0.5", "threshold:-1", "peak:0.5;", "peak:1e-3"]
)
def test_what_is_no_rule(text):
    with pytest.raises(ValueError, match=r"threshold:T or peak:F, such as peak:0\.5"):
        Rule.parse(text)


def test_values_out_of_range():
    with pytest.raises(ValueError, match=r"share of the map's maximum in \[0, 1\), not 1"):
        Rule.parse("peak:1")
    with pytest.raises(ValueError, match="a number of at least 0, not -1"):
        Rule("threshold", -1)
    with pytest.raises(ValueError, match="threshold or peak, not 'otsu'"):
        Rule("otsu", 0.5)
