"""Batches are functions of seed, step and rank: nothing is lost, nothing comes twice."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskris.data.sampler import EvaluationBatches, TrainingBatches


@st.composite
def worlds(draw):
    world = draw(st.integers(1, 4))
    batch = draw(st.integers(1, 5))
    length = draw(st.integers(world * batch, 60))
    return length, batch, world


@given(worlds(), st.integers(0, 5))
def test_an_epoch_visits_every_item_at_most_once_and_drops_only_the_rest(setup, seed):
    length, batch, world = setup
    ranks = [TrainingBatches(length, batch, seed, rank, world) for rank in range(world)]
    steps = ranks[0].steps_per_epoch
    assert steps == length // (batch * world)
    for epoch in range(2):
        seen = [item for rank in ranks for step in islice(rank, epoch * steps, (epoch + 1) * steps) for item in step]
        assert {e for e, _ in seen} == {epoch}
        assert len(seen) == len(set(seen)) == steps * batch * world
        assert length - len(seen) < batch * world
        assert all(0 <= i < length for _, i in seen)


@given(worlds(), st.integers(0, 5))
def test_one_process_sees_what_several_see_at_every_step(setup, seed):
    length, batch, world = setup
    one = TrainingBatches(length, batch * world, seed)
    several = [TrainingBatches(length, batch, seed, rank, world) for rank in range(world)]
    for step, parts in zip(islice(one, 2 * one.steps_per_epoch + 1), zip(*several, strict=False), strict=False):
        assert step == [item for part in parts for item in part]


@given(worlds(), st.integers(0, 40))
def test_start_step_continues_where_the_other_run_stopped(setup, start):
    length, batch, world = setup
    rank = world - 1
    whole = list(islice(TrainingBatches(length, batch, 7, rank, world), start + 5))
    resumed = list(islice(TrainingBatches(length, batch, 7, rank, world, start_step=start), 5))
    assert resumed == whole[start:]


def test_orders_differ_between_epochs_and_seeds_and_never_change():
    batches = TrainingBatches(20, 4, seed=3)
    assert sorted(batches.order(0).tolist()) == list(range(20))
    assert batches.order(0).tolist() != batches.order(1).tolist()
    assert batches.order(0).tolist() != TrainingBatches(20, 4, seed=4).order(0).tolist()
    assert list(islice(batches, 9)) == list(islice(batches, 9)), "iterating must not advance anything"
    # Written down once: a new version of NumPy or of this code must not change what a seed means.
    assert TrainingBatches(8, 1, seed=0).order(0).tolist() == [6, 1, 2, 0, 4, 3, 7, 5]


def test_orders_are_uniform():
    first = [TrainingBatches(4, 1, seed).order(0)[0] for seed in range(400)]
    assert all(60 < first.count(item) < 140 for item in range(4))


def test_what_is_left_over_differs_between_epochs():
    batches = TrainingBatches(11, 5)
    left = {frozenset(range(11)) - {i for step in islice(batches, e * 2, e * 2 + 2) for _, i in step} for e in range(8)}
    assert len(left) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 7, "batch_size": 4, "world_size": 2}, "8 items, but there are only 7.*at most 3"),
        ({"length": 7, "batch_size": 0}, "batch_size"),
        ({"length": 7, "batch_size": 1, "start_step": -1}, "start_step"),
        ({"length": 7, "batch_size": 1, "rank": 2, "world_size": 2}, "rank"),
    ],
)
def test_contradictions_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingBatches(**arguments)


def expressions_of(batches, counts):
    """Every (image, expression) of some batches, in order."""
    for batch in batches:
        for item in batch:
            image, start, stop = item if isinstance(item, tuple) else (item, 0, counts[item])
            yield from ((image, e) for e in range(start, stop))


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 10), st.integers(1, 4))
def test_evaluation_visits_every_expression_once(counts, room, world):
    ranks = [EvaluationBatches(counts, room, rank, world) for rank in range(world)]
    seen = [pair for rank in ranks for pair in expressions_of(rank, counts)]
    assert sorted(seen) == [(image, e) for image, count in enumerate(counts) for e in range(count)]
    lengths = [len(rank) for rank in ranks]
    assert lengths == [len(list(rank)) for rank in ranks]
    assert max(lengths) - min(lengths) <= 1
    for rank in ranks:
        for batch in rank:
            assert 0 < len(list(expressions_of([batch], counts))) <= room


@given(st.lists(st.integers(1, 6), max_size=30), st.integers(6, 10))
def test_images_that_fit_stay_whole_and_in_order(counts, room):
    batches = list(EvaluationBatches(counts, room))
    assert [image for batch in batches for image in batch] == list(range(len(counts)))
    for batch, following in pairwise(batches):
        assert sum(counts[i] for i in batch) + counts[following[0]] > room, "the next image would have fitted"


def test_an_image_with_too_many_expressions_is_split():
    assert list(EvaluationBatches([2, 7, 1], 3)) == [[(1, 0, 3)], [(1, 3, 6)], [(1, 6, 7)], [0, 2]]


def test_a_batch_without_room_is_refused():
    with pytest.raises(ValueError, match="at least one expression"):
        EvaluationBatches([1], 0)
    with pytest.raises(ValueError, match="rank"):
        EvaluationBatches([1], 1, rank=1)
