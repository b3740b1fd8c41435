"""What a failure of a cluster, a step or a call to AWS most likely means, and what is to be done about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Policy = Literal["retry", "back_off", "fail"]
THROTTLED = (
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "SlowDown",
)
"""The codes by which AWS says that it is asked too often: the call had no effect."""


@dataclass(frozen=True)
class Diagnosis:
    """The most likely cause of a failure."""

    cause: str
    """In words; empty where nothing more is known than what was said."""
    advice: str
    """What a person does about it."""
    policy: Policy = "retry"
    """What Airflow does: try again soon, try again when things may have changed, or fail now."""
    ours: bool = False
    """It lies with the job or with what was asked: another try has the same chances, so there is one only."""


@dataclass(frozen=True)
class _Rule:
    """A telling text and what it means. The text of a rule that comes first counts."""

    text: str
    means: Diagnosis


_CAPACITY = Diagnosis(
    "EC2 has no free nodes of this type in the zone",
    "wait, or ask for another instance type, another subnet (zone), or for instance fleets with several types",
    "back_off",
)
_QUOTA = Diagnosis(
    "the account's quota of vCPUs for this family of instances is used up, or zero",
    "ask for a higher quota in Service Quotas (EC2), ask for fewer or smaller nodes, or wait for other clusters to end",
    "back_off",
)
_THROTTLING = Diagnosis(
    "AWS is asked too often by this account in this region",
    "nothing, it is tried again more slowly; if it stays so, start fewer runs at once",
    "back_off",
)
_ACCESS = Diagnosis(
    "a role or user lacks a permission",
    "give the role named in the message the permission named there: Airflow's, EMR's (service_role) or the nodes' "
    "(instance_profile)",
    "fail",
)
_SPOT = Diagnosis(
    "EC2 took spot nodes back, or had none at the price",
    "nothing, it is tried again; if it stays so, ask for on-demand nodes or for more instance types",
    "back_off",
)
_BOOTSTRAP = Diagnosis(
    "a bootstrap action ended with an error on a node",
    "read node/<instance>/bootstrap-actions/<n>/stderr.gz in the cluster's logs, mend the script, and clear the task",
    "fail",
)
_VALIDATION = Diagnosis(
    "EMR holds the request for wrong", "change the field that the message names, and run again", "fail"
)
_NODES_LOST = Diagnosis(
    "nodes that the cluster cannot do without were lost (spot nodes taken back, a failed machine, or ended by someone)",
    "nothing, another cluster is made while the deadline allows; if it stays so, ask for on-demand nodes",
)

# As EMR words them: https://docs.aws.amazon.com/emr/latest/ManagementGuide/emr-troubleshoot-error-errordetail.html
# and emr-throttling-error.html beside it. What EC2 says is passed on by EMR, so that its codes are found in words too.
_CLUSTER_WORDS = (
    _Rule(r"SPOT_PRICE_INCREASE|SPOT_NO_CAPACITY|spot (?:price|request|capacity)", _SPOT),
    _Rule(
        r"InsufficientInstanceCapacity|INSUFFICIENT_CAPACITY|insufficient .{0,40}capacity|out of capacity"
        r"|(?:not|n't) have (?:sufficient|enough) .{0,60}capacity|InsufficientFreeAddresses|subnet is not large enough",
        _CAPACITY,
    ),
    _Rule(
        r"VcpuLimitExceeded|InstanceLimitExceeded|MaxSpotInstanceCountExceeded|vCPU (?:capacity|limit)"
        r"|exceeds the EC2 service quota|EBS volume limit was exceeded",
        _QUOTA,
    ),
    _Rule(r"throttl", _THROTTLING),
    _Rule(r"UnauthorizedOperation|AccessDenied|not authorized to perform|not authorised to perform", _ACCESS),
    _Rule(
        r"bootstrap action|BOOTSTRAP_FAILURE_(?:PRIMARY_WITH_NON_ZERO_CODE|BA_DOWNLOAD|FILE_NOT_FOUND)",
        _BOOTSTRAP,
    ),
    _Rule(
        r"BOOTSTRAP_FAILURE_INSUFFICIENT_DISK_SPACE|No space left on device",
        Diagnosis("the root volume is too small for the image and what is installed", "raise root_volume_gib", "fail"),
    ),
    _Rule(
        r"application provisioning failed",
        Diagnosis(
            "EMR could not install its applications on the image (it may break one of EMR's rules for images)",
            "read node/<instance>/provision-node in the cluster's logs; if the image is new, check or bake it again",
            ours=True,
        ),
    ),
)
_CLUSTER_CODES = {
    "VALIDATION_ERROR": _VALIDATION,
    "BOOTSTRAP_FAILURE": Diagnosis(
        "the nodes did not come up as asked (bootstrap actions, EMR's applications, the image)",
        "read the folder node/ in the cluster's logs",
        ours=True,
    ),
    "INSTANCE_FAILURE": _NODES_LOST,
    "INSTANCE_FLEET_TIMEOUT": _CAPACITY,
    "INTERNAL_ERROR": Diagnosis("a fault within EMR", "nothing, it is tried again; if it stays, ask AWS", "back_off"),
    "STEP_FAILURE": Diagnosis("a step failed", "read the step's log", ours=True),
    "USER_REQUEST": Diagnosis(
        "someone, or a tool outside of this run, ended the cluster",
        "find out who (CloudTrail: TerminateJobFlows); to go on, clear the task that makes the cluster",
        "fail",
    ),
}
_IDLE = Diagnosis(
    "the cluster was idle for longer than idle_minutes",
    "nothing, another one is made while the deadline allows; raise idle_minutes if that happens often",
)

_MEMORY = Diagnosis(
    "an executor or the driver took more memory than it has (status 137 is SIGKILL, as the kernel and YARN send it)",
    "take nodes with more memory or fewer workers, or raise spark.executor.memoryOverhead",
    ours=True,
)
_STEP_WORDS = (
    _Rule(
        r"barrier.{0,120}dynamic (?:resource )?allocation|dynamic ?allocation.{0,120}barrier",
        Diagnosis(
            "training runs in a barrier stage, which Spark refuses while dynamic allocation is on",
            "set spark.dynamicAllocation.enabled=false, as the cluster's own configuration does",
            "fail",
        ),
    ),
    _Rule(
        r"No space left on device|Disk quota exceeded",
        Diagnosis("a disk of a node is full", "raise root_volume_gib or take nodes with larger disks", ours=True),
    ),
    _Rule(
        r"killed by YARN for exceeding (?:physical |virtual )?memory|beyond the '?(?:PHYSICAL|VIRTUAL)'? memory limit"
        r"|OutOfMemoryError|Cannot allocate memory|MemoryError\b|exit(?: code| status)?[: ]*137\b|oom-kill",
        _MEMORY,
    ),
    _Rule(
        r"AccessDenied|Access Denied|\b403 Forbidden|not authorized to perform|PermissionDeniedError",
        Diagnosis(
            "the role of the nodes may not do what the job does",
            "give the role of instance_profile the permission that the last lines name",
            "fail",
        ),
    ),
    _Rule(
        r"FileNotFoundException.{0,40}s3[an]?://|No such file or directory:? .{0,10}s3[an]?://|NoSuchBucket|NoSuchKey",
        Diagnosis(
            "an object that the job reads is not there (removed, or never written by the stage before)",
            "look for it in the lake; clear the task that writes it",
            "fail",
        ),
    ),
    _Rule(
        r"SlowDown|Throttling|TooManyRequests|\b503 (?:Slow Down|Service Unavailable)",
        Diagnosis("S3 or another service of AWS was asked too often", "nothing, it is tried again", "back_off"),
    ),
    _Rule(
        r"ExecutorLostFailure|Lost executor|Container .{0,60}(?:preempted|lost node)|Container released on a \*lost\*"
        r"|executor .{0,20}exited|Slave lost|Worker lost|barrier .{0,80}(?:killed|lost)",
        Diagnosis(
            "an executor was lost (its node, or its process)",
            "nothing, it is tried again; if it stays so, read the executor's last lines: most often it is memory",
        ),
    ),
    _Rule(
        r"ModuleNotFoundError|ImportError",
        Diagnosis(
            "the image lacks a package, or has another version than the code",
            "bake the image again from requirements-cluster.txt",
            "fail",
        ),
    ),
)
_EXIT_STATUSES = {
    124: Diagnosis(
        "the deadline: the step was still at work when its time was up",
        "raise max_hours, or give it more nodes",
        "fail",
    ),
    126: Diagnosis("what the step runs cannot be executed", "read the step's stderr", "fail"),
    127: Diagnosis("what the step runs is not on the node", "check the image and the release", "fail"),
    137: _MEMORY,
    143: Diagnosis(
        "the step's process was asked to end (SIGTERM): its node was going away, or someone ended it",
        "nothing, it is tried again",
    ),
}
_JOB = Diagnosis("", "read the last lines below and the step's log; mend the cause and clear the task", ours=True)
_EXIT = re.compile(r"exit(?:ed with)? ?(?:code|status)?[ :=]*(\d{1,3})\b", re.IGNORECASE)

_CALL_CODES = {
    **dict.fromkeys(THROTTLED, _THROTTLING),
    **dict.fromkeys(
        ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnrecognizedClientException"), _ACCESS
    ),
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure"),
        Diagnosis(
            "the credentials of the connection aws_default are wrong or expired",
            "renew them, and look at the clock of this machine",
            "fail",
        ),
    ),
    **dict.fromkeys(("ValidationException", "ValidationError", "InvalidRequestException"), _VALIDATION),
    **dict.fromkeys(("VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded"), _QUOTA),
    "InsufficientInstanceCapacity": _CAPACITY,
}
_AWS_FAULT = Diagnosis("a fault within AWS, or on the way to it", "nothing, it is tried again", "back_off")


def of_cluster(code: str, message: str, error_codes: Sequence[str] = ()) -> Diagnosis:
    """Say why a cluster ended.

    Args:
        code: of the state-change reason, e.g. ``INTERNAL_ERROR``.
        message: of the same.
        error_codes: of the cluster's ErrorDetails, which are finer and made for programs.
    """
    if code == "USER_REQUEST":
        return _IDLE if re.search(r"\bidle\b|auto-?terminat", message, re.IGNORECASE) else _CLUSTER_CODES[code]
    for text in (*error_codes, message):
        if found := _first(_CLUSTER_WORDS, text):
            return found
    return _CLUSTER_CODES.get(code, Diagnosis("", "look at the cluster in the console of EMR"))


def of_step(reason: str, output: str) -> Diagnosis:
    """Say why a step failed.

    Args:
        reason: what EMR says of it, which holds the exit status where there is one.
        output: the last lines of executors and driver.
    """
    status = exit_status(reason)
    if status == 124:
        return _EXIT_STATUSES[124]
    if found := _first(_STEP_WORDS, f"{reason}\n{output}"):
        return found
    return _EXIT_STATUSES.get(status, _JOB) if status is not None else _JOB


def of_call(code: str, message: str) -> Diagnosis:
    """Say why AWS did not do what it was asked, by the error's code and message."""
    return _CALL_CODES.get(code) or _first(_CLUSTER_WORDS, message) or _AWS_FAULT


def exit_status(text: str) -> int | None:
    """Find the exit status in what EMR or Spark say of a process; None where there is none."""
    found = _EXIT.findall(text)
    return int(found[-1]) if found else None


def explain(what: str, diagnosis: Diagnosis, last_lines: str = "") -> str:
    """Write the message of a failed task: what happened, the likely cause, what to do, then the last lines."""
    lines = [what]
    if diagnosis.cause:
        lines.append(f"Most likely: {diagnosis.cause}.")
    lines.append(f"What to do: {diagnosis.advice}.")
    if last_lines:
        lines.append(last_lines)
    return "\n".join(lines)


def _first(rules: Sequence[_Rule], text: str) -> Diagnosis | None:
    return next((rule.means for rule in rules if re.search(rule.text, text, re.IGNORECASE | re.DOTALL)), None)
