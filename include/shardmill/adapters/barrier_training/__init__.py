"""Synchronous training on a Spark barrier stage: long-lived workers that exchange among themselves.

The driver (`driver`) starts attempts and tells how far they are; a worker (`worker`) meets the others in a ring, builds
its model and goes through its share of the records (`loop`), exchanging by a rule of `core.rules`. Rules decide, the
ring adds up, and everything that must outlive a process lies in the run's folder.
"""

from __future__ import annotations

from shardmill.adapters.barrier_training.driver import SETTINGS, TooFewSlotsError, TrainingFailedError, train
from shardmill.adapters.barrier_training.job import FeedPlan, Learner, Published, Tools, TrainingJob
from shardmill.adapters.barrier_training.worker import JOIN_SECONDS, Meeting, Seams

__all__ = [
    "JOIN_SECONDS",
    "SETTINGS",
    "FeedPlan",
    "Learner",
    "Meeting",
    "Published",
    "Seams",
    "TooFewSlotsError",
    "Tools",
    "TrainingFailedError",
    "TrainingJob",
    "train",
]
