from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from shardmill.core.emr_request import cluster_request
from shardmill.localcloud.fault_state import FAULTS_PATH, FaultsError
from shardmill.localcloud.faults import clear_faults, list_faults, set_faults
from shardmill.specs.cluster import ClusterSpec

Serve = Callable[[], Any]
REQUEST = cluster_request(
    ClusterSpec(
        name="night",
        run="r1",
        image_id="ami-0123456789abcdef0",
        log_uri="s3://shardmill-logs/emr",
        deadline="2026-11-21T00:00:00+00:00",
    )
)


def once(served: Any) -> Any:
    """A client that sends nothing twice."""
    return boto3.client("emr", config=Config(retries={"total_max_attempts": 1}), **served.connection)


def names(served: Any) -> list[str]:
    return [cluster["Name"] for cluster in served.emr.list_clusters()["Clusters"]]


def ask(served: Any, method: str, body: str = "", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", served.server.port)
    connection.request(method, FAULTS_PATH, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_nothing_is_wrong_from_the_start(serve: Serve) -> None:
    assert list_faults(serve().server.endpoint) == []


def test_a_throttled_operation_is_refused_as_aws_does_and_the_others_answer(serve: Serve) -> None:
    served = serve()
    set_faults(served.server.endpoint, [{"kind": "throttle", "operations": ["RunJobFlow"], "seconds": 60}])
    for _ in range(2):
        with pytest.raises(ClientError) as refused:
            once(served).run_job_flow(**REQUEST)
        assert refused.value.response["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert names(served) == []
    clear_faults(served.server.endpoint)
    assert once(served).run_job_flow(**REQUEST)["JobFlowId"]


def test_a_client_that_tries_again_gets_through_a_short_throttling(serve: Serve) -> None:
    served = serve()
    set_faults(served.server.endpoint, [{"kind": "throttle", "times": 2}])
    client = boto3.client(
        "emr", config=Config(retries={"mode": "standard", "total_max_attempts": 5}), **served.connection
    )
    assert client.list_clusters()["Clusters"] == []
    (fault,) = list_faults(served.server.endpoint)
    assert (fault["struck"], fault["over"]) == (2, True)


def test_a_lost_answer_is_lost_after_the_effect(serve: Serve) -> None:
    served = serve()
    set_faults(served.server.endpoint, [{"kind": "lost_answer", "operations": ["RunJobFlow"]}])
    with pytest.raises(ConnectionClosedError):
        once(served).run_job_flow(**REQUEST)
    assert names(served) == ["night"]
    assert once(served).run_job_flow(**REQUEST)["JobFlowId"]


def test_a_client_that_sends_twice_makes_two_clusters_of_a_lost_answer(serve: Serve) -> None:
    served = serve()
    set_faults(served.server.endpoint, [{"kind": "lost_answer", "operations": ["RunJobFlow"]}])
    served.emr.run_job_flow(**REQUEST)
    assert names(served) == ["night", "night"]


def test_the_answer_to_a_refused_request_is_not_lost(serve: Serve) -> None:
    served = serve()
    set_faults(served.server.endpoint, [{"kind": "lost_answer"}])
    with pytest.raises(ClientError, match="does not exist"):
        once(served).run_job_flow(**{**REQUEST, "CustomAmiId": "ami-0badbadbadbadbad0"})
    assert list_faults(served.server.endpoint)[0]["struck"] == 0


def test_a_wrong_list_is_refused_and_changes_nothing(serve: Serve) -> None:
    served = serve()
    set_faults(served.server.endpoint, [{"kind": "capacity"}])
    with pytest.raises(FaultsError, match="does not know Nothing"):
        set_faults(served.server.endpoint, [{"kind": "throttle", "operations": ["Nothing"]}])
    assert ask(served, "PUT", "no json")[0] == 400
    assert ask(served, "POST", "[]")[0] == 405
    assert [fault["kind"] for fault in list_faults(served.server.endpoint)] == ["capacity"]


def test_a_web_page_switches_nothing_and_reads_nothing(serve: Serve) -> None:
    served = serve()
    body = json.dumps([{"kind": "capacity"}])
    assert ask(served, "PUT", body, Origin="http://127.0.0.1:8080")[0] == 403
    assert ask(served, "GET", Origin="null")[0] == 403
    assert list_faults(served.server.endpoint) == []
