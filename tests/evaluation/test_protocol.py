import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import pytest

from maskris.evaluation.protocol import PRESETS, PUBLISHED_INPUTS, Protocol, exact


def test_presets_are_what_the_papers_did():
    maskris, lavt, cris, grefcoco = (Protocol.of(name) for name in ("maskris", "lavt", "cris", "grefcoco"))
    assert (maskris.resolution, maskris.binarization, maskris.comparison) == ("input", "argmax", ">=")
    assert maskris.thresholds == (0.5, 0.6, 0.7, 0.8, 0.9)
    assert (lavt.resolution, lavt.comparison, lavt.empty_target) == ("input", ">=", "miss")
    assert (cris.resolution, cris.binarization, cris.threshold, cris.comparison) == ("original", "threshold", 0.35, ">")
    assert (grefcoco.empty_target, grefcoco.minimum_pixels, grefcoco.resolution) == ("hit", 50, "input")
    ours = Protocol.of("grefcoco-original")
    assert replace(ours, name="grefcoco", resolution="input") == grefcoco
    assert ours.resolution == "original"
    assert {name: tuple(given) for name, given in PUBLISHED_INPUTS.items()} == {
        "maskris": (448, "sent"), "lavt": (480, "raw"), "cris": (None, "sent"), "grefcoco": (480, "raw"),
        "tris": (None, "sent"),
    }  # fmt: skip
    for name, published in PUBLISHED_INPUTS.items():
        assert (Protocol.of(name).resolution == "input") is (published.size is not None)


def test_weakly_supervised_presets_are_what_is_published():
    tris, honest, sag, peak = (Protocol.of(name) for name in ("tris", "tris-empty", "sag", "peak"))
    assert {one.resolution for one in (tris, honest, sag, peak)} == {"original"}
    assert (tris.map, tris.binarization, tris.align_corners, tris.all_negative) == ("score", "argmax", True, "whole")
    assert replace(honest, name="tris", all_negative="whole") == tris
    assert (sag.map, sag.binarization, sag.threshold, sag.enlarge) == ("probability", "range", 0.5, "direct")
    assert (peak.map, peak.binarization, peak.threshold) == ("probability", "peak", 0.5)
    assert [one.pointing for one in (tris, honest, sag, peak)] == [True, True, False, True]
    assert "aligned corners, score > 0, all-negative maps count as the whole photo" in tris.describe()
    assert "all-negative maps count as empty" in honest.describe()
    assert "in one step from the model's stride, probability >= 0.5 of the way from its lowest" in sag.describe()
    assert "probability > 0.5 of its peak" in peak.describe()
    assert "masks as given" in tris.describe(given=True)
    assert "corners" not in tris.describe(given=True)


@pytest.mark.parametrize("name", PRESETS)
def test_names_round_trips_and_describes_itself(name):
    protocol = Protocol.of(name)
    assert protocol.name == name
    assert Protocol.from_dict(protocol.to_dict()) == protocol
    assert Protocol.of(protocol) is protocol
    text = protocol.describe((448, 320))
    assert text.startswith(name)
    assert f"IoU {protocol.comparison} X" in text
    assert ("448 x 320" in text) == (protocol.resolution == "input")
    assert ("0.35" in text) == (name == "cris")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolution": "full"}, "resolution must be one of input, original, not 'full'"),
        ({"binarization": "otsu"}, "binarization"),
        ({"comparison": "="}, "comparison"),
        ({"empty_target": "nan"}, "empty_target"),
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"thresholds": (0.5, 0.0)}, "between 0 and 1"),
        ({"thresholds": (0.5, 0.5)}, "twice"),
        ({"thresholds": (1 / 3,)}, "six decimals"),
        ({"minimum_pixels": -1}, "negative"),
        ({"map": "logit"}, "map must be one of probability, score, not 'logit'"),
        ({"align_corners": True}, "the original size"),
        ({"enlarge": "direct"}, "the original size"),
        ({"binarization": "threshold", "map": "score"}, "a threshold cuts probabilities"),
        ({"all_negative": "whole"}, "needs the map 'score'"),
        ({"all_negative": "whole", "map": "score", "binarization": "range"}, "cut by argmax or peak"),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**values)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="choose one of maskris, lavt, original, cris, grefcoco"):
        Protocol.of("refer")
    with pytest.raises(ValueError, match="Unknown protocol keys size"):
        Protocol.from_dict({"size": 448})


def test_decimals_are_exact():
    assert exact(0.7) == Fraction(7, 10) != Fraction(0.7)


def test_module_is_light():
    code = """
import sys, maskris.evaluation.protocol
print([name for name in ("torch", "pyarrow", "transformers", "numpy") if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
