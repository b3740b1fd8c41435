"""A wrong form is refused where it is filled in: by the API server, before there is a run."""

from __future__ import annotations

import json
import logging
import pkgutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dags.form_lab import forms
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict

import shardmill.specs
from shardmill_airflow import form_check
from shardmill_airflow.form_check import FORMS, LARGEST_BODY, FormCheck, spec_of

PROJECT = Path(__file__).resolve().parents[2]
URL = "/api/v2/dags/video_pipeline/dagRuns"
BACKFILLS = "/api/v2/backfills"
LOGIN = {"name": "ann"}


class Body(BaseModel):
    """What Airflow takes, as far as it matters here."""

    model_config = ConfigDict(extra="forbid")
    logical_date: str | None = None
    conf: dict[str, Any] | None = None
    partition_key: str | None = None


class Dates(BaseModel):
    """The same of a backfill by date."""

    model_config = ConfigDict(extra="forbid")
    dag_id: str
    from_date: str
    to_date: str
    dag_run_conf: dict[str, Any] | None = None


def login(name: str = Header("")) -> None:
    if name == "bob":
        raise HTTPException(403, "you may only look")
    if name != "ann":
        raise HTTPException(401, "who are you?")


def may_read(name: str = Header("")) -> None:
    if name not in ("ann", "bob"):
        raise HTTPException(401, "who are you?")


@pytest.fixture
def api():
    """An API that triggers what comes through, for those who are logged in."""
    app = FastAPI()
    triggered: list[Any] = []

    @app.get("/api/v2/dags/{dag_id}", dependencies=[Depends(may_read)])
    def read(dag_id: str) -> dict[str, Any]:
        return {"dag_id": dag_id}

    @app.post("/api/v2/dags/{dag_id}/dagRuns", dependencies=[Depends(login)])
    def trigger(dag_id: str, body: Body) -> dict[str, Any]:
        triggered.append((dag_id, body.conf))
        return {"dag_id": dag_id}

    @app.post("/api/v2/backfills", dependencies=[Depends(login)])
    def backfill(body: Dates) -> dict[str, Any]:
        triggered.append((body.dag_id, body.dag_run_conf))
        return {"dag_id": body.dag_id}

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


def dates(**conf: Any) -> dict[str, Any]:
    """What the UI sends to backfill dates."""
    days = {"from_date": "2026-01-02T00:00:00.000Z", "to_date": "2026-01-05T00:00:00.000Z"}
    return {"dag_id": "backfill_shards", **days, "dag_run_conf": conf}


def test_a_right_backfill_by_date_goes_through_and_a_wrong_one_is_told_its_mistakes(api):
    right = dates(first_date="2026-01-01", preview=False)
    assert api.post(BACKFILLS, json=right, headers=LOGIN).status_code == 200
    assert api.triggered == [("backfill_shards", right["dag_run_conf"])]
    answer = api.post(BACKFILLS, json=dates(shards_per_date=0, preveiw=False), headers=LOGIN)
    assert (answer.status_code, len(api.triggered)) == (400, 1)
    told = answer.json()["detail"]
    assert "shards_per_date: expected a whole number" in told and "unknown field preveiw: did you mean preview?" in told
    told = api.post(BACKFILLS, json=dates(), headers=LOGIN).json()["detail"]
    assert "first_date: expected the date that shard 000000 falls on, for only the shards of 2026-01-02 are" in told


