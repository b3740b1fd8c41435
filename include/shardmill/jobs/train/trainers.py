"""The trainers: how a run's model comes to be, by the spec's ``trainer``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shardmill.adapters.store import Store
from shardmill.core.planning import BadRequestError
from shardmill.core.rules import RULES
from shardmill.core.worker_shares import worker_shares
from shardmill.specs.records import RecordSet, model_inputs
from shardmill.specs.training import TrainSpec
from shardmill.specs.training_run import TrainedModel


@dataclass(frozen=True)
class Training:
    """What is to be trained."""

    name: str
    """Of Spark's application."""
    store: Store
    """The run's folder."""
    records: RecordSet
    spec: TrainSpec
    say: Callable[[str], None]
    """Takes a line of progress."""
    max_reject_share: float = 0.05
    """Largest share of the training records that may be rejects, 0 to 1."""


def train_on_barrier(training: Training) -> tuple[TrainedModel, str]:
    """Train by a rule of `core.rules`, on a barrier stage.

    Returns:
        The model, and what trained it, in words.
    """
    from shardmill.adapters import barrier_training
    from shardmill.adapters.spark_session import spark_context
    from shardmill.jobs.train import worker_tools

    spec, records = training.spec, training.records
    job = barrier_training.TrainingJob(
        spec=spec,
        inputs=model_inputs(spec, records),
        folder=training.store.uri,
        vocabulary=records.vocabulary,
        max_frames=records.max_frames,
        level=records.level,
        train=tuple(worker_shares(records.train, spec.ranks, spec.seed)),
        validation=tuple(worker_shares(records.validation, spec.ranks)),
        tools=worker_tools.TOOLS,
        max_reject_share=training.max_reject_share,
    )
    with spark_context(training.name, settings=barrier_training.SETTINGS) as context:
        trained = barrier_training.train(context, job, worker_tools.SEAMS, training.say)
    for reject in trained.rejects.rejects:
        training.say(f"reject: {reject.file} at offset {reject.offset}: {reject.reason}")
    return trained, f"{RULES[spec.trainer](spec).name}; {spec.ranks} workers"


def train_by_elephas(training: Training) -> tuple[TrainedModel, str]:
    """Train by Elephas.

    Returns:
        The model, and what trained it, in words.
    """
    from shardmill.adapters.spark_session import spark_context
    from shardmill.jobs.train.by_elephas import train_rows

    if training.records.level != "frame":
        raise BadRequestError(
            f"trainer: elephas learns from frame-level records, found {training.records.level}-level ones: "
            "take another trainer"
        )
    # A second try of an asynchronous task would add its first try's steps again.
    tries = 4 if training.spec.mode == "synchronous" else 1
    with spark_context(training.name, settings={"spark.task.maxFailures": str(tries)}) as context:
        return train_rows(context, training)


TRAINERS: dict[str, Callable[[Training], tuple[TrainedModel, str]]] = {
    **dict.fromkeys(RULES, train_on_barrier),
    "elephas": train_by_elephas,
}
