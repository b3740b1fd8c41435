"""Which videos make a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardmill.core.batch_pool import BatchPool, Drawn, default_buckets

lengths = st.lists(st.integers(1, 300), max_size=200)
BUCKETS = (60, 120, 180, 240, 300)


def batches_of(
    found: Sequence[int], batch_size: int, limit: int, seed: int | None = 0, buckets: tuple[int, ...] = BUCKETS
) -> list[Drawn[int]]:
    """The batches of videos of these lengths, each video its number, a byte a frame."""
    pool: BatchPool[int] = BatchPool(batch_size, buckets, limit, None if seed is None else np.random.default_rng(seed))
    drawn = [batch for item, length in enumerate(found) for batch in pool.add(item, length, length)]
    return [*drawn, *pool.drain()]


@given(lengths, st.integers(1, 20), st.integers(0, 20_000), st.sampled_from([None, 0, 1]))
def test_each_video_is_in_one_batch_that_is_long_enough_and_all_but_one_are_full(found, batch_size, limit, seed):
    drawn = batches_of(found, batch_size, limit, seed)
    assert sorted(item for batch in drawn for item in batch.items) == list(range(len(found)))
    assert all(found[item] <= batch.length for batch in drawn for item in batch.items)
    assert len(drawn) == math.ceil(len(found) / batch_size)
    assert sum(len(batch.items) < batch_size for batch in drawn) <= 1
    assert all(batch.length in BUCKETS for batch in drawn)


@given(lengths, st.integers(1, 20), st.integers(0, 20_000), st.booleans())
def test_no_more_is_held_than_the_limit_or_two_batches(found, batch_size, limit, shuffled):
    pool: BatchPool[int] = BatchPool(batch_size, BUCKETS, limit, np.random.default_rng(0) if shuffled else None)
    held: set[int] = set()
    for item, length in enumerate(found):
        held.add(item)
        for batch in pool.add(item, length, length):
            held.difference_update(batch.items)
        assert len(held) <= 2 * batch_size or sum(found[number] for number in held) <= limit


def test_the_order_is_that_of_the_seed():
    found = np.random.default_rng(0).integers(1, 301, 500).tolist()
    first, again, other = (batches_of(found, 8, 9000, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_little_is_padded_once_a_few_batches_fit_into_the_pool():
    found = np.random.default_rng(0).integers(60, 301, 4000).tolist()
    for batch_size, most in ((16, 1.07), (64, 1.12)):
        drawn = batches_of(found, batch_size, 600 * 180, buckets=default_buckets(300))
        assert sum(batch.length * len(batch.items) for batch in drawn) < most * sum(found)


def test_lengths_are_spread_over_the_epoch():
    """A pool that gave out short videos first would train on long ones alone at the end."""
    found = np.random.default_rng(0).integers(60, 301, 4000).tolist()
    drawn = batches_of(found, 16, 600 * 180, buckets=default_buckets(300))
    quarters = [np.mean([batch.length for batch in drawn[at : at + 62]]) for at in range(0, 248, 62)]
    assert max(quarters) < 1.15 * min(quarters)


def test_without_a_seed_videos_of_one_length_keep_their_order():
    drawn = batches_of([50] * 10, 4, 10_000, seed=None)
    assert [batch.items for batch in drawn] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_with_a_seed_they_are_mixed_across_the_whole_pool():
    drawn = batches_of([1] * 1000, 10, 500)
    first = drawn[0].items
    assert max(first) > 400 and min(first) < 100
    assert len(drawn) == 100


def test_a_longer_video_than_the_last_bucket_is_refused():
    with pytest.raises(ValueError, match="at most 300 frames in a record, found 301"):
        batches_of([301], 1, 0)


@pytest.mark.parametrize("longest", [1, 6, 10, 60, 151, 300])
def test_buckets_are_few_and_end_in_the_longest(longest):
    buckets = default_buckets(longest)
    assert buckets[-1] == longest
    assert all(length % 20 == 0 for length in buckets[:-1])
    assert len(buckets) <= 15
    assert list(buckets) == sorted(set(buckets))
