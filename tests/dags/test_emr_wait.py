from __future__ import annotations

import asyncio
import time

import pytest
from botocore.exceptions import EndpointConnectionError


@pytest.fixture
def triggers(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    from shardmill_airflow import triggers

    monkeypatch.setattr(triggers, "FIRST_LOOK_SECONDS", 0.01)
    return triggers


class Emr:
    """An EMR whose cluster goes through these states, one a look; an exception is raised."""

    def __init__(self, *states):
        self.states = list(states)
        self.looks = 0

    def describe_cluster(self, ClusterId):  # noqa: N803 - boto3's name
        self.looks += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return {"Cluster": {"Status": {"State": state, "StateChangeReason": {"Code": "C", "Message": "M"}}}}


def first_event(triggers, monkeypatch, emr, **changes):
    monkeypatch.setattr(triggers, "client", lambda service: emr)
    values = {"cluster_id": "j-1", "while_in": ["STARTING"], "give_up": time.time() + 60}
    wait = triggers.EmrWait(**(values | changes))
    return asyncio.run(anext(wait.run())).payload


def test_a_cluster_that_comes_up_ends_the_wait(triggers, monkeypatch):
    emr = Emr("STARTING", "STARTING", "WAITING")
    assert first_event(triggers, monkeypatch, emr) == {"state": "WAITING", "why": "C: M"}
    assert emr.looks == 3


def test_the_first_look_comes_after_an_interval(triggers, monkeypatch):
    monkeypatch.setattr(triggers, "FIRST_LOOK_SECONDS", 0.3)
    started = time.monotonic()
    first_event(triggers, monkeypatch, Emr("WAITING"))
    assert time.monotonic() - started >= 0.3


def test_an_api_that_does_not_answer_for_a_while_is_borne(triggers, monkeypatch):
    lost = EndpointConnectionError(endpoint_url="http://127.0.0.1")
    assert first_event(triggers, monkeypatch, Emr(lost, lost, "WAITING"))["state"] == "WAITING"


def test_an_api_that_stays_silent_ends_the_wait(triggers, monkeypatch):
    monkeypatch.setattr(triggers, "BLIND_SECONDS", 0.05)
    with pytest.raises(EndpointConnectionError):
        first_event(triggers, monkeypatch, Emr(EndpointConnectionError(endpoint_url="http://127.0.0.1")))


def test_a_wait_whose_time_is_up_says_so(triggers, monkeypatch):
    found = first_event(triggers, monkeypatch, Emr("STARTING"), give_up=time.time() + 0.05)
    assert found == {"state": "TIMED_OUT", "why": "it was still STARTING"}


def test_a_wait_survives_being_stored(triggers):
    wait = triggers.EmrWait("j-1", ["PENDING"], 12.5, "s-1")
    name, values = wait.serialize()
    assert name == "shardmill_airflow.triggers.EmrWait"
    assert triggers.EmrWait(**values).serialize() == wait.serialize()
