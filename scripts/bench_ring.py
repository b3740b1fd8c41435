"""Measure our all-reduce beside TensorFlow's collectives: the same processes, the same array, in turn.

    .local/cluster/bin/python scripts/bench_ring.py [--workers 2] [--values 1100000] [--rounds 20]

Prints one line of JSON: the median milliseconds of each and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from shardmill.adapters.ring import Ring
from shardmill.adapters.ring_wire import Seat, listen

LIMIT_SECONDS = 600.0


def arguments() -> argparse.Namespace:
    """Read the command line; ``--rank`` and the ports are for the workers that this program starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--values", type=int, default=1_100_000, help="float32 values to add up")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--descriptor", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--ports", type=int, nargs="*", default=[], help=argparse.SUPPRESS)
    return parser.parse_args()


def tensorflow_sum(rank: int, ports: list[int], values: np.ndarray) -> Callable[[], float]:
    """Give an all-reduce by TensorFlow's ring over gRPC; it returns a value of the sum."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}})
    import tensorflow as tf

    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    held = tf.constant(values)

    @tf.function
    def reduce() -> Any:
        def replica() -> Any:
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, held)

        return strategy.run(replica)

    return lambda: float(reduce()[0].numpy())


def work(asked: argparse.Namespace) -> None:
    """Be one of the workers; rank 0 prints."""
    values = np.random.default_rng(asked.rank).normal(size=asked.values).astype(np.float32)
    count = asked.workers
    by_tensorflow = tensorflow_sum(asked.rank, asked.ports[count:], values)
    seat = Seat(asked.rank, tuple(("127.0.0.1", port) for port in asked.ports[:count]), b"a token for one measurement")
    listener = socket.socket(fileno=asked.descriptor)
    ring = Ring(seat, listener, join_seconds=LIMIT_SECONDS, silent_seconds=LIMIT_SECONDS)
    sides: dict[str, Callable[[], float]] = {
        "ours_ms": lambda: float(ring.sum(values.copy())[0]),
        "tensorflow_ms": by_tensorflow,
    }
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(asked.rounds + 2):
        for name, side in sides.items():
            ring.sum(np.zeros(1, np.float32))  # all begin together
            begun = time.perf_counter()
            side()
            if turn >= 2:
                spent[name].append(1000 * (time.perf_counter() - begun))
    if asked.rank == 0:
        medians = {name: round(statistics.median(times), 2) for name, times in spent.items()}
        print(
            json.dumps(
                {
                    "workers": count,
                    "values": asked.values,
                    **medians,
                    "ratio": round(medians["tensorflow_ms"] / medians["ours_ms"], 2),
                }
            )
        )
    ring.sum(np.zeros(1, np.float32))


def main() -> int:
    """Start the workers and wait for them."""
    asked = arguments()
    if asked.rank >= 0:
        work(asked)
        return 0
    listeners = [listen("127.0.0.1") for _ in range(asked.workers)]
    free = [listen("127.0.0.1") for _ in range(asked.workers)]
    ports = [str(each.getsockname()[1]) for each in (*listeners, *free)]
    for each in free:
        each.close()
    environment = {
        **os.environ,
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    started = []
    for rank, listener in enumerate(listeners):
        descriptor = listener.fileno()
        own = ["--rank", str(rank), "--descriptor", str(descriptor), "--ports", *ports]
        command = [sys.executable, __file__, *sys.argv[1:], *own]
        started.append(subprocess.Popen(command, env=environment, pass_fds=[descriptor]))
        listener.close()
    return max(abs(process.wait()) for process in started)


if __name__ == "__main__":
    sys.exit(main())
