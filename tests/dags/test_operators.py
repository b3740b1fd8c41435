from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError


@pytest.fixture(autouse=True)
def airflow_home(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))


def at(endpoint, region="eu-west-1"):
    return SimpleNamespace(meta=SimpleNamespace(endpoint_url=endpoint, region_name=region))


def test_on_aws_the_links_lead_to_the_console():
    from shardmill_airflow.links import HistoryLink, console_url, logs_url, place_of

    emr = at("https://elasticmapreduce.eu-west-1.amazonaws.com")
    place = place_of(emr, "j-1", "s3://bucket/runs/r 1/logs/")
    cluster = "https://eu-west-1.console.aws.amazon.com/emr/home?region=eu-west-1#/clusterDetails/j-1"
    assert console_url(place) == HistoryLink().url(place) == cluster
    assert logs_url(place) == (
        "https://eu-west-1.console.aws.amazon.com/s3/buckets/bucket?region=eu-west-1&prefix=runs/r%201/logs/j-1/"
    )
    assert logs_url(place | {"log_uri": ""}) == ""


@pytest.mark.parametrize(
    ("endpoint", "region", "host"),
    [
        ("https://cn-north-1.elasticmapreduce.amazonaws.com.cn", "cn-north-1", "cn-north-1.console.amazonaws.cn"),
        (
            "https://elasticmapreduce.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
            "us-gov-west-1.console.amazonaws-us-gov.com",
        ),
    ],
)
def test_other_parts_of_aws_have_consoles_of_their_own(endpoint, region, host):
    from shardmill_airflow.links import console_url, place_of

    assert console_url(place_of(at(endpoint, region), "j-1", "")).startswith(f"https://{host}/emr/")


def test_another_endpoint_has_no_console_but_lists_its_logs_and_a_history_of_ones_own():
    from shardmill_airflow.links import HistoryLink, console_url, logs_url, place_of

    place = place_of(at("http://127.0.0.1:5600"), "j-1", "s3://lake/runs/r/logs", "http://127.0.0.1:18080")
    assert console_url(place) == ""
    assert logs_url(place) == "http://127.0.0.1:5600/lake?prefix=runs/r/logs/j-1/"
    assert logs_url(place | {"log_uri": "s3://lake"}) == "http://127.0.0.1:5600/lake?prefix=j-1/"
    assert HistoryLink().url(place) == "http://127.0.0.1:18080"


@pytest.mark.parametrize(
    ("uri", "endpoint", "region", "url"),
    [
        ("s3://lake/runs/r/", "http://127.0.0.1:5600/", "us-east-1", "http://127.0.0.1:5600/lake?prefix=runs/r/"),
        ("s3://lake/runs/r/report.html", "http://127.0.0.1:5600", "", "http://127.0.0.1:5600/lake/runs/r/report.html"),
        (
            "s3://lake/a b/",
            "",
            "eu-west-1",
            "https://eu-west-1.console.aws.amazon.com/s3/buckets/lake?region=eu-west-1&prefix=a%20b/",
        ),
        (
            "s3://lake/x/report.html",
            "",
            "cn-north-1",
            "https://cn-north-1.console.amazonaws.cn/s3/object/lake?region=cn-north-1&prefix=x/report.html",
        ),
        ("s3://lake/x/", "", "", ""),
        ("file:///lake/x/", "http://127.0.0.1:5600", "us-east-1", ""),
        ("gs://lake/x/", "", "us-east-1", ""),
    ],
)
def test_a_link_into_the_lake_opens_the_store_or_the_console(uri, endpoint, region, url):
    from shardmill_airflow.links import lake_url

    assert lake_url(uri, endpoint, region) == url


@pytest.mark.parametrize(
    ("shards", "name"),
    [([3], "000003"), ([0, 1, 2], "000000..000002"), ([0, 5, 9], "000000..000009 (3)"), ([], "none")],
)
def test_a_batch_is_named_by_its_shards(shards, name):
    from shardmill_airflow.linked import name_of

    assert name_of(shards) == name


