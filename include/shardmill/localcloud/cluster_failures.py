"""How a cluster fails, in EMR's words. The message of a reason is free text; codes and ErrorDetails are documented.

The words are those that users of EMR report: ``EC2 is out of capacity for …`` with ``INTERNAL_ERROR``
(Management Guide: emr-EC2_INSUFFICIENT_CAPACITY-error), ``bootstrap action 1 returned a non-zero return code`` with
``BOOTSTRAP_FAILURE``, ``All slaves in the job flow were terminated`` and ``All instances in the job flow are
terminated`` with ``INSTANCE_FAILURE``. Codes of ErrorDetails: Management Guide, emr-troubleshoot-error-errordetail.
"""

from __future__ import annotations

from shardmill.localcloud.emr_state import Reason

_DOCS = "https://docs.aws.amazon.com/emr/latest/ManagementGuide"
_CAPACITY = "INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ"
_NON_ZERO = "BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE"
_DOWNLOAD = "BOOTSTRAP_FAILURE_BA_DOWNLOAD_FAILED_PRIMARY"


class ClusterFailureError(RuntimeError):
    """The cluster cannot go on."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"{reason.code}: {reason.message}")
        self.reason = reason


def out_of_capacity(instance_type: str, zone: str) -> Reason:
    """EC2 has no such instances left in the zone."""
    page = f"{_DOCS}/{_CAPACITY}.html"
    return Reason(
        "INTERNAL_ERROR",
        f"EC2 is out of capacity for {instance_type} in availability zone {zone}. Learn more at {page}",
        _CAPACITY,
        (("instance-type", instance_type), ("availability-zone", zone), ("public-doc", page)),
    )


def bootstrap_failed(instance: str, number: int, status: int, last_line: str = "") -> Reason:
    """A bootstrap action, counted from 1, ended with a status other than 0. EMR itself does not give the last line."""
    page = f"{_DOCS}/{_NON_ZERO}.html"
    message = f"On the master instance ({instance}), bootstrap action {number} returned a non-zero return code"
    return Reason(
        "BOOTSTRAP_FAILURE",
        f"{message}: {last_line}" if last_line else message,
        _NON_ZERO,
        (
            ("primary-instance-id", instance),
            ("bootstrap-action", str(number)),
            ("return-code", str(status)),
            ("public-doc", page),
        ),
    )


def bootstrap_not_fetched(instance: str, number: int, path: str, why: str) -> Reason:
    """A bootstrap action's script is not where it was said to be."""
    page = f"{_DOCS}/{_DOWNLOAD}.html"
    return Reason(
        "BOOTSTRAP_FAILURE",
        f"Master instance ({instance}) failed attempting to download bootstrap action {number} file from S3: {why}",
        _DOWNLOAD,
        (
            ("primary-instance-id", instance),
            ("bootstrap-action", str(number)),
            ("bootstrap-file-path", path),
            ("public-doc", page),
        ),
    )


def core_nodes_lost() -> Reason:
    """Every core node is gone, and HDFS with them."""
    return Reason("INSTANCE_FAILURE", "All slaves in the job flow were terminated")


def all_nodes_lost() -> Reason:
    """Every node shut itself down, as a deadline timer has it do."""
    return Reason("INSTANCE_FAILURE", "All instances in the job flow are terminated")
