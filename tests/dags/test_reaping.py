"""What Airflow tells of the runs that clusters work for, and the reaper's task as a whole."""

from __future__ import annotations

from types import SimpleNamespace

import boto3
import pytest
from moto import mock_aws

from shardmill.adapters.access import Access
from shardmill.adapters.roots import Roots
from shardmill.core.planning import BadRequestError
from shardmill.jobs.plan import run_name
from shardmill.specs.reaping import ReapSpec
from shardmill_airflow import reaping

MANUAL = "manual__2026-11-21T17:31:45.123456+00:00"


def test_every_field_of_the_form_has_help_and_a_section_and_a_default_that_is_valid():
    from airflow.sdk.definitions.param import ParamsDict

    from shardmill_airflow.forms import form_of, read_form

    form = ParamsDict(form_of(ReapSpec))
    for name in form:
        assert form.get_param(name).description, name
        assert form.get_param(name).schema.get("section"), name
    assert read_form(ReapSpec, form.validate(), {}) == ReapSpec()


class Ti:
    """A task instance that answers for the DAG runs of one Airflow."""

    def __init__(self, runs: dict[tuple[str, str], str]) -> None:
        self.runs, self.pushed = runs, {}

    def get_dr_count(self, dag_id, run_ids, states=None):
        found = [self.runs[dag_id, run_id] for run_id in run_ids if (dag_id, run_id) in self.runs]
        return len([state for state in found if states is None or state in states])

    def xcom_push(self, key, value):
        self.pushed[key] = value


@pytest.fixture
def airflow(monkeypatch):
    def knows(**states: str) -> Ti:
        ti = Ti({("video_pipeline", run_id): state for run_id, state in states.items()})
        monkeypatch.setattr(reaping, "get_current_context", lambda: {"ti": ti})
        monkeypatch.setattr("shardmill_airflow.outcomes.get_current_context", lambda: {"ti": ti})
        return ti

    return knows


def tags(run_id: str, /, **changed: str) -> dict[str, str]:
    return {"run": run_name(f"video_pipeline.{run_id}"), "dag": "video_pipeline", "run_id": run_id, **changed}


@pytest.mark.parametrize(
    ("state", "expected"), [("queued", "live"), ("running", "live"), ("success", "over"), ("failed", "over")]
)
def test_a_run_is_live_while_it_is_queued_or_runs(airflow, state, expected):
    airflow(**{MANUAL: state})
    assert reaping.run_state(tags(MANUAL)) == expected


def test_a_run_that_this_airflow_does_not_know_is_unknown(airflow):
    airflow(other="running")
    assert reaping.run_state(tags(MANUAL)) == "unknown"


def test_a_name_that_holds_its_run_id_needs_no_tag(airflow):
    airflow(nightly_7="failed")
    assert reaping.run_state({"run": "video_pipeline.nightly_7"}) == "over"


def test_a_name_that_does_not_tell_its_run_id_is_unknown_without_the_tag(airflow):
    airflow(**{MANUAL: "failed"})
    assert reaping.run_state({"run": run_name(f"video_pipeline.{MANUAL}")}) == "unknown"


def test_tags_that_do_not_fit_together_are_not_believed(airflow):
    airflow(**{MANUAL: "failed", "r2": "failed"})
    assert reaping.run_state(tags(MANUAL, run_id="r2")) == "unknown"
    assert reaping.run_state(tags(MANUAL, dag="other")) == "unknown"
    assert reaping.run_state({}) == "unknown"


def test_a_task_tags_its_clusters_with_what_the_reaper_asks_for(airflow):
    airflow(**{MANUAL: "running"})
    run = run_name(f"video_pipeline.{MANUAL}")
    request = {"Name": "c", "Tags": [{"Key": "run", "Value": run}, {"Key": "dag", "Value": "another"}]}
    made = reaping.with_run_tags(request, {"dag_run": SimpleNamespace(dag_id="video_pipeline", run_id=MANUAL)})
    assert made["Name"] == "c"
    assert len(made["Tags"]) == 3
    assert reaping.run_state({tag["Key"]: tag["Value"] for tag in made["Tags"]}) == "live"


def test_a_run_id_that_no_tag_can_hold_is_left_out_of_the_request():
    made = reaping.with_run_tags({}, {"dag_run": SimpleNamespace(dag_id="video_pipeline", run_id="a~b")})
    assert made["Tags"] == [{"Key": "dag", "Value": "video_pipeline"}]


@pytest.mark.parametrize(
    ("asked", "roots", "expected"),
    [
        ("", "s3:// {lake}", "{lake}"),
        ("{lake}/deeper", "{lake}", "{lake}/deeper"),
        ("", "s3://", None),
        ("", "", None),
    ],
)
def test_the_report_goes_into_the_lake_asked_for_or_the_first_of_the_installation(tmp_path, asked, roots, expected):
    lake = f"file://{tmp_path}/lake"
    reached = Access(roots=Roots(lakes=tuple(roots.format(lake=lake).split())))
    found = reaping.report_lake(ReapSpec(lake=asked.format(lake=lake)), reached)
    assert (found.uri if found else None) == (expected.format(lake=lake) if expected else None)


def test_a_report_does_not_go_where_no_lake_may_be(tmp_path):
    with pytest.raises(BadRequestError, match="lake: "):
        reaping.report_lake(ReapSpec(lake=f"file://{tmp_path}/b"), Access(roots=Roots(lakes=(f"file://{tmp_path}/a",))))


@pytest.fixture
def emr(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        found = boto3.client("emr", region_name="us-east-1")
        monkeypatch.setattr(reaping, "client", lambda service: found)
        yield found


def test_the_task_ends_what_is_over_and_leaves_what_is_live(airflow, emr, monkeypatch, tmp_path, caplog):
    ti = airflow(**{MANUAL: "failed", "r2": "running"})
    monkeypatch.setattr(reaping, "access", lambda: Access(roots=Roots(lakes=(f"file://{tmp_path}/lake",))))
    groups = [{"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1}]
    ids = {}
    for run_id in (MANUAL, "r2"):
        found = tags(run_id, shardmill="run", deadline="2999-01-01T00:00:00+00:00")
        ids[run_id] = emr.run_job_flow(
            Name=f"shardmill-{found['run']}",
            Instances={"InstanceGroups": groups, "KeepJobFlowAliveWhenNoSteps": True},
            Tags=[{"Key": key, "Value": value} for key, value in found.items()],
        )["JobFlowId"]

    def reap(**params):
        return reaping.reap.function(ReapSpec().model_dump() | params, SimpleNamespace(conf={}))

    assert reap() == {"alive": 2, "ended": []}
    with caplog.at_level("INFO"):
        assert reap(grace_minutes=0) == {"alive": 1, "ended": [ids[MANUAL]]}
    assert ti.pushed["summary"]["line"].startswith("1 cluster alive, ")
    assert f"ended: {ids[MANUAL]} of " in caplog.text
    assert (tmp_path / "lake" / "reports" / "clusters.html").exists()
    assert reap() == {"alive": 1, "ended": []}
