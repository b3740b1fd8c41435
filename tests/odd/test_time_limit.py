"""Work without end ends at the limit, and costs no other video."""

from __future__ import annotations

import time

import pytest
from odd.conftest import shard_of
from odd.inputs import HEAVY
from odd.rows import Becomes
from odd.splitting import HAS_TIME_LIMIT, Place

WORKERS, LIMIT_SECONDS, GRACE_SECONDS = 2, 5, 6
START_SECONDS = 10
"""To start, and to cut the good ones."""

pytestmark = pytest.mark.skipif(not HAS_TIME_LIMIT, reason="Splitting has no field video_seconds")


@pytest.fixture(scope="module")
def split(tmp_path_factory, made, good) -> tuple[Place, float]:
    """Split all heavy files at once; with the seconds that it took."""
    place = Place(tmp_path_factory.mktemp("heavy"))
    place.ingest(shard_of(made, good, HEAVY))
    began = time.monotonic()
    place.split(video_seconds=LIMIT_SECONDS, workers=WORKERS)
    return place, time.monotonic() - began


@pytest.mark.parametrize("name", HEAVY)
def test_work_without_end_is_one_reject(split, name: str):
    result = split[0].result()
    assert result.fates(name) == [HEAVY[name].fate], result.words(name)
    assert "expected" in result.words(name)


def test_work_without_end_is_given_up_in_time_and_costs_no_other_video(split):
    place, took = split
    result = place.result()
    assert result.fates("good-first") == [Becomes(2, 75)]
    assert result.fates("good-last") == [Becomes(2, 75)]
    rounds = -(-len(HEAVY) // WORKERS)
    assert took < rounds * (LIMIT_SECONDS + GRACE_SECONDS) + START_SECONDS
    assert list(place.scratch.iterdir()) == []
    assert place.processes() == []
