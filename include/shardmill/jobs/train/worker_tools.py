"""What a worker of the barrier stage works with; Spark ships these functions by their names."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from typing import cast

from shardmill.adapters import barrier_training
from shardmill.adapters.barrier_training.job import EventLog, Feed
from shardmill.adapters.barrier_training.place import Ring
from shardmill.adapters.checkpoints import Checkpoints
from shardmill.adapters.model_store import put_weights
from shardmill.adapters.ring import Ring as TcpRing
from shardmill.adapters.ring_wire import Seat, listen
from shardmill.adapters.store import Store
from shardmill.core.ablations import FrameSums
from shardmill.core.planning import BadRequestError
from shardmill.core.worker_shares import PartSlice

_KEPT_MB, _WINDOW_MB = 192, 128
"""Of memory for a worker's records: kept between epochs, and drawn from."""
_MEASURED_KEPT_MB, _MEASURED_WINDOW_MB = 64, 32
"""The same of validation, whose order is of no account."""


def open_learner(job: barrier_training.TrainingJob, rank: int) -> barrier_training.Learner:
    """Build the model and compile its step, of this rank."""
    from shardmill.adapters.keras_models import build_model, model_level, named_weights
    from shardmill.adapters.model_export import export_model
    from shardmill.adapters.train_step import TrainStep

    labels = len(job.vocabulary)
    model = build_model(labels, job.spec)
    step, level = TrainStep(model, job.spec, labels, rank=rank), model_level(model)
    if level == "frame" and job.level == "video":
        raise BadRequestError(
            f"model: {job.spec.model} learns from frames, and the records are means of videos: take video_level_dense"
        )

    def publish(sums: FrameSums) -> barrier_training.Published:
        store, trained = Store(job.folder), step.model()
        arrays = named_weights(trained)
        means = {"mean.rgb": sums.means.rgb, "mean.audio": sums.means.audio} if level == "frame" else {}
        key, sha256 = put_weights(store, {**arrays, **means})
        parameters = sum(array.size for array in arrays.values())
        return barrier_training.Published(key, sha256, parameters, export_model(store, trained, job.vocabulary))

    return barrier_training.Learner(step, level, publish, step.engine)


def open_feed(job: barrier_training.TrainingJob, share: tuple[PartSlice, ...], plan: barrier_training.FeedPlan) -> Feed:
    """Read a share of the records, in batches."""
    from shardmill.adapters.record_batches import BatchPlan, RecordBatches

    batches = BatchPlan(
        batch_size=job.spec.worker_batch_size,
        labels=len(job.vocabulary),
        max_frames=job.max_frames,
        level=plan.level,
        seed=job.spec.seed,
        shuffle=plan.shuffle,
        memory_mb=_KEPT_MB if plan.shuffle else _MEASURED_KEPT_MB,
        window_mb=_WINDOW_MB if plan.shuffle else _MEASURED_WINDOW_MB,
        max_reject_share=1.0,  # of one share: what counts is that of all, which the workers check together
    )
    return cast("Feed", RecordBatches(share, batches, rank=plan.rank))


def open_events(job: barrier_training.TrainingJob) -> AbstractContextManager[EventLog]:
    """Open TensorBoard's log."""
    from shardmill.adapters.barrier_training.event_log import event_log

    return event_log(Store(job.folder), job.attempt)


def import_ahead() -> None:
    """Import TensorFlow, and what stands on it."""
    import shardmill.adapters.train_step  # noqa: F401


def join(meeting: barrier_training.Meeting, listener: socket.socket, token: bytes, silent_seconds: float) -> Ring:
    """Join the ring of an attempt's workers."""
    seat = Seat(meeting.rank, meeting.addresses, token)
    return TcpRing(seat, listener, join_seconds=barrier_training.JOIN_SECONDS, silent_seconds=silent_seconds)


TOOLS = barrier_training.Tools(learner=open_learner, feed=open_feed, events=open_events, prepare=import_ahead)
SEAMS = barrier_training.Seams(listen=listen, join=join, checkpoints=Checkpoints)