def test_the_links_are_read_from_what_the_task_recorded(monkeypatch):
    from airflow.sdk.execution_time import xcom

    from shardmill_airflow.links import PLACE, ConsoleLink, place_of

    kept = {PLACE: place_of(at("https://elasticmapreduce.eu-west-1.amazonaws.com"), "j-1", "")}
    monkeypatch.setattr(xcom.XCom, "get_value", lambda *, ti_key, key: kept.get(key))
    assert "j-1" in ConsoleLink().get_link(None, ti_key=None)
    kept.clear()
    assert ConsoleLink().get_link(None, ti_key=None) == ""


def test_the_ui_knows_the_links_of_each_operator_without_any_plugin():
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from shardmill_airflow.operators import CreateCluster, RunJob

    with DAG("d") as dag:
        CreateCluster(task_id="create", spec_uri="s3://l/runs/r/spec.json")
        RunJob(task_id="train", spec_uri="s3://l/runs/r/spec.json", job="train", result="x")
    tasks = DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_dict
    assert set(tasks["create"].extra_links) == {"EMR cluster", "Cluster logs"}
    assert set(tasks["train"].extra_links) == {"EMR cluster", "Cluster logs", "Spark history"}
    assert tasks["train"].has_retry_policy


def decide(error, attempt=1, retries=6, cleared_after=0):
    from shardmill_airflow.outcomes import Patience

    context = {"ti": SimpleNamespace(task=SimpleNamespace(retries=retries))}
    return Patience().evaluate(error, attempt + cleared_after, retries + cleared_after, context)


def failed(policy, ours=False):
    from shardmill.adapters.emr import EmrError
    from shardmill.core.failures import Diagnosis

    return EmrError("x", Diagnosis("the cause", "do it", policy, ours=ours))


def test_what_may_change_by_itself_is_tried_later_and_later():
    delays = [decide(failed("back_off"), attempt).retry_delay for attempt in range(1, 9)]
    assert delays[:3] == [timedelta(seconds=30), timedelta(seconds=60), timedelta(seconds=120)]
    assert delays[-1] == timedelta(minutes=15)


def test_what_the_job_did_is_tried_once_more_only_and_again_when_a_person_clears_it():
    from airflow.sdk import RetryAction

    assert decide(failed("retry", ours=True), 1).action == RetryAction.RETRY
    assert decide(failed("retry", ours=True), 2).action == RetryAction.FAIL
    assert decide(failed("retry", ours=True), 1, cleared_after=2).action == RetryAction.RETRY
    assert decide(failed("retry"), 5).action == RetryAction.RETRY


def test_errors_that_nobody_translated_are_tried_as_the_task_says():
    from airflow.sdk import RetryAction

    assert decide(OSError("no network")).action == RetryAction.DEFAULT


@pytest.mark.parametrize(
    ("code", "for_good"), [("AccessDeniedException", True), ("ThrottlingException", False), ("InternalError", False)]
)
def test_what_aws_answers_is_told_as_cause_and_remedy(code, for_good):
    from airflow.sdk.exceptions import AirflowFailException

    from shardmill.adapters.emr import EmrError
    from shardmill_airflow.outcomes import failing_for_good

    error = ClientError({"Error": {"Code": code, "Message": "no"}}, "ListClusters")
    kind = AirflowFailException if for_good else EmrError
    with pytest.raises(kind, match=r"(?s)Most likely: .*What to do: "), failing_for_good():
        raise error


def test_the_report_gets_both_ends_of_a_long_message():
    from shardmill_airflow.outcomes import FAILURE, remember_failure

    kept = {}
    ti = SimpleNamespace(xcom_push=kept.__setitem__)
    remember_failure({"ti": ti, "exception": ValueError("the cause " + "x" * 9000 + " the last line")})
    assert kept[FAILURE].startswith("the cause")
    assert kept[FAILURE].endswith("the last line")
    assert len(kept[FAILURE]) < 4100
