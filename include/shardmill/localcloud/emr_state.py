"""How clusters and steps of EMR move from state to state: values and pure functions, the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
OPEN_STEP = ("PENDING", "RUNNING", "CANCEL_PENDING")
ACTIVE_STEP = ("RUNNING", "CANCEL_PENDING")
_ERRORS = ("STEP_FAILURE", "BOOTSTRAP_FAILURE", "INSTANCE_FAILURE", "INTERNAL_ERROR", "VALIDATION_ERROR")
_ENDS_CLUSTER = ("TERMINATE_CLUSTER", "TERMINATE_JOB_FLOW")


@dataclass(frozen=True)
class Reason:
    """Why a state was entered."""

    code: str = ""
    message: str = ""
    error_code: str = ""
    """Code of the ErrorDetails, where EMR has one for it."""
    error_data: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Failure:
    """What DescribeStep says of a failed step."""

    reason: str
    message: str
    log_file: str = ""


@dataclass(frozen=True)
class Step:
    """A step of a cluster."""

    id: str
    name: str
    jar: str
    arguments: tuple[str, ...]
    created: float
    on_failure: str = "TERMINATE_CLUSTER"
    main_class: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    state: str = "PENDING"
    started: float | None = None
    ended: float | None = None
    message: str = ""
    failure: Failure | None = None


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    state: str
    failure: Failure | None = None


@dataclass(frozen=True)
class Cluster:
    """A cluster with its steps, the oldest first."""

    id: str
    request: Mapping[str, Any]
    """The arguments of RunJobFlow."""
    created: float
    steps: tuple[Step, ...] = ()
    state: str = "STARTING"
    reason: Reason = Reason()
    ready: float | None = None
    ended: float | None = None
    idle_since: float | None = None
    keeps_alive: bool = False
    protected: bool = False
    concurrency: int = 1
    idle_timeout: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def step(self, step_id: str) -> Step | None:
        """Give the step of this id."""
        return next((step for step in self.steps if step.id == step_id), None)

    def steps_in(self, states: Iterable[str]) -> tuple[Step, ...]:
        """Give the steps that are in one of these states, the oldest first."""
        wanted = tuple(states)
        return tuple(step for step in self.steps if step.state in wanted)


def _with_step(cluster: Cluster, changed: Step) -> Cluster:
    return replace(cluster, steps=tuple(changed if step.id == changed.id else step for step in cluster.steps))


def bootstrapping(cluster: Cluster) -> Cluster:
    """The nodes are there, Spark is being started."""
    return replace(cluster, state="BOOTSTRAPPING") if cluster.state == "STARTING" else cluster


def ready(cluster: Cluster, now: float) -> Cluster:
    """Spark is up: steps may start."""
    if cluster.state != "BOOTSTRAPPING":
        return cluster
    return advance(replace(cluster, state="WAITING", ready=now, idle_since=now), now)


def terminating(cluster: Cluster, reason: Reason, now: float) -> Cluster:
    """The cluster is asked to end: what has not started never will. The first reason stays."""
    if cluster.state not in ALIVE:
        return cluster
    steps = tuple(
        replace(step, state="CANCELLED", ended=now, message="Job terminated") if step.state == "PENDING" else step
        for step in cluster.steps
    )
    return replace(cluster, state="TERMINATING", reason=reason, steps=steps)


def terminated(cluster: Cluster, now: float) -> Cluster:
    """Nothing of the cluster runs any more."""
    if cluster.state != "TERMINATING":
        return cluster
    failed = cluster.reason.code in _ERRORS
    return replace(cluster, state=ENDED[1] if failed else ENDED[0], ended=now)


def add_steps(cluster: Cluster, steps: Iterable[Step], now: float) -> Cluster:
    """Queue steps."""
    return advance(replace(cluster, steps=(*cluster.steps, *steps)), now)


def startable(cluster: Cluster) -> tuple[Step, ...]:
    """Give the steps that may start now, the oldest first, no more at once than the cluster's concurrency."""
    if cluster.state != "RUNNING":
        return ()
    free = cluster.concurrency - len(cluster.steps_in(ACTIVE_STEP))
    return cluster.steps_in(["PENDING"])[: max(0, free)]


def step_started(cluster: Cluster, step_id: str, now: float) -> Cluster:
    """A step runs."""
    step = cluster.step(step_id)
    if step is None or step.state != "PENDING":
        return cluster
    return _with_step(cluster, replace(step, state="RUNNING", started=now))


def step_ended(cluster: Cluster, step_id: str, outcome: Outcome, now: float) -> Cluster:
    """A step's process is gone: note how, and do what the step asks for on failure."""
    step = cluster.step(step_id)
    if step is None or step.state not in ACTIVE_STEP:
        return cluster
    state = "CANCELLED" if step.state == "CANCEL_PENDING" and outcome.state == "INTERRUPTED" else outcome.state
    cluster = _with_step(cluster, replace(step, state=state, ended=now, failure=outcome.failure))
    if state == "FAILED" and step.on_failure in _ENDS_CLUSTER:
        return terminating(cluster, Reason("STEP_FAILURE", "Shut down as step failed"), now)
    if state == "FAILED" and step.on_failure == "CANCEL_AND_WAIT":
        for waiting in cluster.steps_in(["PENDING"]):
            cluster = _with_step(cluster, replace(waiting, state="CANCELLED", ended=now, message="Job terminated"))
    return advance(cluster, now)


def cancel_step(cluster: Cluster, step_id: str, now: float) -> tuple[Cluster, str]:
    """Cancel a step: at once where it waits, by way of CANCEL_PENDING where it runs.

    Returns:
        The cluster, and why the step cannot be cancelled; empty where it can.
    """
    step = cluster.step(step_id)
    if step is None:
        return cluster, f"Step {step_id} is not found in the cluster"
    if step.state == "PENDING":
        cancelled = replace(step, state="CANCELLED", ended=now, message="Cancelled by user")
        return advance(_with_step(cluster, cancelled), now), ""
    if step.state in ACTIVE_STEP:
        return _with_step(cluster, replace(step, state="CANCEL_PENDING", message="Cancelled by user")), ""
    return cluster, f"Step {step_id} is in state {step.state} and can not be cancelled"


def advance(cluster: Cluster, now: float) -> Cluster:
    """Move a cluster that is up to where its steps and the clock put it."""
    if cluster.state not in ("RUNNING", "WAITING"):
        return cluster
    if cluster.steps_in(OPEN_STEP):
        return replace(cluster, state="RUNNING", idle_since=None)
    if cluster.idle_since is None:
        cluster = replace(cluster, idle_since=now)
    cluster = replace(cluster, state="WAITING")
    if not cluster.keeps_alive:
        failed = " with errors" if cluster.steps_in(["FAILED"]) else ""
        return terminating(cluster, Reason("ALL_STEPS_COMPLETED", f"Steps completed{failed}"), now)
    since = cluster.idle_since if cluster.idle_since is not None else now
    if cluster.idle_timeout is not None and now - since >= cluster.idle_timeout:
        message = f"Auto-terminated: the cluster was idle for {cluster.idle_timeout} seconds"
        return terminating(cluster, Reason("USER_REQUEST", message), now)
    return cluster
