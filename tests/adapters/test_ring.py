"""The ring of workers: threads and processes on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from shardmill.adapters.ring import Ring
from shardmill.adapters.ring_wire import LostRankError, Seat, listen

TOKEN = b"t" * 32


def seats(count: int, token: bytes = TOKEN) -> list[tuple[Seat, socket.socket]]:
    listeners = [listen("127.0.0.1") for _ in range(count)]
    addresses = tuple(("127.0.0.1", listener.getsockname()[1]) for listener in listeners)
    return [(Seat(rank, addresses, token), listener) for rank, listener in enumerate(listeners)]


def in_a_ring(count: int, work: Callable[[Ring], Any], silent_seconds: float = 30.0) -> list[Any]:
    """Run ``work`` in as many threads, each with its place in one ring; give what each returned or raised."""

    def run(seat: Seat, listener: socket.socket) -> Any:
        with listener:
            ring = Ring(seat, listener, join_seconds=10, silent_seconds=silent_seconds)
        try:
            return work(ring)
        except LostRankError as error:
            return error
        finally:
            ring.close()

    with ThreadPoolExecutor(count) as threads:
        return [call.result() for call in [threads.submit(run, *seat) for seat in seats(count)]]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 7, 200_003])
def test_every_rank_gets_the_sum_bit_by_bit_the_same(count: int, size: int) -> None:
    parts = [np.random.default_rng(rank).normal(size=size).astype(np.float32) for rank in range(count)]
    sums = in_a_ring(count, lambda ring: ring.sum(parts[ring.rank].copy()))
    assert sums[0] == pytest.approx(np.sum(parts, axis=0, dtype=np.float64), abs=1e-4)
    assert all(np.array_equal(found, sums[0]) for found in sums)


def test_whole_numbers_are_added_without_rounding() -> None:
    large = 2**53 + 1
    sums = in_a_ring(3, lambda ring: ring.sum(np.array([large, ring.rank], np.int64)))
    assert [found.tolist() for found in sums] == [[3 * large, 3]] * 3


def test_sums_follow_one_another_however_unequal_the_ranks_are() -> None:
    def work(ring: Ring) -> list[float]:
        found = []
        for turn in range(20):
            time.sleep(0.01 * ((turn + ring.rank) % 3))
            found.append(float(ring.sum(np.full(50_000, ring.rank + turn, np.float32))[-1]))
        return found

    expected = [0 + 1 + 2 + 3 * turn for turn in range(20)]
    assert in_a_ring(3, work) == [expected] * 3


def test_every_rank_gets_the_rows_of_all() -> None:
    rows = in_a_ring(3, lambda ring: ring.gather(np.array([ring.rank, ring.rank**2], np.float64)))
    assert all(np.array_equal(found, [[0, 0], [1, 1], [2, 4]]) for found in rows)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_bytes_of_any_length_are_merged_at_rank_0(count: int) -> None:
    parts = [b"", b"b" * 300_000, b"c", b"dd"][:count]
    folded = in_a_ring(count, lambda ring: ring.fold(parts[ring.rank], lambda before, own: before + own))
    assert folded[0] == b"".join(parts[1:]) + parts[0]
    after = in_a_ring(count, lambda ring: (ring.fold(b"x", bytes.__add__), ring.sum(np.ones(3, np.int64)).tolist())[1])
    assert after == [[count] * 3] * count


@pytest.mark.parametrize("count", [2, 3])
def test_rank_0_takes_what_was_merged_however_long_ago_the_others_left(count: int) -> None:
    def work(ring: Ring) -> bytes:
        if ring.rank == 0:
            time.sleep(3)
        return ring.fold(b"%d" % ring.rank, bytes.__add__)

    found = in_a_ring(count, work)
    assert found[0] == b"1" + b"2" * (count - 2) + b"0"


def test_a_rank_that_merges_for_long_is_not_taken_for_silent() -> None:
    def slowly(before: bytes, own: bytes) -> bytes:
        time.sleep(4.5)
        return before + own

    def work(ring: Ring) -> bytes:
        return ring.fold(b"%d" % ring.rank, slowly if ring.rank == 2 else bytes.__add__)

    assert in_a_ring(3, work, silent_seconds=3.0)[0] == b"120"


def test_who_cannot_send_waits_to_hear_whom_the_rank_behind_lost() -> None:
    """Rank 1 left because rank 2 is lost; so says rank 3, but later than rank 1 closes its connections."""
    begins = threading.Event()

    def work(ring: Ring) -> None:
        if ring.rank == 0:
            time.sleep(1.5)  # by now a sign of life has gone into the closed connection, and the next bytes fail
            begins.set()
            ring.sum(np.ones(4, np.float32))
        if ring.rank == 3:
            begins.wait()
            time.sleep(0.3)
            ring._tell(2)

    assert in_a_ring(4, work)[0].rank == 2


def test_a_rank_that_computes_for_long_is_not_taken_for_silent() -> None:
    def work(ring: Ring) -> float:
        if ring.rank == 1:
            time.sleep(5)
        return float(ring.sum(np.ones(300_000, np.float32))[0])

    assert in_a_ring(3, work, silent_seconds=4.0) == [3.0, 3.0, 3.0]


def test_a_rank_that_hears_all_the_time_tells_the_next_that_it_is_there_too() -> None:
    def work(ring: Ring) -> float:
        if ring.rank == 1:
            ring._beat_seconds = 0.01  # so that rank 2, which waits for it, is never left without a sign
            time.sleep(6)
        return float(ring.sum(np.ones(300_000, np.float32))[0])

    assert in_a_ring(3, work, silent_seconds=4.0) == [3.0, 3.0, 3.0]


def test_a_rank_that_leaves_ends_the_wait_of_all() -> None:
    def work(ring: Ring) -> None:
        if ring.rank == 2:
            return
        ring.sum(np.ones(1000, np.float32))

    found = in_a_ring(4, work)
    assert found[2] is None
    assert all(isinstance(found[rank], LostRankError) for rank in (0, 1, 3))
    assert found[3].rank == 2
    with pytest.raises(LostRankError, match="rank 2"):
        raise found[0]


def test_vectors_that_do_not_belong_together_are_refused() -> None:
    found = in_a_ring(2, lambda ring: ring.sum(np.ones(10 + 2 * ring.rank, np.float32)))
    assert any("out of step" in str(error) for error in found)


def test_a_caller_without_the_token_is_turned_away_and_the_ring_closes_without_it() -> None:
    (first, first_listener), (second, second_listener) = seats(2)
    stranger = Seat(0, first.addresses, b"another token, as long as needed")
    with first_listener, second_listener, ThreadPoolExecutor(2) as threads:
        joining = threads.submit(Ring, second, second_listener, join_seconds=3, silent_seconds=3)
        wrong = threads.submit(Ring, stranger, first_listener, join_seconds=3, silent_seconds=3)
        assert "token" in str(wrong.exception())
        assert isinstance(joining.exception(), LostRankError)


def test_strangers_on_the_port_do_not_keep_the_ranks_from_meeting() -> None:
    (first, first_listener), (second, second_listener) = seats(2)
    with ExitStack() as stack:
        for listener in (first_listener, second_listener):
            stack.enter_context(listener)
            stranger = stack.enter_context(socket.create_connection(listener.getsockname()))
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: a-host-with-a-name-that-is-long-enough\r\n\r\n")
        threads = stack.enter_context(ThreadPoolExecutor(2))
        joining = [
            threads.submit(Ring, seat, listener, join_seconds=20, silent_seconds=5)
            for seat, listener in ((first, first_listener), (second, second_listener))
        ]
        rings = [call.result() for call in joining]
        sums = [threads.submit(ring.sum, np.ones(4, np.float32)) for ring in rings]
        assert [call.result().tolist() for call in sums] == [[2, 2, 2, 2]] * 2
        for ring in rings:
            ring.close()


def test_a_rank_that_never_comes_is_named() -> None:
    (first, listener), (_, other) = seats(2)
    with listener, other, pytest.raises(LostRankError, match=r"rank 1 did not join"):
        Ring(first, listener, join_seconds=0.5, silent_seconds=5)


PEER = """
import sys, socket, numpy as np
from shardmill.adapters.ring import Ring
from shardmill.adapters.ring_wire import Seat
rank, descriptor, ports = int(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]]
listener = socket.socket(fileno=descriptor)
seat = Seat(rank, tuple(("127.0.0.1", port) for port in ports), b"t" * 32)
ring = Ring(seat, listener, join_seconds=60, silent_seconds=2)
print("joined", flush=True)
for line in sys.stdin:
    try:
        print("sum", ring.sum(np.ones(100_000, np.float32))[0], flush=True)
    except ConnectionError as error:
        print("lost", error, flush=True)
"""


@pytest.fixture
def peers() -> Iterator[list[subprocess.Popen[str]]]:
    found = []
    placed = seats(3)
    ports = [str(port) for _, port in placed[0][0].addresses]
    for seat, listener in placed:
        command = [sys.executable, "-c", PEER, str(seat.rank), str(listener.fileno()), *ports]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[listener.fileno()]
        )
        found.append(process)
        listener.close()
    yield found
    for process in found:
        process.kill()
        process.communicate()


def lines(processes: list[subprocess.Popen[str]]) -> list[str]:
    return [str(process.stdout.readline()).strip() for process in processes if process.stdout]


def ask(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        print("sum", file=process.stdin, flush=True)


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
def test_a_process_that_stops_or_dies_is_named_by_the_others(peers: list[subprocess.Popen[str]], how: int) -> None:
    assert lines(peers) == ["joined"] * 3
    ask(peers)
    assert lines(peers) == ["sum 3.0"] * 3
    os.kill(peers[1].pid, how)
    others = [peers[0], peers[2]]
    ask(others)
    watch = threading.Timer(60, peers[1].kill)
    watch.start()
    told = lines(others)
    watch.cancel()
    assert all(line.startswith("lost rank 1") for line in told), told
