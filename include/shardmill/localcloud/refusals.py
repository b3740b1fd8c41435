"""What AWS refuses, and in which words: checks on requests, against what the account holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardmill.localcloud.emr_state import ALIVE, OPEN_STEP, Cluster
from shardmill.localcloud.fleet_refusals import check_nodes
from shardmill.localcloud.image_refusals import Image, check_images
from shardmill.localcloud.releases import RELEASE_LABELS
from shardmill.localcloud.request_refused import RefusedError

MAX_OPEN_STEPS = 256
MAX_BOOTSTRAP_ACTIONS = 16
MIN_IDLE_SECONDS, MAX_IDLE_SECONDS = 60, 604_800
ACTIONS_ON_FAILURE = ("TERMINATE_JOB_FLOW", "TERMINATE_CLUSTER", "CANCEL_AND_WAIT", "CONTINUE")


@dataclass(frozen=True)
class Holdings:
    """What an account holds of the things that a cluster names."""

    images: Mapping[str, Image] = field(default_factory=dict)
    """The available images by id."""
    roles: frozenset[str] = frozenset()
    instance_profiles: frozenset[str] = frozenset()


def check_cluster(request: Mapping[str, Any], holdings: Holdings) -> None:
    """Refuse a RunJobFlow that AWS refuses."""
    if request.get("AmiVersion"):
        raise RefusedError("AmiVersion is not supported, use ReleaseLabel instead.")
    label = request.get("ReleaseLabel")
    if label not in RELEASE_LABELS:
        raise RefusedError(f"The supplied release label is invalid: {label}.")
    _check_roles(request, holdings)
    check_nodes(label, request["Instances"])
    check_images(request, label, holdings.images)
    if len(request.get("BootstrapActions", ())) > MAX_BOOTSTRAP_ACTIONS:
        raise RefusedError(f"At most {MAX_BOOTSTRAP_ACTIONS} bootstrap actions are allowed.")
    if (policy := request.get("AutoTerminationPolicy")) is not None:
        check_idle_timeout(policy)
    concurrency = check_concurrency(request.get("StepConcurrencyLevel", 1))
    if len(request.get("Steps", ())) > MAX_OPEN_STEPS:
        raise RefusedError("Maximum number of active steps (256) for cluster exceeded.")
    check_actions(request.get("Steps", ()), concurrency)


def _check_roles(request: Mapping[str, Any], holdings: Holdings) -> None:
    service, profile = request.get("ServiceRole", ""), request.get("JobFlowRole", "")
    if not service or not profile:
        raise RefusedError("ServiceRole and JobFlowRole (the instance profile) are required.")
    if service.rpartition("/")[2] not in holdings.roles:
        raise RefusedError(f"Invalid ServiceRole: {service}.")
    if profile.rpartition("/")[2] not in holdings.instance_profiles:
        raise RefusedError(f"Invalid InstanceProfile: {profile}.")


def check_idle_timeout(policy: Mapping[str, Any]) -> int:
    """Refuse an AutoTerminationPolicy out of range; give its seconds."""
    seconds = policy.get("IdleTimeout")
    if not isinstance(seconds, int) or not MIN_IDLE_SECONDS <= seconds <= MAX_IDLE_SECONDS:
        raise RefusedError(
            f"IdleTimeout must be between {MIN_IDLE_SECONDS} and {MAX_IDLE_SECONDS} seconds, found {seconds}."
        )
    return seconds


def check_concurrency(level: int) -> int:
    """Refuse a StepConcurrencyLevel out of range."""
    if not 1 <= level <= MAX_OPEN_STEPS:
        raise RefusedError(f"StepConcurrencyLevel must be between 1 and {MAX_OPEN_STEPS}, found {level}.")
    return level


def check_actions(steps: Sequence[Mapping[str, Any]], concurrency: int) -> None:
    """Refuse an ActionOnFailure that is unknown, or that concurrent steps do not allow."""
    for step in steps:
        action = step.get("ActionOnFailure", "CONTINUE")
        if action not in ACTIONS_ON_FAILURE:
            raise RefusedError(f"ActionOnFailure must be one of {', '.join(ACTIONS_ON_FAILURE)}, found {action}.")
        if concurrency > 1 and action != "CONTINUE":
            raise RefusedError(
                f"The ActionOnFailure setting {action} is not valid: with a StepConcurrencyLevel above 1 use CONTINUE."
            )


def check_new_steps(cluster: Cluster, steps: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an AddJobFlowSteps that AWS refuses."""
    if cluster.state not in ALIVE:
        raise RefusedError("A job flow that is shutting down, terminated, or finished may not be modified.")
    if len(cluster.steps_in(OPEN_STEP)) + len(steps) > MAX_OPEN_STEPS:
        raise RefusedError("Maximum number of active steps (256) for cluster exceeded.")
    check_actions(steps, cluster.concurrency)
