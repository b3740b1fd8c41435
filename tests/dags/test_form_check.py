"""A wrong form is refused where it is filled in: by the API server, before there is a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dags.form_lab import forms
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict

from shardmill_airflow.form_check import LARGEST_BODY, FormCheck, spec_of

PROJECT = Path(__file__).resolve().parents[2]
URL = "/api/v2/dags/video_pipeline/dagRuns"
LOGIN = {"name": "ann"}


class Body(BaseModel):
    """What Airflow takes, as far as it matters here."""

    model_config = ConfigDict(extra="forbid")
    logical_date: str | None = None
    conf: dict[str, Any] | None = None


def login(name: str = Header("")) -> None:
    if name != "ann":
        raise HTTPException(401, "who are you?")


@pytest.fixture
def api():
    """An API that triggers what comes through, for those who are logged in."""
    app = FastAPI()
    triggered: list[Any] = []

    @app.post("/api/v2/dags/{dag_id}/dagRuns", dependencies=[Depends(login)])
    def trigger(dag_id: str, body: Body) -> dict[str, Any]:
        triggered.append((dag_id, body.conf))
        return {"dag_id": dag_id}

    @app.post("/api/v2/dags/{dag_id}/other")
    def other(dag_id: str, body: dict[str, Any]) -> dict[str, Any]:
        return body

    app.add_middleware(FormCheck)
    client = TestClient(app)
    client.triggered = triggered
    return client


def test_a_right_form_goes_through_unchanged(api):
    conf = {"clip_seconds": 4, "labels": None, "owner": "ann"}
    answer = api.post(URL, json={"logical_date": None, "conf": conf}, headers=LOGIN)
    assert (answer.status_code, api.triggered) == (200, [("video_pipeline", conf)])


def test_a_wrong_form_is_answered_with_every_mistake_and_makes_no_run(api):
    conf = {"clip_seconds": 0, "core_type": "$(id)", "epoch": 3}
    answer = api.post(URL, json={"logical_date": None, "conf": conf}, headers=LOGIN)
    assert (answer.status_code, api.triggered) == (400, [])
    told = answer.json()["detail"]
    assert "3 fields to be mended, and nothing was started:" in told
    assert "clip_seconds: expected a number above 0" in told
    assert "core_type: expected text such as m5.xlarge" in told
    assert "unknown field epoch: did you mean epochs?" in told


def test_who_may_not_trigger_learns_nothing_of_the_form(api):
    answer = api.post(URL, json={"conf": {"clip_seconds": 0}})
    assert (answer.status_code, answer.json()) == (401, {"detail": "who are you?"})


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"conf": 1}', b'{"conf": [1]}', b"[" * 100_000, b"\xff"])
def test_what_is_no_request_is_left_to_airflow(api, body):
    answer = api.post(URL, content=body, headers={**LOGIN, "Content-Type": "application/json"})
    assert answer.status_code in (400, 422) and "mended" not in answer.text
    assert api.triggered == []


def test_other_dags_and_other_calls_are_not_looked_at(api):
    assert api.post("/api/v2/dags/yours/dagRuns", json={"conf": {"x": 1}}, headers=LOGIN).status_code == 200
    assert api.post("/api/v2/dags/video_pipeline/other", json={"conf": {"x": 1}}).json() == {"conf": {"x": 1}}


def test_a_request_that_is_too_large_to_be_looked_at_is_left_to_airflow_whole(api):
    conf = {"owner": "x" * (LARGEST_BODY * 3)}
    assert api.post(URL, json={"conf": conf}, headers=LOGIN).status_code == 200
    assert api.triggered == [("video_pipeline", conf)]


def test_every_form_is_known_by_its_dag(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    from airflow.dag_processing.dagbag import DagBag

    for dag_id, spec in forms(DagBag(str(PROJECT / "dags")).dags).items():
        found = spec_of(dag_id)
        assert found and list(found.model_fields) == list(spec.model_fields), dag_id
    assert spec_of("value") is None and spec_of("os") is None and spec_of("") is None
