"""What runs in place of a step's job while a fault says so: a process of a line, and what it leaves in S3. Pure."""

from __future__ import annotations

from shardmill.localcloud.emr_state import Cluster, Step
from shardmill.localcloud.fault_state import Fault

_FAILS = 'test -z "$1" || printf "%s\\n" "$1" >&2; exit "$2"'


def stand_in_command(fault: Fault) -> tuple[str, ...]:
    """Give the program that takes the place of the job."""
    if fault.kind == "step_failure":
        return ("sh", "-c", _FAILS, "step", fault.text, str(fault.status))
    if fault.kind == "step_hang":
        return ("sleep", "infinity")
    return ("sleep", str(1.0 if fault.seconds is None else fault.seconds))


def stand_in_writes(fault: Fault, cluster: Cluster, step: Step) -> dict[str, str]:
    """Give the texts that the step puts, by URI, with the names of its cluster and itself filled in."""
    last = step.arguments[-1] if step.arguments else ""
    names = {
        "{cluster}": cluster.id,
        "{step}": step.id,
        "{name}": step.name,
        "{folder}": last.rpartition("/")[0],
    }

    def filled(text: str) -> str:
        for name, value in names.items():
            text = text.replace(name, value)
        return text

    return {filled(uri): filled(text) for uri, text in fault.writes.items()}
