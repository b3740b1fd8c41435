from __future__ import annotations

import pytest

from shardmill.core.failures import Diagnosis, exit_status, explain, of_call, of_cluster, of_step


@pytest.mark.parametrize(
    ("code", "message", "error_codes", "cause", "policy"),
    [
        ("INTERNAL_ERROR", "EC2 is out of capacity for g4dn.xlarge", (), "no free nodes", "back_off"),
        (
            "INSTANCE_FAILURE",
            "Instance group CORE: We currently do not have sufficient g5.xlarge capacity in the Availability Zone "
            "you requested (us-east-1b).",
            (),
            "no free nodes",
            "back_off",
        ),
        ("INTERNAL_ERROR", "see ErrorDetails", ("INTERNAL_ERROR_EC2_INSUFFICIENT_CAPACITY_AZ",), "no free", "back_off"),
        ("INSTANCE_FLEET_TIMEOUT", "time-out", (), "no free nodes", "back_off"),
        ("INTERNAL_ERROR", "Spot", ("INTERNAL_ERROR_SPOT_NO_CAPACITY_PRIMARY",), "spot nodes", "back_off"),
        (
            "VALIDATION_ERROR",
            "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket "
            "that the specified instance type belongs to. (VcpuLimitExceeded)",
            (),
            "quota",
            "back_off",
        ),
        ("INTERNAL_ERROR", "Request exceeds the EC2 service quota for that type.", (), "quota", "back_off"),
        ("INTERNAL_ERROR", "Throttled from Amazon EC2 while launching cluster", (), "too often", "back_off"),
        (
            "BOOTSTRAP_FAILURE",
            "On the master instance (i-0), bootstrap action 1 returned a non-zero return code",
            (),
            "bootstrap action",
            "fail",
        ),
        ("BOOTSTRAP_FAILURE", "Master - application provisioning failed", (), "install its applications", "retry"),
        ("BOOTSTRAP_FAILURE", "", ("BOOTSTRAP_FAILURE_INSUFFICIENT_DISK_SPACE_WORKER",), "root volume", "fail"),
        ("INSTANCE_FAILURE", "All slaves in the job flow were terminated due to Spot", (), "nodes", "retry"),
        ("VALIDATION_ERROR", "The instance type m9.large is not supported", (), "request for wrong", "fail"),
        ("USER_REQUEST", "Terminated by user request", (), "someone", "fail"),
        ("USER_REQUEST", "Auto-terminated: the cluster was idle for 900 seconds", (), "idle", "retry"),
        ("INTERNAL_ERROR", "An internal error occurred.", (), "within EMR", "back_off"),
        ("SOMETHING_NEW", "?", (), "", "retry"),
    ],
)
def test_the_end_of_a_cluster_is_translated(code, message, error_codes, cause, policy):
    found = of_cluster(code, message, error_codes)
    assert cause in found.cause
    assert found.policy == policy
    assert found.advice


@pytest.mark.parametrize(
    ("reason", "output", "cause", "policy"),
    [
        ("Unknown Error. Exit status 137.", "", "more memory", "retry"),
        ("Unknown Error. Exit status 143.", "", "SIGTERM", "retry"),
        ("Unknown Error. Exit status 124.", "java.lang.OutOfMemoryError: Java heap space", "deadline", "fail"),
        (
            "",
            "ExecutorLostFailure (executor 2 exited caused by one of the running tasks) Reason: Container killed by "
            "YARN for exceeding memory limits. 10.4 GB of 10.4 GB physical memory used.",
            "more memory",
            "retry",
        ),
        (
            "",
            "Container [pid=7,containerID=container_1] is running 1B beyond the 'PHYSICAL' memory limit.",
            "memory",
            "retry",
        ),
        ("", "ExecutorLostFailure (executor 1 exited unrelated to the running tasks)", "executor was lost", "retry"),
        ("", "java.io.IOException: No space left on device", "disk", "retry"),
        ("", "java.io.FileNotFoundException: No such file or directory 's3://l/features/x.tfrecord'", "object", "fail"),
        (
            "",
            "SparkException: Barrier execution mode does not support dynamic resource allocation for now. You can "
            "disable dynamic resource allocation by setting conf spark.dynamicAllocation.enabled to false.",
            "barrier stage",
            "fail",
        ),
        ("", "AmazonS3Exception: Access Denied (Service: Amazon S3; Status Code: 403)", "role of the nodes", "fail"),
        ("", "AmazonS3Exception: Please reduce your request rate. (SlowDown)", "too often", "back_off"),
        ("", "ModuleNotFoundError: No module named 'keras'", "image lacks", "fail"),
        ("Unknown Error. Exit status 1.", "ValueError: shapes (3,) and (4,) do not match", "", "retry"),
    ],
)
def test_the_failure_of_a_step_is_translated(reason, output, cause, policy):
    found = of_step(reason, output)
    assert cause in found.cause
    assert found.policy == policy


def test_what_the_job_itself_did_is_marked_so_and_a_lost_executor_is_not():
    assert of_step("Unknown Error. Exit status 1.", "ValueError: bad").ours
    assert of_step("Unknown Error. Exit status 137.", "").ours
    assert not of_step("", "Lost executor 3 on ip-10-0-0-1: Container released on a *lost* node").ours
    assert not of_step("Exit status 143", "").ours


@pytest.mark.parametrize(
    ("code", "message", "policy"),
    [
        ("ThrottlingException", "Rate exceeded", "back_off"),
        ("RequestLimitExceeded", "", "back_off"),
        ("AccessDeniedException", "User x is not authorized to perform: elasticmapreduce:RunJobFlow", "fail"),
        ("ValidationException", "The subnet does not exist", "fail"),
        ("ExpiredTokenException", "The security token included in the request is expired", "fail"),
        ("VcpuLimitExceeded", "", "back_off"),
        ("InsufficientInstanceCapacity", "", "back_off"),
        ("InternalServerException", "", "back_off"),
    ],
)
def test_a_call_that_aws_did_not_do_is_translated(code, message, policy):
    assert of_call(code, message).policy == policy


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Unknown Error. Exit status 137.", 137),
        ("Container exited with a non-zero exit code 143. ", 143),
        ("ExitCode: 52", 52),
        ("nothing of it", None),
    ],
)
def test_an_exit_status_is_found_in_words(text, status):
    assert exit_status(text) == status


def test_a_message_says_what_why_what_to_do_and_then_the_last_lines():
    told = explain("step s-1 is FAILED", Diagnosis("the disk is full", "take a larger one"), "OSError: 28")
    assert told.splitlines() == [
        "step s-1 is FAILED",
        "Most likely: the disk is full.",
        "What to do: take a larger one.",
        "OSError: 28",
    ]
    assert "Most likely" not in explain("x", Diagnosis("", "look"))
