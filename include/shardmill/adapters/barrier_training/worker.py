"""What a task of the barrier stage runs: meet the others, train, leave what came of it."""

from __future__ import annotations

import faulthandler
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark import BarrierTaskContext

from shardmill.adapters.barrier_training.job import FeedPlan, Learner, TrainingJob
from shardmill.adapters.barrier_training.loop import RankLoop
from shardmill.adapters.barrier_training.place import Checkpoints, Place, Ring, merged_rejects
from shardmill.adapters.barrier_training.reporting import Telling
from shardmill.adapters.barrier_training.state import RankState
from shardmill.adapters.barrier_training.watch import Watch
from shardmill.adapters.store import ChangedObjectError, DamagedObjectError, MissingObjectError, Store
from shardmill.core.rejects import TooManyRejectsError
from shardmill.specs.record_rejects import RejectTally
from shardmill.specs.training_run import TrainedModel

JOIN_SECONDS = 120.0
"""The tasks of a barrier stage start together; so much later the last of them may come."""
JOINED_SECONDS = 600.0
"""While TensorFlow is imported, from a cold disk too, a worker may be silent for longer than one that trains."""
_FINAL = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, TypeError, ValueError),
    NotImplementedError,
    *(ChangedObjectError, DamagedObjectError, MissingObjectError, TooManyRejectsError),
)
"""What another attempt would meet again; the rest is of machines and networks."""


@dataclass(frozen=True)
class Meeting:
    """Where the workers of one attempt meet."""

    rank: int
    addresses: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Seams:
    """What connects workers; functions of modules, for Spark ships them by name."""

    listen: Callable[[str], socket.socket]
    join: Callable[[Meeting, socket.socket, bytes, float], Ring]
    """Takes also the token and the seconds that a rank may be silent."""
    checkpoints: Callable[[Store, str], Checkpoints]


@dataclass(frozen=True, eq=False)
class BarrierTask:
    """A worker, as a function of the rows of its partition, of which there are none that count."""

    job: TrainingJob
    seams: Seams

    def __call__(self, _: Iterable[Any]) -> Iterator[str]:
        context = BarrierTaskContext.get()
        hosts = [info.address.rpartition(":")[0] for info in context.getTaskInfos()]
        rank = context.partitionId()
        # To meet takes a second, for Spark looks once a second. What fails here fails again where it is needed.
        threading.Thread(target=self.job.tools.prepare, name="prepare", daemon=True).start()
        with closing(self.seams.listen(hosts[rank])) as listener:
            ports = context.allGather(str(listener.getsockname()[1]))
            addresses = tuple((host, int(port)) for host, port in zip(hosts, ports, strict=True))
            yield run_rank(self.job, self.seams, Meeting(rank, addresses), listener)


def run_rank(job: TrainingJob, seams: Seams, meeting: Meeting, listener: socket.socket) -> str:
    """Train as one of the workers that meet.

    Returns:
        At rank 0 the JSON of a TrainedModel; elsewhere nothing.
    """
    faulthandler.enable()
    store = Store(job.folder)
    with closing(Watch(store, job.attempt, meeting.rank, job.spec.stall_seconds)) as watch, ExitStack() as opened:
        try:
            return _train(job, seams, meeting, _Held(listener, store, watch, opened))
        except ConnectionError as error:
            # The reason must lie there before this worker's connections close, for the others fail by that.
            watch.say(f"lost: {error}; stacks: {watch.dump_stacks(error)}")
            watch.fail(error, is_final=False, is_cause=False)
            raise
        except BaseException as error:
            watch.fail(error, is_final=isinstance(error, _FINAL), is_cause=True)
            raise


@dataclass(frozen=True, eq=False)
class _Held:
    listener: socket.socket
    store: Store
    watch: Watch
    opened: ExitStack


def _train(job: TrainingJob, seams: Seams, meeting: Meeting, held: _Held) -> str:
    store, watch, opened = held.store, held.watch, held.opened
    watch.say(f"joins {len(meeting.addresses)} workers")
    ring = seams.join(meeting, held.listener, job.token, max(job.spec.stall_seconds, JOINED_SECONDS))
    opened.callback(ring.close)
    learner = job.tools.learner(job, meeting.rank)
    with watch.elsewhere():
        ring.gather(np.zeros(1))  # the last of them has its model too before anybody is missed sooner
    ring.silent_seconds = job.spec.stall_seconds
    train, validation = (
        job.tools.feed(job, share[meeting.rank], FeedPlan(meeting.rank, learner.level, shuffle=shuffle))
        for share, shuffle in ((job.train, True), (job.validation, False))
    )
    telling = None
    if meeting.rank == 0:
        telling = Telling(store, job.attempt, job.inputs, opened.enter_context(job.tools.events(job)))
        telling.say(", ".join(filter(None, (f"{ring.size} workers are ready", learner.told))))
    place = Place(ring, watch, seams.checkpoints(store, job.inputs), train, validation, telling)
    state = RankLoop(job, learner, place).run()
    with watch.elsewhere():
        rejects = merged_rejects(place)
        return _publish(learner, state, rejects) if meeting.rank == 0 else ""


def _publish(learner: Learner, state: RankState, rejects: RejectTally) -> str:
    published = learner.publish(state.sums)
    return TrainedModel(
        weights=published.weights,
        weights_sha256=published.weights_sha256,
        exports=published.exports,
        parameters=published.parameters,
        records=state.sums.records,
        label_counts=tuple(int(count) for count in state.sums.labels),
        history=tuple(state.history),
        seconds=round(state.seconds, 3),
        examples=state.examples,
        rejects=rejects,
    ).model_dump_json()
