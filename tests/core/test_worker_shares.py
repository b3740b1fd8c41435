"""Shares of records."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shardmill.core.worker_shares import worker_shares
from shardmill.specs.records import RecordPart


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 7), st.integers(0, 5))
def test_every_record_is_dealt_once_and_evenly(counts: list[int], workers: int, seed: int) -> None:
    parts = [RecordPart(uri=f"file:///lake/{n}", sha256="0", records=count) for n, count in enumerate(counts)]
    shares = worker_shares(parts, workers, seed)
    sizes = [sum(piece.stop - piece.start for piece in share) for share in shares]
    assert len(shares) == workers
    assert max(sizes) - min(sizes) <= 1
    dealt = [(piece.part.uri, index) for share in shares for piece in share for index in range(piece.start, piece.stop)]
    assert sorted(dealt) == sorted((part.uri, index) for part in parts for index in range(part.records))


def test_the_seed_decides_the_order_of_the_parts() -> None:
    parts = [RecordPart(uri=f"file:///lake/{n}", sha256="0", records=3) for n in range(8)]
    assert worker_shares(parts, 2, 1) == worker_shares(parts, 2, 1)
    assert worker_shares(parts, 2, 1) != worker_shares(parts, 2, 2)
