"""A report shows the right rows and the right expressions."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from evaluation.made_up import made_up

from maskris.reporting.html.selection import KEPT, disagreements, extremes, reason_against, saved_rows


def scored(iou, score=0.0, **columns):
    """An evaluation with these IoUs, which only the choice looks at."""
    return made_up(n=len(iou), iou=pa.array(iou, pa.float64()), score=np.broadcast_to(score, len(iou)), **columns)


def test_best_median_and_worst_by_iou():
    one = scored([0.5, 0.9, 0.1, 0.4, 0.8, 0.0, 0.45, 1.0, 0.2])
    assert extremes([one], 3) == ([7, 1, 4], [6, 0, 3], [5, 2, 8])
    assert extremes([one], 2) == ([7, 1], [6, 0], [5, 2])
    assert extremes([one], 100) == extremes([one], 3)  # no expression is shown twice
    assert extremes([one], 0) == ([], [], [])


def test_several_models_are_judged_by_their_mean():
    first, second = scored([1.0, 0.6, 0.0, 0.2]), scored([0.0, 0.8, 0.2, 0.1])
    assert extremes([first, second], 1) == ([1], [0], [2])


def test_among_equals_the_most_confident_come_first():
    one = scored([0.0, 0.0, 0.0, 0.5, 1.0, 1.0], [0.2, 0.9, 0.5, 0, 0.6, 0.7])
    best, _, worst = extremes([one], 2)
    assert (best, worst) == ([5, 4], [1, 2])


def test_no_expression_is_shown_twice_even_if_all_are_equal():
    groups = extremes([scored([0.0] * 7, [0.1, 0.7, 0.2, 0.6, 0.3, 0.5, 0.4])], 2)
    assert groups == ([1, 3], [4, 2], [5, 6])


def test_photos_are_repeated_only_when_there_are_no_others():
    photos = np.array([1, 1, 1, 2, 3, 4, 5, 6, 6])
    one = scored([0.99, 0.98, 0.97, 0.9, 0.5, 0.5, 0.5, 0.1, 0.1], image_id=photos)
    assert extremes([one], 2)[0] == [0, 3]
    few = scored([0.9, 0.8, 0.7, 0.5, 0.5, 0.5, 0.3, 0.2, 0.1], image_id=np.zeros(9, dtype=int))
    assert extremes([few], 3)[0] == [0, 1, 2]


def test_expressions_that_the_protocol_leaves_out_are_not_shown():
    one = scored([None, 0.3, 0.2, 0.1, None])
    assert extremes([one], 5) == ([1], [2], [3])
    assert extremes([scored([None, None])], 5) == ([], [], [])
    assert extremes([made_up(n=0)], 5) == ([], [], [])
    assert disagreements(one, scored([0.5, 0.3, 0.3, None, None]), 5) == ([], [2])


def test_disagreements_in_both_directions():
    first, second = scored([0.9, 0.1, 0.5, 0.5, 0.3]), scored([0.1, 0.2, 0.5, 0.2, 0.8])
    assert disagreements(first, second, 3) == ([0, 3], [4, 1])
    assert disagreements(second, first, 1) == ([4], [0])


def test_saved_rows_are_found_and_told_apart(tmp_path):
    clean, other = made_up(seed=1), made_up(seed=2)
    hidden = "PatchOcclusion(ratio=0.25, patch_size=8, seed=0, mean=(0.5, 0.5, 0.5))"
    assert saved_rows(tmp_path).clean is None
    other.save(tmp_path / "b.parquet")
    replace(clean, settings={"perturbation": hidden}).save(tmp_path / "a.parquet")
    replace(clean, settings={"perturbation": "Fog(3)"}).save(tmp_path / "c.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"no Parquet")
    found = saved_rows(tmp_path)
    assert (found.file, found.clean) == (tmp_path / "b.parquet", other)
    assert list(found.perturbed) == ["25 % hidden, patches of 8 px", "Fog(3)"]
    clean.save(tmp_path / KEPT)  # what this command has kept comes first
    assert (saved_rows(tmp_path).file, saved_rows(tmp_path).clean) == (tmp_path / KEPT, clean)


def test_perturbed_rows_of_something_else_are_left_out(tmp_path):
    clean = replace(made_up(seed=1), settings={"fingerprint": {"weights": "new"}})
    fog = made_up(seed=2)
    of = {
        "fog": {"perturbation": "fog", "fingerprint": {"weights": "new"}},
        "rain": {"perturbation": "rain", "fingerprint": {"weights": "old"}},
        "snow": {"perturbation": "snow"},  # nothing is known of its weights
    }
    for name, settings in of.items():
        replace(fog, settings=settings).save(tmp_path / f"{name}.parquet")
    replace(made_up(n=7), settings={"perturbation": "hail"}).save(tmp_path / "hail.parquet")
    reasons = {name: reason_against(clean, one) for name, one in saved_rows(tmp_path).perturbed.items()}
    assert reasons == {
        "fog": "",
        "hail": "The evaluations are not of the same expressions: they are of 40 and 7 expressions",
        "rain": "They were measured with other weights",
        "snow": "",
    }
