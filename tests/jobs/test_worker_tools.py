"""What workers of the barrier stage read."""

from __future__ import annotations

import pytest

from shardmill.adapters.barrier_training import FeedPlan, TrainingJob
from shardmill.core.worker_shares import PartSlice
from shardmill.jobs.train.worker_tools import TOOLS, open_feed
from shardmill.specs.records import RecordPart
from shardmill.specs.training import TrainSpec


@pytest.mark.parametrize(
    ("trainer", "workers", "batch_size", "batches"),
    [
        ("single", 3, 8, 3),  # alone, whatever workers says
        ("local_sgd", 1, 8, 3),
        ("allreduce", 2, 8, 6),
        ("local_sgd", 3, 8, 8),  # rounded up
        ("local_sgd", 3, 1, 24),  # one at least
    ],
)
def test_a_batch_is_shared_out_among_the_workers(trainer, workers, batch_size, batches):
    spec = TrainSpec(trainer=trainer, workers=workers, batch_size=batch_size)
    share = (PartSlice(RecordPart(uri="file:///part.tfrecord", sha256="", records=24), 0, 24),)
    job = TrainingJob(
        spec=spec,
        inputs="0123456789ab",
        folder="file:///run",
        vocabulary=("red", "tone"),
        max_frames=6,
        level="frame",
        train=(share,) * spec.ranks,
        validation=(share,) * spec.ranks,
        tools=TOOLS,
    )
    feed = open_feed(job, share, FeedPlan(0, "frame", shuffle=True))
    assert feed.batches == batches