@pytest.fixture
def late_in_november(monkeypatch):
    """A day on which it is half past eleven in UTC, and the day after already further east."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 11, 22, 23, 30, tzinfo=UTC).astimezone(tz)

    monkeypatch.setattr(form_check, "datetime", Clock)


def test_a_backfill_of_dates_that_are_to_come_is_refused_for_it_would_wait_for_them(api, late_in_november):
    asked = dates(first_date="2026-01-01")
    today = {**asked, "to_date": "2026-11-22T00:00:00Z"}
    assert api.post(BACKFILLS, json=today, headers=LOGIN).status_code == 200
    for to_come in ("2026-11-23T00:00:00Z", "2026-11-23", "2026-11-23T01:00:00+01:00"):
        answer = api.post(BACKFILLS, json={**asked, "to_date": to_come}, headers=LOGIN)
        assert (answer.status_code, len(api.triggered)) == (400, 1)
        told = answer.json()["detail"]
        assert "to_date: 2026-11-23 is after today, 2026-11-22 in UTC" in told
        assert "choose first_date so that all dates are past" in told


def test_a_backfill_from_midnight_elsewhere_is_refused_for_it_would_be_of_other_dates(api, late_in_november):
    asked = dates(first_date="2026-01-01")
    for elsewhere in ("2026-01-01T23:00:00.000Z", "2026-01-02T00:00:00+01:00", "2026-01-01T23:00:00"):
        answer = api.post(BACKFILLS, json={**asked, "from_date": elsewhere}, headers=LOGIN)
        assert (answer.status_code, api.triggered) == (400, [])
        told = answer.json()["detail"]
        assert "1 field to be mended" in told
        assert "from_date: expected midnight in UTC, found 2026-01-01T23:00:00 UTC: set the UI's clock to UTC" in told


def test_a_date_in_the_form_of_a_backfill_by_date_is_refused_and_an_empty_one_is_none(api):
    for empty in ("", None):
        right = dates(first_date="2026-01-01", date=empty)
        assert api.post(BACKFILLS, json=right, headers=LOGIN).status_code == 200
    for day in ("2026-01-02", "x"):
        answer = api.post(BACKFILLS, json=dates(first_date="2026-01-01", date=day, shards_per_date=0), headers=LOGIN)
        assert (answer.status_code, len(api.triggered)) == (400, 2)
        told = answer.json()["detail"]
        assert "2 fields to be mended" in told and "shards_per_date: expected a whole number" in told
        assert "date: a backfill by date fills it in for each of its runs: leave it out" in told


def test_the_partition_key_of_a_run_by_hand_is_looked_at_as_its_date(api):
    url = "/api/v2/dags/backfill_shards/dagRuns"

    def told(key, **conf):
        answer = api.post(url, json={"partition_key": key, "conf": conf}, headers=LOGIN)
        return "" if answer.status_code == 200 else answer.json()["detail"]

    first = {"first_date": "2026-01-01"}
    assert not told("2026-01-03", **first) and not told("2026-01-03", **first, date="2026-01-03") and not told(None)
    assert len(api.triggered) == 3
    assert "first_date: expected the date that shard 000000 falls on" in told("2026-01-03")
    assert "date: expected a date such as 2026-01-31, found '3 January'" in told("3 January", **first)
    assert "date: the partition key asks for '2026-01-03': leave it out" in told(
        "2026-01-03", **first, date="2026-01-04"
    )
    assert len(api.triggered) == 3


def test_a_backfill_of_others_and_one_that_is_none_are_left_to_airflow(api):
    theirs = {**dates(theirs=1), "dag_id": "theirs"}
    assert api.post(BACKFILLS, json=theirs, headers=LOGIN).status_code == 200
    assert api.triggered == [("theirs", {"theirs": 1})]
    for body in (b"", b"[]", b"{", b'{"dag_id": "backfill_shards"}', b'{"dag_id": "backfill_shards", "from_date": 1}'):
        answer = api.post(BACKFILLS, content=body, headers={**LOGIN, "Content-Type": "application/json"})
        assert answer.status_code in (400, 422), body
    for odd in ("0001-01-01T00:00:00+05:00", "soon"):
        asked = {**dates(), "from_date": odd}
        assert api.post(BACKFILLS, json=asked, headers=LOGIN).status_code == 200, "this API takes any text"


def test_who_may_not_backfill_learns_nothing_of_the_form(api):
    for name, status in (("", 401), ("bob", 403)):
        answer = api.post(BACKFILLS, json=dates(shards_per_date=0), headers={"name": name})
        assert (answer.status_code, "shards_per_date" in answer.text) == (status, False)


def test_who_may_not_trigger_learns_nothing_of_the_form(api):
    answer = api.post(URL, json={"conf": {"clip_seconds": 0}})
    assert (answer.status_code, answer.json()) == (401, {"detail": "who are you?"})


def test_who_may_see_a_dag_but_not_trigger_it_learns_nothing_of_the_form(api):
    answer = api.post(URL, json={"conf": {"clip_seconds": 0}}, headers={"name": "bob"})
    assert (answer.status_code, answer.json()) == (403, {"detail": "you may only look"})


@pytest.mark.parametrize("where", [URL, URL + "/", "/proxied" + URL, BACKFILLS])
def test_without_a_login_a_hostile_body_is_neither_received_nor_looked_at(api, monkeypatch, where):
    looked: list[str] = []
    sent: list[int] = []
    monkeypatch.setattr(form_check, "what_is_wrong", lambda *asked: looked.append("") or "")
    monkeypatch.setattr(form_check, "spec_of", lambda *asked: looked.append("") or None)
    read = form_check._read

    async def counted(receive):
        sent.append(1)
        return await read(receive)

    monkeypatch.setattr(form_check, "_read", counted)
    hostile = json.dumps({"conf": {"shards": "0..999999," * 5000 + "0"}})
    answer = api.post(where, content=hostile, headers={"Content-Type": "application/json"})
    assert answer.status_code in (401, 404)
    assert (looked, sent, api.triggered) == ([], [], [])


def test_a_form_is_looked_at_beside_the_event_loop(api, monkeypatch):
    import asyncio

    def beside(dag_id, body):
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return f"looked at {dag_id}"

    monkeypatch.setattr(form_check, "what_is_wrong", beside)
    answer = api.post(URL, json={"conf": {}}, headers=LOGIN)
    assert (answer.status_code, answer.json()) == (400, {"detail": "looked at video_pipeline"})


def test_what_is_logged_of_a_wrong_form_is_one_short_line(api, caplog):
    conf = {f"x\n2026 ERROR root: all is lost\x1b[2J{n}": 1 for n in range(500)}
    with caplog.at_level(logging.INFO, logger=form_check.__name__):
        answer = api.post(URL, json={"conf": conf}, headers=LOGIN)
    (line,) = [record.getMessage() for record in caplog.records if record.name == form_check.__name__]
    assert line.startswith("refused to trigger video_pipeline: ")
    assert line.isprintable() and line.isascii() and len(line) < 2500
    told = answer.json()["detail"]
    assert "500 fields to be mended" in told and "480 more unknown fields: not named here" in told
    assert told.count("\n") == 21 and "\x1b" not in told and len(told) < 20_000


@pytest.mark.parametrize("module", [one.name for one in pkgutil.iter_modules(shardmill.specs.__path__)])
def test_a_dag_of_others_is_triggered_though_it_is_named_as_one_of_our_modules(api, module):
    if module not in FORMS:
        answer = api.post(f"/api/v2/dags/{module}/dagRuns", json={"conf": {"theirs": 1}}, headers=LOGIN)
        assert (answer.status_code, api.triggered) == (200, [(module, {"theirs": 1})])


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

    found_forms = forms(DagBag(str(PROJECT / "dags")).dags)
    assert set(found_forms) == set(FORMS)
    for dag_id, spec in found_forms.items():
        found = spec_of(dag_id)
        assert found and list(found.model_fields) == list(spec.model_fields), dag_id
    assert spec_of("value") is None and spec_of("os") is None and spec_of("") is None
