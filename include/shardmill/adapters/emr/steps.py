"""Steps: one for a name at a time, whatever was killed or lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shardmill.adapters.emr.calls import StepFailedError, send_once

OPEN_STEP = ("PENDING", "CANCEL_PENDING", "RUNNING")
_JOINABLE_STEP = ("PENDING", "RUNNING")


def ensure_step(emr: Any, emr_once: Any, cluster_id: str, step: Mapping[str, Any]) -> tuple[str, bool]:
    """Join the step of this name that waits or runs, or add it.

    A completed one does not count: whoever asks found its result missing.

    Returns:
        The step's id, and whether this call added it.

    Raises:
        RefusedError: the step is wrong.
    """
    found = _open_steps(emr, cluster_id, step["Name"])
    if found:
        return found[0], False
    told, lost = send_once(
        lambda: str(emr_once.add_job_flow_steps(JobFlowId=cluster_id, Steps=[dict(step)])["StepIds"][0]),
        f"the step {step['Name']}",
    )
    if told:
        return told, True
    found = _open_steps(emr, cluster_id, step["Name"])
    if not found:
        raise StepFailedError(f"the step {step['Name']} was not added to {cluster_id}: {lost}") from lost
    return found[0], True


def _open_steps(emr: Any, cluster_id: str, name: str) -> list[str]:
    pages = emr.get_paginator("list_steps").paginate(ClusterId=cluster_id)
    steps = [step for page in pages for step in page["Steps"] if step["Name"] == name]
    steps.sort(key=lambda step: step["Status"]["Timeline"]["CreationDateTime"])
    return [step["Id"] for step in steps if step["Status"]["State"] in _JOINABLE_STEP]


def cancel_surplus(emr: Any, cluster_id: str, name: str) -> list[str]:
    """Cancel all open steps of a name but the oldest: what a killed sender's request added behind our back.

    Returns:
        The ids of those that are being cancelled.
    """
    surplus = _open_steps(emr, cluster_id, name)[1:]
    if surplus:
        emr.cancel_steps(ClusterId=cluster_id, StepIds=surplus, StepCancellationOption="TERMINATE_PROCESS")
    return surplus


def step_status(emr: Any, cluster_id: str, step_id: str) -> tuple[str, str]:
    """Give a step's state and, where it failed, why: EMR's reason and the last lines of its output."""
    status = emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]["Status"]
    details = status.get("FailureDetails") or {}
    return status["State"], "\n".join(str(details[key]) for key in ("Reason", "Message", "LogFile") if details.get(key))


def step_end(emr: Any, cluster_id: str, step_id: str) -> float | None:
    """Give the time (seconds since the epoch) at which a step ended; None where it did not, or never began."""
    end = emr.describe_step(ClusterId=cluster_id, StepId=step_id)["Step"]["Status"]["Timeline"].get("EndDateTime")
    return float(end.timestamp()) if end else None


def cancel_step(emr: Any, cluster_id: str, step_id: str) -> None:
    """Cancel a step, running or not."""
    emr.cancel_steps(ClusterId=cluster_id, StepIds=[step_id], StepCancellationOption="TERMINATE_PROCESS")
