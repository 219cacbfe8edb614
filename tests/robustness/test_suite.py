"""The shipped suites hold what they say, at any input size."""

import pytest

from maskris.robustness.corruptions import KINDS
from maskris.robustness.suite import CLEAN, FAMILIES, Condition, make_suite


def test_the_full_suite_has_everything_and_quick_a_part_of_it():
    full, quick = (make_suite(name, size=(448, 320), seed=3) for name in ("full", "quick"))
    assert (len(full), len(quick)) == (94, 26)
    assert next(iter(full)) == next(iter(quick)) == CLEAN
    assert all(full[condition] == perturb for condition, perturb in quick.items())
    for suite in (full, quick):
        assert [c.family for c in suite if c != CLEAN] == sorted(
            (c.family for c in suite if c != CLEAN), key=FAMILIES.index
        )
        assert {c.family for c in suite} == {"clean", *FAMILIES}
        assert len({c.key for c in suite}) == len({repr(perturb) for perturb in suite.values()}) == len(suite)
        assert all("seed=3" in repr(perturb) for perturb in suite.values() if perturb is not None)
    assert {c.name for c in full} >= set(KINDS)
    assert sorted(full[Condition("occlusion", f"patches-{n}", 0.5)].patch_size for n in (4, 8, 16)) == [20, 40, 80]
    assert make_suite("quick", size=(5, 9))[Condition("occlusion", "patches-8", 0.5)].patch_size == 1


def test_families_can_be_chosen():
    suite = make_suite("full", size=(64, 64), families=["noise", "text"])
    assert {c.family for c in suite} == {"clean", "noise", "text"}
    with pytest.raises(ValueError, match="no family sound, but occlusion, context"):
        make_suite(size=(64, 64), families=["sound"])
    with pytest.raises(ValueError, match="quick or full, not 'slow'"):
        make_suite("slow", size=(64, 64))


def test_conditions_have_names_for_files_and_people():
    share, level = Condition("text", "typos", 0.25), Condition("blur", "zoom-blur", 3)
    assert (share.key, share.label) == ("typos-0.25", "typos 25%")
    assert (level.key, level.label) == ("zoom-blur-3", "zoom-blur 3")
    assert (CLEAN.key, CLEAN.label) == ("clean", "clean")
    assert Condition("context", "context", 1.0).label == "context 100%"
