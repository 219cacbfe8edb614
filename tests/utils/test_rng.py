"""Draws depend on their key and on nothing else."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskris.utils.rng import KeyedRandom, Random, generator, numpy_generator, seed_of

components = st.one_of(st.integers(), st.text(max_size=5))
keys = st.lists(components, max_size=5).map(tuple)


def test_seeds_are_the_same_on_every_machine_and_in_every_version():
    assert seed_of() == 6510301506637419378
    assert seed_of(0, "expression", 3, 17) == 8705058502085581796


@given(keys)
def test_seeds_are_in_range_and_repeatable(key):
    assert 0 <= seed_of(*key) < 2**63
    assert seed_of(*key) == seed_of(*key)


@given(keys, keys)
def test_different_keys_have_different_seeds(a, b):
    assert (seed_of(*a) == seed_of(*b)) == (a == b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1, 23), (12, 3)),
        (("ab", "c"), ("a", "bc")),
        ((1,), ("1",)),
        ((1, 2), (2, 1)),
        ((0,), (0, 0)),
        (("s1:1",), ("s", 1)),
        ((1,), (-1,)),
    ],
)
def test_keys_that_look_alike_differ(a, b):
    assert seed_of(*a) != seed_of(*b)


@pytest.mark.parametrize("part", [1.0, True, None, (1,), np.int64(3)])
def test_components_of_other_types_are_refused(part):
    with pytest.raises(TypeError, match=type(part).__name__):
        seed_of(0, part)


def test_torch_generators_repeat_and_leave_the_global_one_alone():
    before = torch.get_rng_state()
    a, b = (torch.rand(100, generator=generator(5, "noise")) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, torch.rand(100, generator=generator(6, "noise")))
    assert torch.equal(torch.get_rng_state(), before)


def test_numpy_generators_repeat_and_leave_the_global_one_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b = (numpy_generator(5, "noise").random(100) for _ in range(2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, numpy_generator(5, "other").random(100))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_streams_of_neighboring_keys_are_unrelated():
    draws = np.stack([numpy_generator(0, "noise", step).random(1000) for step in range(20)])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlation).max() < 0.15  # 5 standard deviations


def test_random_appends_to_its_key():
    rng = Random(3, 17)
    same = rng.child("text").generator("mask").initial_seed()
    assert same == generator(3, 17, "text", "mask").initial_seed()
    assert rng.key == (3, 17), "a child must not change its parent"
    assert pickle.loads(pickle.dumps(rng)).key == rng.key


def test_dropout_depends_on_the_key_alone():
    ones = torch.ones(1000)
    kept = []
    for key in ("clean", "masked", "clean"):
        Random(0, 1).seed_dropout(key)
        kept.append(torch.nn.functional.dropout(ones, 0.5))
    assert torch.equal(kept[0], kept[2])
    assert not torch.equal(kept[0], kept[1])


def test_seeds_need_neither_torch_nor_numpy():
    code = "import sys; import maskris.utils.rng as r; r.seed_of(0); print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_keyed_draws_are_the_same_on_every_machine_and_in_every_version():
    rng = KeyedRandom(1, "a")
    first = [56, 85, 81, 25, 79]
    assert [rng.below(100) for _ in range(5)] == first
    assert KeyedRandom(1, "a").array(0, 100, (5,)).tolist() == first
    assert [KeyedRandom(1, "a").between(200, 300), KeyedRandom(1, "a").pick(range(100))] == [first[0] + 200, first[0]]


def test_a_sample_has_everything_at_most_once():
    rng = KeyedRandom(2)
    drawn = [tuple(rng.sample("abcd", 3)) for _ in range(2000)]
    assert all(len(set(one)) == 3 for one in drawn)
    assert len(set(drawn)) == 24, "all orders of three of four"


def test_reals_follow_their_distributions():
    rng = KeyedRandom("reals")
    uniform, normal = rng.uniform(100, 100), rng.normal(100, 100)
    assert 0 < uniform.min() < 1e-3 < 1 - 1e-3 < uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.02)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0, 1), abs=0.05)
    assert normal.isfinite().all()


def test_counts_of_light_have_the_mean_and_the_variance_of_their_rate():
    levels = torch.tensor([0, 51, 255]).repeat(20_000, 1)
    counts = KeyedRandom("light").poisson(levels, rate=10.0)
    assert counts.shape == levels.shape
    assert torch.equal(counts, counts.round())
    assert torch.equal(counts[:, 0], torch.zeros(20_000, dtype=torch.float64))
    assert counts.mean(0).tolist() == pytest.approx([0, 2, 10], abs=0.1)
    assert counts.var(0).tolist() == pytest.approx([0, 2, 10], rel=0.05)
